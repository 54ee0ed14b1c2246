"""Whose a file or a directory is, who else can write it, and how it is made the user's alone."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..errors import JlabError
from . import acl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ForeignFile(JlabError):  # noqa: N818
    """A file is another user's."""


def ensure_private_directory(path: Path, *, may_be_link: bool = False) -> Path:
    """Create `path` with mode 0700, or make sure that it is ours alone, and return it.

    A directory that others can only read is closed; one that they can write is refused, since
    what stands in it may be theirs. Raises JlabError, OSError.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.stat() if may_be_link else path.lstat()
    require_only_ours(path, found, "")
    if found.st_mode & _OTHERS:
        path.chmod(0o700)
    return path


def ensure_closed_directory(path: Path, *, if_foreign: str = "") -> Path:
    """Create `path` with mode 0700, or make sure that it is ours alone, and return it.

    What is there already is not changed, and one that others can enter is refused. `if_foreign` is
    what to do about one that is another user's. Raises JlabError, OSError.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    require_only_ours(path, found, if_foreign)
    if found.st_mode & _OTHERS:
        raise JlabError(
            f"{path} is open to other users",
            remedy=f"if it is there for jlab-node, `chmod 700 {path}`",
        )
    return path


def require_owner(path: Path) -> None:
    """Refuse a directory, or a link to one, that others can write; raises JlabError.

    One that is not there is nobody's.
    """
    with contextlib.suppress(OSError):
        require_only_ours(path, path.stat(), "")


def require_only_ours(path: Path, found: os.stat_result, if_foreign: str) -> None:
    """Raise JlabError unless `found` tells of a directory that only we can write."""
    # First: in /tmp its owner alone can remove it.
    if found.st_uid != os.geteuid():
        owner = describe_user(found.st_uid)
        raise JlabError(f"{path} belongs to {owner}, not to you", remedy=if_foreign)
    if not stat.S_ISDIR(found.st_mode):
        raise JlabError(f"{path} is not a directory", remedy="remove it, then try again")
    if found.st_mode & _OTHERS_WRITE:
        raise JlabError(
            f"{path} can be written by other users",
            remedy=f"look at what is in it, then `chmod 700 {path}`",
        )


def describe_user(uid: int) -> str:
    """Return what a sentence calls the user of that number."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"another user (uid {uid})"


def is_private(path: Path) -> bool:
    """Return whether `path` is a directory that only we can enter and change."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
    )


def is_writable_only_by_us(path: Path) -> bool:
    """Return whether `path` exists, is ours and nobody else can write it."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


@contextlib.contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock `path`, as far as its file system knows locks; raises filelock.Timeout."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(path, mode=0o600, timeout=timeout))
        except Timeout:
            raise
        except (OSError, NotImplementedError):  # a full file system, or one without locks
            pass
        yield


def make_private(path: Path) -> None:
    """Give a file mode 0600; raises OSError.

    A default ACL of its directory may have made it another.
    """
    if path.stat().st_mode & _OTHERS:
        path.chmod(0o600)


def other_writers(path: Path) -> str:
    """Return who else can write the directory, as its mode and its ACL have it; "": nobody.

    Raises OSError.
    """
    found = path.stat()
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if not found.st_mode & stat.S_IWGRP:
        return ""  # nor can anybody whom an ACL names: these bits are its mask
    if acl.names_writers(path):
        return f"others (`getfacl {path}` tells who)"
    try:
        group = grp.getgrgid(found.st_gid)
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"group {found.st_gid}"
    # Many systems give each user a group of that name. Nobody else has it as their first, either.
    members = set(group.gr_mem) | {
        each.pw_name for each in pwd.getpwall() if each.pw_gid == found.st_gid
    }
    is_private = group.gr_name == user and not members - {user}
    return "" if is_private else f"group {group.gr_name}"


def read_own(path: Path) -> str:
    """Return the text of a file, as ~/.jlab/connect reads it.

    Raises OSError, ValueError, ForeignFile.
    """
    with path.open("rb") as file:  # a text file would take "\r" for the end of a line, too
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise ForeignFile("it is another user's")
        return file.read().decode("utf-8")
