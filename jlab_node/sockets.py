"""The user's directory on the node: a directory per session, and the links that `ssh -L` names.

    /tmp/jlab-alice/lab.sock  ->  x7k2m9qa/lab.sock     the newest session on this node
    /tmp/jlab-alice/gpu.sock  ->  x7k2m9qa/gpu.sock     the newest one of that name
    /tmp/jlab-alice/x7k2m9qa/                           one session: alive, owner, sshd_config, rt/,
        direct, gpu.sock -> direct                      its JupyterLab, whoever asks
        lab.sock                                        the JupyterLab of the session that asks
        control                                         where `jlab-node expose` asks for
        dask.sock                                       one more port of the node

An open `ssh -L 8888:/tmp/jlab-alice/lab.sock` must not change sides when a newer session takes the
link. So the relay behind lab.sock looks which session the asking sshd descends from, and leads
to that one.

A session holds the lock `alive` for as long as it lives. The kernel lets go of it whatever the
end is, so what a killed session left behind is known as such, and removed by the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from . import files, relay
from .errors import JlabError
from .record import is_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Callable

    from .relay import Side

NEWEST = "lab"  # the link, and the default name of a session
CONTROL = "control"
_ENTER = "enter"
_ALIVE = "alive"
_LOCK_TIMEOUT = 30.0  # seconds: a hundred may start at once
_IF_FOREIGN = ": ask the administrators to remove it, and until then use another node"


def base_path(env: Mapping[str, str], user: str) -> Path:
    """The user's directory on every node. The laptop's ssh config names it: it must not vary."""
    named = env.get("JLAB_TMPDIR")
    if named is None:
        return Path("/tmp", "jlab-" + re.sub(r"[^A-Za-z0-9._-]", "_", user))  # noqa: S108
    if not re.fullmatch(r"/[A-Za-z0-9._/-]{1,60}", named):
        raise JlabError("JLAB_TMPDIR must be an absolute path of at most 60 plain characters")
    return Path(named)


class SessionDirectory:
    """One session's place on the node; a context manager that leaves nothing behind."""

    def __init__(self, base: Path, name: str, session_id: str) -> None:
        self.base = base
        self.name = name
        self._id = session_id

    def __enter__(self) -> SessionDirectory:
        try:
            files.private_directory(self.base, if_foreign=_IF_FOREIGN)
            with self._lock():
                self._sweep()
                self.path = Path(tempfile.mkdtemp(dir=self.base, prefix=""))
                self._alive = FileLock(self.path / _ALIVE, mode=0o600)
                self._alive.acquire(timeout=_LOCK_TIMEOUT)  # a `connect` may be looking at it
            try:
                self.runtime.mkdir(mode=0o700)
                self.settings.mkdir(mode=0o700)
                files.replace(self._starting, self._id)
                files.replace(self.path / "owner", str(os.getpid()))
            except BaseException:
                self.__exit__()
                raise
        except OSError as error:
            where = error.filename or self.base
            raise JlabError(f"cannot use {where}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        # Where the lock cannot be had, all of it stays, known as dead, for another to sweep.
        with contextlib.suppress(OSError, JlabError), self._lock():
            shutil.rmtree(self.path, ignore_errors=True)
            self._alive.release()
            self._mend_links()

    @property
    def runtime(self) -> Path:
        """JupyterLab's runtime directory. Its name is short: sockets of kernels are made in it."""
        return self.path / "rt"

    @property
    def settings(self) -> Path:
        """A directory of JupyterLab's configuration, for this session alone."""
        return self.path / "etc"

    @property
    def _starting(self) -> Path:
        return self.path / "starting"

    @property
    def sshd_config(self) -> Path:
        return self.path / "sshd_config"

    @property
    def enter(self) -> Path:
        """The script by which a step in the job gets in; its place is known from sshd_config's."""
        return self.path / _ENTER

    @property
    def control(self) -> Path:
        """The socket on which the session takes requests."""
        return self.path / CONTROL

    def socket(self, name: str) -> Path:
        """The socket to which the link NAME.sock of the user's directory may lead."""
        return self.path / f"{name}.sock"

    def write(self, path: Path, text: str) -> None:
        """A private file in here; raises JlabError."""
        try:
            files.replace(path, text)
        except OSError as error:
            raise JlabError(f"cannot write {path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _lock(self, timeout: float = _LOCK_TIMEOUT) -> Iterator[None]:
        """Only one session of this user at a time; raises JlabError."""
        path = self.base / "lock"
        try:
            with FileLock(path, mode=0o600, timeout=timeout):
                yield
        except Timeout as error:
            raise JlabError(
                f"another jlab-node of yours on this node has held {path} for "
                f"{timeout:.0f} s: is one suspended?"
            ) from error

    def take_links(self) -> None:
        """Let `ssh -L` to the newest socket of each name lead there, this session's for its own."""
        with self._lock():
            self._mend_links()
            for path in self.path.glob("*.sock"):
                link = self.base / path.name
                if _made_at(link) <= _made_at(path):
                    _link(link, path.relative_to(self.base))

    def tend(self) -> None:
        """Clear away what killed sessions left; not now, if another session is at it."""
        with contextlib.suppress(OSError, JlabError):
            if _dead(self.base):  # before each connection: mostly there is nothing to do
                with self._lock(timeout=0):
                    self._sweep()

    def _sweep(self) -> None:
        found = _dead(self.base)
        for dead in found:
            shutil.rmtree(dead, ignore_errors=True)
        if found:
            self._mend_links()

    def ready(self) -> None:
        """The session is no longer `starting`."""
        self._starting.unlink(missing_ok=True)

    def _mend_links(self) -> None:
        """Links that lead nowhere: to the newest socket of their name, or away with them.

        Those that lead somewhere cost one look: fifty sessions may begin or end at once.
        """
        for link in self.base.glob("*.sock"):
            if link.exists():
                continue
            newest = max(self.base.glob(f"*/{link.name}"), key=_made_at, default=link)
            if newest.exists():
                _link(link, newest.relative_to(self.base))
            else:
                link.unlink()

    @contextlib.asynccontextmanager
    async def relay(self, host: str, port: int) -> AsyncIterator[None]:
        """Carry each connection to a socket of this session to JupyterLab at `host:port`."""

        loop = asyncio.get_running_loop()

        async def to_jupyterlab(_: int, make: Callable[[], Side]) -> None:
            await loop.create_connection(make, host, port)

        async def to_the_askers_own(pid: int, make: Callable[[], Side]) -> None:
            session = _session_above(pid, self.base)
            if session in (None, self.path):
                await to_jupyterlab(pid, make)
            else:
                await loop.create_unix_connection(make, str(session / "direct"))

        direct = self.path / "direct"
        newest = self.socket(NEWEST)
        async with (
            relay.carrying(direct, to_jupyterlab),
            relay.carrying(newest, to_the_askers_own),
        ):
            if self.name != NEWEST:
                _link(self.socket(self.name), Path(direct.name))
            self.take_links()
            yield


def session_of(pid: int, base: Path) -> Path | None:
    """The directory of the session that `pid` belongs to; else of the newest on this node."""
    if not files.is_private(base):
        return None  # another user's trap; `run` says so
    with contextlib.suppress(OSError):
        return _session_above(pid, base) or base / (base / f"{NEWEST}.sock").readlink().parent
    return None


def _session_above(pid: int, base: Path) -> Path | None:
    """The session that started the process `pid`, or the nearest process above it that has one."""
    sessions = list(_session_directories(base))
    marks = {_text(path / "owner"): path for path in sessions}
    marks.update({str(path / _ENTER): path for path in sessions})
    try:
        process = psutil.Process(pid)
        for each in (process, *process.parents()):
            for mark in (str(each.pid), *each.cmdline()[1:2]):  # as in: sh /tmp/jlab-alice/x7/enter
                if mark in marks:
                    return marks[mark]
    except psutil.Error:
        pass
    return None


def starting(base: Path) -> list[str]:
    """The ids of this node's sessions that are not ready yet, in order."""
    if not files.is_private(base):
        return []  # another user's trap; `run` says so
    alive = (path for path in _session_directories(base) if _is_alive(path))
    found = (_text(path / "starting") for path in alive)
    return sorted(text for text in found if is_id(text))


def _session_directories(base: Path) -> list[Path]:
    with os.scandir(base) as entries:
        return [Path(each) for each in entries if each.is_dir(follow_symlinks=False)]


def _dead(base: Path) -> list[Path]:
    return [path for path in _session_directories(base) if not _is_alive(path)]


def _is_alive(directory: Path) -> bool:
    """Whoever looks shares the lock with others that look, and a hundred are looked at quickly."""
    try:
        descriptor = os.open(directory / _ALIVE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:  # of another kind: no descriptor is free, and nobody can tell
        return error.errno not in (errno.ENOENT, errno.ELOOP)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held, or nobody can tell: then nothing is removed
        return True
    finally:
        os.close(descriptor)
    return False


def _made_at(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0  # its session has just ended


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and path.readlink() == target:
        return
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, path)  # noqa: PTH105
