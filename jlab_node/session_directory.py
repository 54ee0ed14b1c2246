"""One session's directory on the node, in the user's.

    /tmp/jlab-alice/s-x7k2m9qa/      sshd.log; etc/, rt/ of its JupyterLab
        direct, gpu.sock -> direct   its JupyterLab, whoever asks
        lab.sock                     the JupyterLab of the session that asks
        control                      where `jlab-node expose` asks for
        dask.sock                    one more port of the node

An open `ssh -L 8888:/tmp/jlab-alice/lab.sock` must not change sides when a newer session takes the
link. So the relay behind lab.sock looks which session the asking sshd descends from, and leads
to that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import files, leftovers, relay, session_links, session_lookup, user_directory
from .errors import JlabError
from .user_directory import NEWEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Callable

    from .relay import Side


class SessionDirectory:
    """One session's place on the node; a context manager that leaves nothing behind."""

    def __init__(self, base: Path, name: str, session_id: str) -> None:
        self.base = base
        self.name = name
        self._id = session_id
        self._number: tuple[int, int] | None = None  # of the directory: device, inode
        self._held: list[int] = []  # descriptors with locks

    def __enter__(self) -> SessionDirectory:
        try:
            user_directory.make(self.base)
            with contextlib.ExitStack() as stack:
                with user_directory.locked(self.base):
                    self._sweep()
                    self.path = Path(tempfile.mkdtemp(dir=self.base, prefix=leftovers.PREFIX))
                    stack.callback(self.__exit__)
                    found = self.path.lstat()
                    self._number = found.st_dev, found.st_ino
                    self._held.append(leftovers.hold(self.path))
                    leftovers.mark(self.path)
                    self._appear_alive()
                self.runtime.mkdir(mode=0o700)
                self.settings.mkdir(mode=0o700)
                files.replace(self._starting, self._id)
                stack.pop_all()
        except OSError as error:
            where = error.filename or self.base
            raise JlabError(f"cannot use {where}: {error.strerror}") from error
        return self

    def _appear_alive(self) -> None:
        """To older versions, which else take this for the directory of a dead session."""
        alive = os.open(self.path / "alive", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._held.append(alive)
        with contextlib.suppress(OSError):
            fcntl.flock(alive, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        # Where the lock cannot be had, all of it stays, known as dead, for another to sweep.
        with contextlib.suppress(OSError, JlabError), user_directory.locked(self.base):
            self._remove()
            session_links.mend(self.base)

    def _remove(self) -> None:
        """Of what has taken its place since, nothing."""
        with contextlib.suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._number:
                shutil.rmtree(self.path, ignore_errors=True)
        while self._held:
            os.close(self._held.pop())

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
        return self.path / session_lookup.STARTING

    @property
    def sshd_log(self) -> Path:
        return self.path / "sshd.log"

    @property
    def control(self) -> Path:
        """The socket on which the session takes requests."""
        return self.path / session_lookup.CONTROL

    def socket(self, name: str) -> Path:
        """The socket to which the link NAME.sock of the user's directory may lead."""
        return self.path / f"{name}.sock"

    def write(self, path: Path, text: str) -> None:
        """A private file in here; raises JlabError."""
        try:
            files.replace(path, text)
        except OSError as error:
            raise JlabError(f"cannot write {path}: {error.strerror}") from error

    def take_links(self) -> None:
        """Let `ssh -L` to the newest socket of each name lead there, this session's for its own."""
        with user_directory.locked(self.base):
            session_links.take(self.base, self.path)

    def tend(self) -> None:
        """Clear away what killed sessions left; not now, if another session is at it."""
        with contextlib.suppress(OSError, JlabError):
            if leftovers.dead(self.base):  # before each connection: mostly there is nothing to do
                with user_directory.locked(self.base, timeout=0):
                    self._sweep()

    def _sweep(self) -> None:
        if leftovers.remove(self.base):
            session_links.mend(self.base)

    def ready(self) -> None:
        """The session is no longer `starting`."""
        self._starting.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def relay(self, host: str, port: int) -> AsyncIterator[None]:
        """Carry each connection to a socket of this session to JupyterLab at `host:port`."""

        loop = asyncio.get_running_loop()

        async def to_jupyterlab(_: int, make: Callable[[], Side]) -> None:
            await loop.create_connection(make, host, port)

        async def to_the_askers_own(pid: int, make: Callable[[], Side]) -> None:
            session = session_lookup.session_above(pid, self.base)
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
                self.socket(self.name).symlink_to(direct.name)
            self.take_links()
            yield
