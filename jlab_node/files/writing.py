"""Files that are written whole or not at all, and what is left of those whose writer was killed."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMP_PREFIX = ".new-"  # so begin the names of what is being written
_BEING_WRITTEN = re.compile(r"\.new-[a-z0-9_]{8}")  # as `tempfile` makes them
TEMP_KEY_FILES = ("key", "key.pub")  # what is being made in a directory of such a name
TEMP_CONFIG_FILE = "jupyter_server_config.py"  # likewise
_ABANDONED_AFTER = 3600  # seconds: nobody writes for so long


def write_atomically(path: Path, text: str, *, modified: float | None = None) -> Path:
    """Give `path` the content `text`, mode 0600, in one step, and return it.

    Readers see the old content or the new one; on a full disk the old one stays. `modified` is the
    modification time in Unix seconds; None: now. Raises OSError with the name of the file.
    """
    try:
        _replace(path, text, modified)
    except OSError as error:  # of a write it does not know in which file
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path


def _replace(path: Path, text: str, modified: float | None) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            if modified is not None:
                os.utime(file.fileno(), (modified, modified))
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def create_exclusively(path: Path, text: str) -> bool:
    """Make `path` with the content `text`, mode 0600; return False if it exists already.

    Of many that do so at once one makes it, on network file systems too. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                # Of a server's answer that was lost one hears that it exists: then there are two.
                return os.fstat(file.fileno()).st_nlink > 1
            except OSError:  # a file system without hard links
                return _create(path, text)
        return True
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108


def _create(path: Path, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


def keep_tail(path: Path, most: int) -> None:
    """Leave only the last lines of a file that is longer than `most` bytes: half of that, at most.

    It is cut in place, for who is appending to it. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "r+b") as file:
        if os.fstat(descriptor).st_size <= most:
            return
        file.seek(-(most // 2), os.SEEK_END)
        end = file.read(most)
        file.seek(0)
        file.write(end.partition(b"\n")[2] or end)
        file.truncate()


def age(path: Path) -> float:
    """Return the seconds since `path` was written, by the clock of its file system.

    Raises OSError.
    """
    with tempfile.TemporaryFile(dir=path.parent) as file:
        file.write(b"now")
        file.flush()
        return os.fstat(file.fileno()).st_mtime - path.stat().st_mtime


def prune_unfinished(directory: Path, *, now: float | None = None) -> None:
    """Remove what was being written in `directory`, or one in it, by somebody who was killed.

    Only what this module and `ssh-keygen` make there, by name and kind, and an hour after nobody
    has written there; links are not followed. Raises OSError where it cannot be listed.
    """
    before = (time.time() if now is None else now) - _ABANDONED_AFTER
    # What is in them first: a directory goes only once it is empty.
    for path in (*_in_directories(directory), *directory.iterdir()):
        if not _BEING_WRITTEN.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_ctime > before or found.st_uid != os.geteuid():
                continue
            if stat.S_ISREG(found.st_mode):
                path.unlink()
            elif stat.S_ISDIR(found.st_mode):
                for name in (*TEMP_KEY_FILES, TEMP_CONFIG_FILE):
                    path.joinpath(name).unlink(missing_ok=True)
                path.rmdir()


def _in_directories(directory: Path) -> Iterator[Path]:
    for each in directory.iterdir():
        if each.is_dir() and not each.is_symlink():
            with contextlib.suppress(OSError):
                yield from each.iterdir()
