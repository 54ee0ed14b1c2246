"""The user's directory on each node, /tmp/jlab-alice: where, that it is ours, its lock."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import acl, mounts, private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# With "/s-x7k2m9/rt/kernel-00000000-0000-0000-0000-000000000000-ipc-10" the path of a unix socket,
# which has at most 107 bytes.
_LONGEST = 44

_LOCK = "lock"
# Where a container without root shows root's directories as nobody's, these are the system's.
_OF_THE_SYSTEM = ("/", "/tmp", "/var", "/var/tmp", "/dev", "/dev/shm", "/run")  # noqa: S108
_MOST_LINKS = 40  # of one path, as Linux has it
_LOCK_TIMEOUT = 30.0  # seconds: a hundred may start at once
_POLL = 0.02  # seconds
_IF_FOREIGN = "ask the administrators to remove it, and until then use another node"


def locate(env: Mapping[str, str], user: str) -> Path:
    """Return the user's runtime directory, in /tmp or in what JLAB_TMPDIR names.

    The laptop's ssh config names it, so it depends on these alone. A long name of a user leaves no
    room for the sockets of kernels: then it is a short one that stands for it. Raises JlabError.
    """
    parent = env.get("JLAB_TMPDIR", "/tmp")  # noqa: S108
    if not re.fullmatch(r"/[A-Za-z0-9._/-]{1,60}", parent):
        raise JlabError("JLAB_TMPDIR must be an absolute path of at most 60 plain characters")
    path = Path(parent, "jlab-" + re.sub(r"[^A-Za-z0-9._-]", "_", user))
    if len(str(path)) <= _LONGEST:
        return path
    return path.with_name("jlab-" + hashlib.sha256(user.encode()).hexdigest()[:8])


def make(runtime_dir: Path) -> None:
    """Make sure that `runtime_dir` is there and ours alone; raises JlabError, OSError.

    What is there already is never changed.
    """
    with contextlib.suppress(FileExistsError):
        runtime_dir.parent.mkdir(mode=0o700)
    check_parents(runtime_dir)
    private.ensure_closed_directory(runtime_dir, if_foreign=_IF_FOREIGN)


def check(runtime_dir: Path) -> os.stat_result | None:
    """Refuse a `runtime_dir` that is not ours alone, or might not be soon; raises JlabError.

    None: it is not there.
    """
    check_parents(runtime_dir)
    try:
        found = runtime_dir.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:  # another user's file system may say so of what is there
        raise JlabError(f"{runtime_dir} cannot be looked at: {error.strerror}") from error
    private.require_only_ours(runtime_dir, found, _IF_FOREIGN)
    return found


def check_parents(runtime_dir: Path) -> None:
    """Refuse a `runtime_dir` that others could move away, to put their own in its place.

    The directories above it have to be root's or ours, and others may write them only where the
    sticky bit keeps what is not theirs from them, as in /tmp. Raises JlabError.
    """
    mounted = mounts.foreign_mount(runtime_dir)
    if mounted:
        raise JlabError(
            f"{runtime_dir} is not safe, since another user has mounted a file system at {mounted}",
            remedy="ask the administrators to unmount it, and until then use another node",
        )
    for path, others in _changed_by_others(runtime_dir):
        raise JlabError(
            f"{runtime_dir} is not safe, since {path} can be changed by {others}",
            remedy="set JLAB_TMPDIR to a directory of your own on this node, or ask the "
            f"administrators for `chmod +t {path}`",
        )


def is_ours_alone(path: Path) -> bool:
    """Return whether nobody else can ever put anything at `path`, even when it has gone."""
    try:
        return (
            private.is_writable_only_by_us(path.parent)
            and not path.is_symlink()
            and not any(_changed_by_others(path, even_when_gone=True))
        )
    except OSError:
        return False


def _changed_by_others(path: Path, *, even_when_gone: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield what leads to `path` and is not root's or ours alone to change, and whose it is.

    The sticky bit keeps others from what is there. `even_when_gone`: that does not suffice.
    """
    unmapped = set() if even_when_gone else _unmapped()
    for each, found in _on_the_way(path.parent):
        others = ""
        is_system = found.st_uid in unmapped and str(each) in _OF_THE_SYSTEM
        if found.st_uid not in (0, os.geteuid()) and not is_system:
            others = private.describe_user(found.st_uid)
        elif stat.S_ISDIR(found.st_mode) and (even_when_gone or not found.st_mode & stat.S_ISVTX):
            others = _other_writers(each, found)
        if others:
            yield each, others


def _on_the_way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each directory, and each link, that leads to `path`, as far as they are there."""
    here, ahead, links = Path("/"), [*path.parts[1:]], 0
    yield here, here.lstat()
    while ahead:
        here = here.parent if ahead[0] == ".." else here / ahead[0]
        del ahead[0]
        try:
            found = here.lstat()
            yield here, found
            if stat.S_ISLNK(found.st_mode):
                links += 1
                target = here.parent / here.readlink()
                here, ahead = Path("/"), [*target.parts[1:], *ahead]
        except OSError:
            return
        if links > _MOST_LINKS:
            return  # the kernel follows no more


def _other_writers(path: Path, found: os.stat_result) -> str:
    """Return who else can write there; "": nobody but administrators.

    Whoever is in root's group is one, unless an ACL lets others write.
    """
    is_of_root = not found.st_gid and not found.st_mode & stat.S_IWOTH
    return "" if is_of_root and not acl.names_writers(path) else private.other_writers(path)


def _unmapped() -> set[int]:
    """Return the user id that root's files seem to have, if this is a container without root."""
    with contextlib.suppress(OSError, ValueError):
        mapped = Path("/proc/self/uid_map").read_text("ascii").split()
        if mapped[:2] != ["0", "0"]:
            return {int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))}
    return set()


@contextlib.contextmanager
def locked(runtime_dir: Path, *, timeout: float = _LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock of `runtime_dir`, which one session of the user has at a time.

    Where the file system knows no locks, nothing is held. Raises JlabError when another process
    has held it for `timeout` seconds or the directory is not ours alone, and OSError.
    """
    path = runtime_dir / _LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    directory = os.open(runtime_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Not what lies at the path: that may be a link of another user's to one of ours.
        private.require_only_ours(runtime_dir, os.fstat(directory), _IF_FOREIGN)
        descriptor = os.open(_LOCK, flags, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        if not _lock(descriptor, timeout):
            raise JlabError(
                f"another jlab-node of yours on this node has held {path} for {timeout:.0f} s",
                remedy="end it, or continue it if it is suspended",
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        except OSError:
            return True
        else:
            return True
