"""Private directories, and files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
import tempfile
import time
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..errors import JlabError
from . import acl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
TEMP_PREFIX = ".new-"  # so begin the names of what is being written
_BEING_WRITTEN = re.compile(r"\.new-[a-z0-9_]{8}")  # as `tempfile` makes them
TEMP_KEY_FILES = ("key", "key.pub")  # what is being made in a directory of such a name
TEMP_CONFIG_FILE = "jupyter_server_config.py"  # likewise
_ABANDONED_AFTER = 3600  # seconds: nobody writes for so long


class ForeignFile(JlabError):  # noqa: N818
    """A file is another user's."""


def ensure_private_directory(path: Path, *, may_be_link: bool = False) -> Path:
    """Create `path` with mode 0700, or make sure that it is ours alone; raises JlabError.

    A directory that others can only read is closed; one that they can write is refused, since
    what stands in it may be theirs.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.stat() if may_be_link else path.lstat()
    require_only_ours(path, found, "")
    if found.st_mode & _OTHERS:
        path.chmod(0o700)
    return path


def ensure_closed_directory(path: Path, *, if_foreign: str = "") -> Path:
    """Create `path` with mode 0700, or make sure that it is ours alone; raises JlabError.

    What is there already is not changed, and one that others can enter is refused. `if_foreign` is
    what to do about one that is another user's.
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
    """How a sentence calls the user of that number."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"another user (uid {uid})"


def is_private(path: Path) -> bool:
    """Whether `path` is a directory that only we can enter and change."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
    )


def is_writable_only_by_us(path: Path) -> bool:
    """Whether `path` exists, is ours and nobody else can write it."""
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
    """Give a file mode 0600: a default ACL of its directory may have made it another."""
    if path.stat().st_mode & _OTHERS:
        path.chmod(0o600)


def other_writers(path: Path) -> str:
    """Who else can write the directory, as its mode and its ACL have it; "": nobody."""
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
    is_private = group.gr_name == user and not set(group.gr_mem) - {user}  # as many systems have
    return "" if is_private else f"group {group.gr_name}"


def write_atomically(path: Path, text: str, *, modified: float | None = None) -> Path:
    """Give `path` the content `text`, mode 0600, in one step: readers see the old or the new.

    On a full disk the old content stays; raises OSError. `modified` is its modification time, in
    Unix seconds; None: now.
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
    """Make `path` with the content `text`, mode 0600; False if it exists, whoever made it first.

    Of many at once one makes it, on network file systems too. Raises OSError.
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
    """Where the file is longer than `most` bytes, leave half of that: its last lines.

    In place, for who is appending to it. Raises OSError.
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
    """Seconds since it was written, by the clock of its file system; raises OSError."""
    with tempfile.TemporaryFile(dir=path.parent) as file:
        file.write(b"now")
        file.flush()
        return os.fstat(file.fileno()).st_mtime - path.stat().st_mtime


def read_own(path: Path) -> str:
    """Text of a file, as ~/.jlab/connect reads it; raises OSError, ValueError, ForeignFile."""
    with path.open("rb") as file:  # a text file would take "\r" for the end of a line, too
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise ForeignFile("it is another user's")
        return file.read().decode("utf-8")


def prune_unfinished(directory: Path, *, now: float | None = None) -> None:
    """Remove what was being written in `directory`, or one in it, by somebody who was killed.

    Only what this module and `ssh-keygen` make there, by name and kind; links are not followed.
    """
    before = (time.time() if now is None else now) - _ABANDONED_AFTER
    for path in (*directory.iterdir(), *_in_directories(directory)):
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
