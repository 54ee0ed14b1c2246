"""~/.jlab: the directory that laptop and cluster share, the scripts in it and the keys."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from ..errors import JlabError
from ..files import private, writing

_PUBLIC_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}( [\w@.+-]{1,128})?",
    re.ASCII,
)

_SITE = re.compile(r"([a-z]{1,16}):([A-Za-z0-9._-]{0,64})[ \n]")

_LOCK_TIMEOUT = 10.0  # seconds for another setup to add its key

# cd: `python -m` looks for modules in the current directory first, and $HOME may hold any.
# Laptops know the remedy in it word for word.
_WRAPPER = """\
# Written by jlab-node; the laptop starts it as `sh ~/.jlab/jlab-node VERB`.
python={python}
[ -x "$python" ] || {{ echo "jlab-node: $python is gone: install jlab-remote again on this \
cluster, then type jlab-node setup there" >&2; exit 69; }}
cd "$HOME/.jlab" && exec "$python" -m jlab_node "$@"
"""


@dataclass(frozen=True)
class Home:
    """The paths in ~/.jlab."""

    path: Path

    @property
    def sessions(self) -> Path:
        return self.path / "sessions"

    @property
    def host_key(self) -> Path:
        return self.path / "host_key"

    @property
    def public_host_key(self) -> Path:
        return self.path / "host_key.pub"

    @property
    def authorized_keys(self) -> Path:
        return self.path / "authorized_keys"


def user() -> str:
    """Return the name of whoever runs this; raises JlabError."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise JlabError(f"user number {os.geteuid()} has no name on this machine") from None


def state_dir() -> Home:
    """Return where ~/.jlab is, or would be."""
    return Home(Path.home() / ".jlab")


def open_state_dir() -> Home:
    """Return ~/.jlab; raises JlabError if what stands in it may be another user's."""
    home = state_dir()
    private.require_owner(home.path)
    return home


def ensure_state_dir() -> Home:
    """Make ~/.jlab complete and current, and return it; raises JlabError.

    That is safe to repeat, and to do twice at once.
    """
    home = state_dir()
    try:
        private.ensure_private_directory(home.path, may_be_link=True)
        private.ensure_private_directory(home.sessions)
        writing.prune_unfinished(home.path)
        _write_if_changed(home.path / "connect", connect_script())
        _write_if_changed(
            home.path / "jlab-node", _WRAPPER.format(python=shlex.quote(sys.executable))
        )
        if not home.host_key.exists():
            _make_host_key(home)
        private.make_private(home.host_key)
        if not home.public_host_key.exists():
            writing.write_atomically(home.public_host_key, _public_half(home.host_key))
        if not home.authorized_keys.exists():
            writing.write_atomically(home.authorized_keys, "")
    except OSError as error:
        raise JlabError(f"cannot write {error.filename or home.path}: {error.strerror}") from error
    return home


def authorize(home: Home, public_key: str) -> None:
    """Let the laptop that holds `public_key` into this user's sessions; raises JlabError."""
    line = public_key.strip()
    if not _PUBLIC_KEY.fullmatch(line):
        raise JlabError("that is not one line of an ssh public key")
    lock = home.path / "authorize.lock"
    try:
        with private.locked(lock, timeout=_LOCK_TIMEOUT):
            _add_line(home.authorized_keys, line)
    except Timeout:
        raise JlabError(
            f"another jlab-node setup has held {lock} for {_LOCK_TIMEOUT:.0f} s",
            remedy="end it, or continue it if it is suspended",
        ) from None
    except OSError as error:
        raise JlabError(f"cannot write {home.authorized_keys}: {error.strerror}") from error


def _add_line(path: Path, line: str) -> None:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if line not in text.splitlines():
        before = text if text.endswith("\n") or not text else f"{text}\n"
        writing.write_atomically(path, f"{before}{line}\n")


def remember_site(home: Home, scheduler: str, cluster: str) -> None:
    """Let ~/.jlab/connect know which records are of the cluster that this machine belongs to.

    A home may be seen from two clusters, and job numbers and node names may be the same on both.
    """
    path = _site_file(home)
    # A record without a cluster's name fits, as far as anybody can tell.
    known = dict.fromkeys([f"{scheduler}:{cluster}", f"{scheduler}:"])
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        writing.write_atomically(path, " ".join(known) + "\n")


def remembered_site(home: Home) -> tuple[str, str, float] | None:
    """Return scheduler, cluster and how many seconds ago that was found out; None: never."""
    path = _site_file(home)
    try:
        found = _SITE.match(path.read_text(encoding="ascii"))
        age = time.time() - path.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return None
    return (found[1], found[2], age) if found else None


def remember_commands(home: Home, directory: str) -> None:
    """Note where the scheduler's commands are on this machine.

    A shell that ssh starts may not have them on its PATH.
    """
    path = _commands_file(home)
    if directory != remembered_commands(home):
        with contextlib.suppress(OSError, ValueError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            writing.write_atomically(path, f"{directory}\n")


def remembered_commands(home: Home) -> str:
    """Return the directory in which they were found last; "": never."""
    try:
        found = _commands_file(home).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return found if found.startswith("/") and "\n" not in found else ""


def _commands_file(home: Home) -> Path:
    return home.path / "commands" / os.uname().nodename


def _site_file(home: Home) -> Path:
    return home.path / "sites" / os.uname().nodename


def connect_script() -> str:
    """Return what ~/.jlab/connect should hold."""
    return Path(__file__).parents[1].joinpath("connect.bash").read_text(encoding="utf-8")


def _write_if_changed(path: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return
    writing.write_atomically(path, text)


def _make_host_key(home: Home) -> None:
    with tempfile.TemporaryDirectory(prefix=writing.TEMP_PREFIX, dir=home.path) as directory:
        made = Path(directory, writing.TEMP_KEY_FILES[0])
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", "jlab", "-f", str(made))
        private.make_private(made)
        try:
            os.link(made, home.host_key)  # the first of two at once wins
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            made.rename(home.host_key)


def _public_half(private_key: Path) -> str:
    return _keygen("-y", "-P", "", "-f", str(private_key))


def _keygen(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise JlabError(
            "ssh-keygen is not on PATH here", remedy="install OpenSSH's client"
        ) from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise JlabError(f"ssh-keygen failed: {reason[-1] if reason else done.returncode}")
    return done.stdout
