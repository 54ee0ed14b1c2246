"""What killed sessions left on the node: which directories those are, and away with them.

    s-x7k2m9qa/owner -> jlab-node:4711:128803:5b1c...    a session's directory, and its mark

The mark is made in one step, and says which process made the directory. That process holds a lock
on the directory for as long as it lives. Removed is what carries our name, is ours, has the mark,
of a process that has ended, and whose lock is free. Whatever else lies beside it is not ours to
judge, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from typing import TYPE_CHECKING

from . import process_identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "s-"
_NAME = re.compile(r"s-[a-z0-9_]{8}")  # as mkdtemp makes them
_OWNER = "owner"
_MARK = re.compile(r"jlab-node:([0-9]+:[0-9]+:[0-9a-f-]*)")  # process_identity.identity
_ROUNDS, _POLL = 500, 0.01  # of seconds: whoever looks at a lock has it for a moment


def mark(directory: Path) -> None:
    """Make `directory` known as this process's; raises OSError."""
    process = process_identity.identity(os.getpid())
    directory.joinpath(_OWNER).symlink_to(f"jlab-node:{process}")


def owner(directory: Path) -> str:
    """The identity of the process that made `directory`; "" where that carries no mark."""
    with contextlib.suppress(OSError):
        found = _MARK.fullmatch(os.readlink(directory / _OWNER))  # noqa: PTH115
        if found and _is_ours(directory / _OWNER):
            return found[1]
    return ""


def hold(directory: Path) -> int:
    """Lock `directory` until the descriptor that this returns is closed; raises OSError.

    Where the file system knows no locks, there is none, and nobody takes the directory for dead.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    for _ in range(_ROUNDS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # somebody looks at it
            time.sleep(_POLL)
        except OSError:
            break
    return descriptor


def directories(base: Path) -> list[Path]:
    """The directories of sessions in `base`, dead or alive; raises OSError."""
    return [path for path in _ours(base) if owner(path)]


def dead(base: Path) -> list[Path]:
    """The directories of sessions in `base` that were killed; raises OSError."""
    return [path for path in directories(base) if is_dead(path)]


def is_dead(directory: Path) -> bool:
    """Whether a session's directory provably has no session any more."""
    process = owner(directory)
    return bool(process) and process_identity.is_gone(process) and _is_free(directory)


def remove(base: Path) -> bool:
    """Clear away what killed sessions left in `base`; whether there was any. Raises OSError.

    Only with the lock of `base`: else a directory may just be being made.
    """
    found = dead(base)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    for path in _ours(base):  # one that was killed before it could make its mark
        if not owner(path) and _is_free(path):
            with contextlib.suppress(OSError):
                path.rmdir()  # never more than an empty directory
    return bool(found)


def _ours(base: Path) -> Iterator[Path]:
    with os.scandir(base) as entries:
        names = [each.name for each in entries if _NAME.fullmatch(each.name)]
    for name in names:
        path = base / name
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                yield path


def _is_ours(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid()


def _is_free(directory: Path) -> bool:
    """Whoever looks shares the lock with others that look, and a hundred are looked at quickly."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:  # of another kind: no descriptor is free, and nobody can tell
        return error.errno == errno.ENOENT
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held, or nobody can tell: then nothing is removed
        return False
    finally:
        os.close(descriptor)
    return True
