"""Read a file of the user's that nobody else can have written, whatever became of the home."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ...errors import JlabError

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LONGEST = 1 << 20  # bytes


def read(path: Path, *, closed: bool = False) -> bytes:
    """Return the content of `path`; raises OSError, and JlabError where it may be another user's.

    Neither the file nor its directory may be one that others can write; the file may be no link.
    `closed`: nor may others read it. Both are looked at as they have been opened: what is put in
    their place afterwards is not read.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _refuse(path.parent, os.fstat(directory), _OTHERS_WRITE)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(path.name, flags, dir_fd=directory), "rb") as file:
            found = os.fstat(file.fileno())
            _refuse(path, found, stat.S_IRWXG | stat.S_IRWXO if closed else _OTHERS_WRITE)
            if not stat.S_ISREG(found.st_mode):
                raise JlabError(f"{path} is not a file")
            return file.read(_LONGEST)
    finally:
        os.close(directory)


def _refuse(path: Path, found: os.stat_result, bits: int) -> None:
    if found.st_uid != os.geteuid():
        raise JlabError(f"{path} is another user's")
    if found.st_mode & bits:
        raise JlabError(f"{path} is open to other users", remedy=f"`chmod go-rwx {path}`")
