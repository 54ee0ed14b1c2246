"""The user's own files in ~/.ssh, and ours: read, and replaced in one step."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import JlabError

if TYPE_CHECKING:
    from typing import Callable

_EDIT_ATTEMPTS = 20
_SETTLING_TIME = 0.1  # seconds: an editor that has emptied the file has written it again by then


def read(path: str) -> str:
    """Return the file's text, "" where there is none; any bytes survive read and write.

    Raises JlabError.
    """
    try:
        return Path(path).read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise JlabError(f"cannot read {path}: {error.strerror}") from error


def check_writable(path: str) -> None:
    """Refuse a file that its owner has closed, although it could be replaced; raises JlabError."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.stat().st_mode & stat.S_IWUSR:
        raise JlabError(f"{path} is read-only", remedy=f"`chmod u+w {path}`, then try again")


def edit(path: str, change: Callable[[str], str]) -> None:
    """Make the file what `change` makes of its text; raises JlabError.

    Nothing that somebody else writes meanwhile is lost: then `change` is asked again.
    """
    for _ in range(_EDIT_ATTEMPTS):
        before = read(path)
        after = change(before)
        if after == before or write(path, after, instead_of=before):
            return
    raise JlabError(f"another program keeps changing {path}", remedy="try again when it has ended")


def write(path: str, text: str, *, instead_of: str | None = None) -> bool:
    """Replace the file in one step, through links, keeping its mode; raises JlabError.

    `instead_of`: replace it only if that is its text still. Returns whether it was replaced.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    try:
        temporary = _written_beside(target, text)
        try:
            if instead_of is not None:
                time.sleep(_SETTLING_TIME)
                if read(path) != instead_of:
                    return False
            os.replace(temporary, target)  # noqa: PTH105
        finally:
            _unlink(temporary)
    except OSError as error:
        raise JlabError(f"cannot write {path}: {error.strerror}") from error
    return True


def _written_beside(target: Path, text: str) -> str:
    """Return a new file in that directory with this text and `target`'s mode; raises OSError."""
    import tempfile  # here: it is dear, and the shell's completion only reads

    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o600
    descriptor, temporary = tempfile.mkstemp(prefix=".jlab-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "fchmod"):  # not on Windows
                os.fchmod(file.fileno(), mode)
            _take_over(target, file.fileno())
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _take_over(target: Path, descriptor: int) -> None:
    """Give a file the owner and the access control list of `target`, as far as that can be."""
    with contextlib.suppress(OSError, AttributeError):
        found = target.stat()
        os.fchown(descriptor, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError, AttributeError):
        for name in os.listxattr(target):
            os.setxattr(descriptor, name, os.getxattr(target, name))


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
