"""Where things are on the laptop: the user's ssh config file, and our directory beside it.

On the way of every `ssh jlab+x`: strings, since pathlib costs more to import than all of this.
"""

from __future__ import annotations

import os
import sys

# What ssh adds to the directory: /login-%C, and 17 bytes more while it makes the socket.
_ADDED_BY_SSH = len("/login-") + 40 + 17


class Paths:
    """An ssh config file and what belongs to it; everything of ours is in `jlab/` beside it."""

    def __init__(self, config: str, *, is_default: bool) -> None:
        self.config = config
        self.is_default = is_default
        self.directory = os.path.join(os.path.dirname(config), "jlab")  # noqa: PTH118, PTH120
        self.key = f"{self.directory}/id"
        self.known_hosts = f"{self.directory}/known_hosts"

    def control_path(self, platform: str = sys.platform) -> str | None:
        """Return the ControlPath of shared connections; None if ssh could not make the socket."""
        longest = 107 if platform == "linux" else 103  # of a socket's path: macOS, BSD
        too_long = len(os.fsencode(self.directory)) + _ADDED_BY_SSH > longest
        if too_long or '"' in self.directory or not os.access(f"{self.directory}/", os.W_OK):
            return None
        return '"' + self.directory.replace("%", "%%") + '/login-%C"'


def locate(config: str | None) -> Paths:
    """Return the paths for `config`; None stands for the file that ssh reads by itself."""
    default = f"{_home()}/.ssh/config"
    chosen = os.path.abspath(config) if config else default  # noqa: PTH100
    return Paths(chosen, is_default=chosen == default)


def _home() -> str:
    """Return the home that ssh means by "~": that of the user database, whatever $HOME says."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):  # Windows; a user without a name
        return os.path.expanduser("~")  # noqa: PTH111
