"""The key that lets this computer into sessions, and the pinned keys of the sessions."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import JlabError, printable
from . import text_file

if TYPE_CHECKING:
    from ..paths import Paths
    from ..target import Target


def make_directory(paths: Paths) -> None:
    """Make ~/.ssh and ~/.ssh/jlab; nobody else writes in the latter. Raises JlabError.

    A directory of that name which is the user's own is refused and left as it is: files of ours
    would replace what he has there by the same names.
    """
    try:
        for directory in (Path(paths.config).parent, Path(paths.directory)):
            directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or directory.is_symlink()):
            raise JlabError(f"{directory} is not a directory of yours", remedy="remove it first")
        _mark(paths)
        if status.st_mode & 0o022:  # it was made with another umask
            with contextlib.suppress(OSError):  # a file system without modes
                directory.chmod(0o700)
    except OSError as error:
        raise JlabError(f"cannot make {error.filename}: {error.strerror}") from error


def _mark(paths: Paths) -> None:
    """Note in the directory that it is ours; raises JlabError, OSError if it is not."""
    if any(Path(paths.directory).iterdir()) and not paths.is_ours():
        elsewhere = "" if paths.is_default else ", or keep the file of -F in another directory"
        raise JlabError(
            f"{paths.directory} is not empty, and was not made by jlab-proxy, which keeps its "
            "files there",
            remedy=f"move it away{elsewhere}",
        )
    with contextlib.suppress(OSError):  # it is marked already, or the disk is full
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(paths.mark, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write("jlab-proxy made this directory: what is in it may be replaced.\n")


def public_key(paths: Paths) -> str:
    """Return the public half of our key, which is made if there is none yet; raises JlabError.

    ECDSA in PEM form, with no .pub beside it: ssh cannot see the public half of such a key, so it
    signs at once instead of asking first whether the key would do, which saves a round trip.
    """
    if not Path(paths.key).exists():
        with tempfile.TemporaryDirectory(prefix=".", dir=paths.directory) as directory:
            made = Path(directory, "id")
            _keygen("-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", str(made))
            _close(made)
            try:
                os.link(made, paths.key)  # the first of two at once wins
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                made.rename(paths.key)
    _close(Path(paths.key))
    return " ".join(_keygen("-y", "-P", "", "-f", paths.key).split()[:2])


def _close(path: Path) -> None:
    """Let nobody else read the key, or ssh would not take it; raises JlabError.

    A default ACL of the home may have opened it.
    """
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise JlabError(f"cannot give {path} the mode 0600: {error.strerror}") from error


def _keygen(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise JlabError(f"cannot start ssh-keygen: {error.strerror}") from error
    if done.returncode:
        output_lines = (done.stderr or done.stdout).strip().splitlines()
        raise JlabError(
            f"ssh-keygen failed: {output_lines[-1] if output_lines else done.returncode}"
        )
    return done.stdout


def pin(known_hosts: str, target: Target, host_key: str | None) -> str:
    """Return the text with this key alone for the sessions of the alias; None: with no key."""
    names = _names(target)
    kept = [line for line in _lines(known_hosts) if line.split(" ")[0] != names]
    return "".join(f"{line}\n" for line in [*kept, *([f"{names} {host_key}"] if host_key else [])])


def pinned(known_hosts: str, target: Target) -> str | None:
    """Return the key that the text of known_hosts has for the sessions of the alias, or None."""
    for line in _lines(known_hosts):
        names, _, host_key = line.partition(" ")
        if names == _names(target):
            return host_key.strip()
    return None


def _lines(text: str) -> list[str]:
    """Return the lines as ssh sees them: str.splitlines knows ten more separators."""
    return text.removesuffix("\n").split("\n") if text else []


def _names(target: Target) -> str:
    host = f"jlab+{target.alias}"
    return f"{host},{host}+*"


def save_pin(paths: Paths, target: Target, host_key: str | None) -> None:
    """Pin the key in ~/.ssh/jlab/known_hosts (None: forget it); raises JlabError."""
    before = text_file.read(paths.known_hosts)
    after = pin(before, target, host_key)
    if after == before:
        return
    text_file.write(paths.known_hosts, after)


def changed(paths: Paths, target: Target, host_key: str) -> str | None:
    """Return the key that is pinned if it is another; None if there is none, or the same."""
    before = pinned(text_file.read(paths.known_hosts), target)
    return before if before != host_key else None


def fingerprint(host_key: str) -> str:
    """Return the fingerprint as ssh-keygen -l prints it; of what is no key, the text itself."""
    try:
        raw = base64.b64decode(host_key.split()[1], validate=True)
    except (IndexError, ValueError):
        return printable(host_key)
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


def is_host_key(text: object) -> bool:
    """Return whether that is an ed25519 public key."""
    return isinstance(text, str) and bool(re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/]{68}", text))
