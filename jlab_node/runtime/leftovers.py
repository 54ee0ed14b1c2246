"""What killed sessions left on the node: which directories those are, and away with them.

    s-x7k2m9/owner -> jlab-node:n1:4711.128803.4026531836.5b1c...    a session's directory, its mark

The mark is made in one step, and says which process made the directory, on which machine: others
may see the same file system. That process holds a lock on the directory for as long as it lives.
Removed is what carries our name, is ours, has the mark, of a process that has ended, and whose lock
is free. Whatever else lies beside it is not ours to judge, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import string
import time
from typing import TYPE_CHECKING

from .. import identifiers, process_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "s-"
_NAME = re.compile(r"s-[a-z0-9]{6}")
_NEW = ".jlab-node-"
_UNFINISHED = re.compile(rf"{re.escape(_NEW)}{identifiers.PROCESS}")
_OWNER = "owner"
_MARK = re.compile(rf"jlab-node:([^:]*):({identifiers.PROCESS}|)")
_LETTERS = string.ascii_lowercase + string.digits
_ATTEMPTS, _POLL = 500, 0.01  # of seconds: whoever looks at a lock has it for a moment


def make(directory: Path) -> None:
    """Make a session's directory, with this process's mark in it; raises OSError.

    Until it has that, its name says whose it is: if we are killed now, the next one removes it.
    """
    new = _without_mark(directory)
    with contextlib.suppress(FileExistsError):
        new.mkdir(mode=0o700)
    if owner(new) is None:
        mark(new)
    if new != directory:
        new.rename(directory)


def _without_mark(directory: Path) -> Path:
    """Return the path by which it is known as this process's, as long as it has no mark."""
    process = process_id.identity(os.getpid())
    return directory.with_name(_NEW + process) if process else directory


def mark(directory: Path) -> None:
    """Make `directory` known as this process's; raises OSError."""
    made_by = f"jlab-node:{os.uname().nodename}:{process_id.identity(os.getpid())}"
    directory.joinpath(_OWNER).symlink_to(made_by)


def new_path(runtime_dir: Path) -> Path:
    """Return a path in `runtime_dir` by which a session's directory is known as one.

    It is short, since kernels make sockets in it: see session/jupyter/program.py.
    """
    return runtime_dir / (PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(6)))


def owner(directory: Path) -> tuple[str, str] | None:
    """Return machine and identity of the process that made `directory`; None: it has no mark."""
    with contextlib.suppress(OSError):
        found = _MARK.fullmatch(os.readlink(directory / _OWNER))  # noqa: PTH115
        if found and _is_ours(directory / _OWNER):
            return found[1], found[2]
    return None


def lock(directory: Path, *, shared: bool = False) -> int:
    """Lock `directory` until the descriptor that this returns is closed; raises OSError.

    Where the file system knows no locks, there is none, and nobody takes the directory for dead.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for _ in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # somebody looks at it
            time.sleep(_POLL)
        except OSError:
            break
    return descriptor


def directories(runtime_dir: Path) -> list[Path]:
    """Return the directories of sessions in `runtime_dir`, in use or stale; raises OSError."""
    return [path for path in _ours(runtime_dir) if owner(path)]


def stale(runtime_dir: Path) -> list[Path]:
    """Return the directories of sessions in `runtime_dir` that were killed; raises OSError."""
    return [path for path in directories(runtime_dir) if is_stale(path)]


def is_stale(directory: Path) -> bool:
    """Return whether a session's directory provably has no session any more."""
    found = owner(directory)
    return found is not None and _has_ended(*found) and _is_unlocked(directory)


def _has_ended(machine: str, process: str) -> bool:
    """Return whether a process has surely ended: nobody sees another container's or machine's."""
    if not process or machine != os.uname().nodename or not process_id.own_namespace():
        return False
    lives = process_id.is_alive(process)
    has_rebooted = lives is None and not process_id.is_in_another_namespace(process)
    return lives is False or has_rebooted


def remove(runtime_dir: Path) -> bool:
    """Remove what killed sessions left in `runtime_dir`; return whether there was any.

    This needs the lock of `runtime_dir`: else a directory may just be being made. Raises OSError.
    """
    found = stale(runtime_dir)
    for path in found:
        clear(path)
    for path in _ours(runtime_dir, _UNFINISHED):
        if _has_ended(os.uname().nodename, path.name[len(_NEW) :]):
            with contextlib.suppress(OSError):  # there is no more in it than its mark
                if owner(path):
                    (path / _OWNER).unlink()
                path.rmdir()
    return bool(found)


def clear(directory: Path) -> None:
    """Remove a directory; if we are killed meanwhile, the next one knows the rest as ours.

    By its mark, which goes last, or by the name that it has from then on.
    """
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _OWNER:
                with contextlib.suppress(OSError):
                    path.unlink()
    with contextlib.suppress(OSError):
        directory = directory.rename(_without_mark(directory))
    shutil.rmtree(directory, ignore_errors=True)


def _ours(runtime_dir: Path, pattern: re.Pattern[str] = _NAME) -> Iterator[Path]:
    with os.scandir(runtime_dir) as entries:
        names = [each.name for each in entries if pattern.fullmatch(each.name)]
    for name in names:
        path = runtime_dir / name
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                yield path


def _is_ours(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid()


def _is_unlocked(directory: Path) -> bool:
    """Return whether nobody holds the lock of `directory`.

    Whoever looks shares the lock with others that look, and a hundred are looked at quickly.
    """
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
