"""Where things are on the laptop: the user's ssh config file, and our directory beside it.

On the way of every `ssh jlab+x`: strings, since pathlib costs more to import than all of this.
"""

from __future__ import annotations

import os
import sys

# What ssh adds to the directory: /login-%C, and 17 bytes more while it makes the socket.
_ADDED_BY_SSH = len("/login-") + 40 + 17
LAUNCHER_HEADER = "# Written by jlab-proxy setup: what ssh starts for `ssh jlab+...`.\n"
_MARK = ".made-by-jlab-proxy"
# What releases before the mark can have left in ~/.ssh/jlab: whole names, and beginnings.
_OUR_NAMES = ("id", "known_hosts", "lock", "seen")
_OUR_BEGINNINGS = ("login-", "job-", "open-", "way-", ".jlab-")


class Paths:
    """An ssh config file and what belongs to it; everything of ours is in `jlab/` beside it."""

    def __init__(self, config: str, *, is_default: bool) -> None:
        self.config = config
        self.is_default = is_default
        self.directory = os.path.join(os.path.dirname(config), "jlab")  # noqa: PTH118, PTH120
        self.key = f"{self.directory}/id"
        self.known_hosts = f"{self.directory}/known_hosts"
        self.launcher = f"{self.directory}/connect.py"
        self.mark = f"{self.directory}/{_MARK}"

    def is_ours(self) -> bool:
        """Return whether jlab-proxy has made the directory.

        Else it is the user's own, or not there: nothing in it is changed.
        """
        try:
            names = os.listdir(self.directory)  # noqa: PTH208
        except OSError:
            return False
        if _MARK in names or self._has_files_of_a_release():
            return True
        is_known = (name in _OUR_NAMES or name.startswith(_OUR_BEGINNINGS) for name in names)
        return self.is_default and all(is_known)

    def _has_files_of_a_release(self) -> bool:
        """Return whether there is what only a release before the mark can have left."""
        if _text(self.launcher).startswith(LAUNCHER_HEADER):
            return True
        lines = _text(self.known_hosts).splitlines()
        has_both = os.path.exists(self.key) and os.path.exists(self.known_hosts)  # noqa: PTH110
        return has_both and all(line.startswith("jlab+") for line in lines)

    def control_path(self, platform: str = sys.platform) -> str | None:
        """Return the ControlPath of shared connections; None if ssh could not make the socket."""
        longest = 107 if platform == "linux" else 103  # of a socket's path: macOS, BSD
        too_long = len(os.fsencode(self.directory)) + _ADDED_BY_SSH > longest
        if too_long or '"' in self.directory or not os.access(f"{self.directory}/", os.W_OK):
            return None
        if not self.is_ours():
            return None
        return '"' + self.directory.replace("%", "%%") + '/login-%C"'


def locate(config: str | None) -> Paths:
    """Return the paths for `config`; None stands for the file that ssh reads by itself."""
    default = f"{_home()}/.ssh/config"
    chosen = os.path.abspath(config) if config else default  # noqa: PTH100
    return Paths(chosen, is_default=chosen == default)


def _text(path: str) -> str:
    """Return the file's text; "" if it is none, or cannot be read."""
    if not os.path.isfile(path):  # noqa: PTH113
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def _home() -> str:
    """Return the home that ssh means by "~": that of the user database, whatever $HOME says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):  # Windows; a user without a name
        return os.path.expanduser("~")  # noqa: PTH111
