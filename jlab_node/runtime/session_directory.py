"""One session's directory on the node, in the user's.

    /tmp/jlab-alice/s-x7k2m9/        sshd.log; rt/ of its JupyterLab
        direct, gpu.sock -> direct   where its JupyterLab listens
        lab.sock                     the JupyterLab of the session that asks
        jupyter                      where its JupyterLab calls jlab-node
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
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import private
from ..identifiers import NEWEST
from . import leftovers, runtime_directory, session_lookup, socket_links
from . import socket_relay as relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Callable

    from .socket_relay import PersistentSocket, RelayEnd

_LONGEST_LOG = 1 << 20  # bytes of sshd.log; as much comes in a second, at most, before it is cut


class SessionDirectory:
    """One session's place on the node; a context manager that leaves nothing behind."""

    def __init__(self, runtime_dir: Path, name: str, session_id: str) -> None:
        self.runtime_dir = runtime_dir
        self.name = name
        self.listeners: set[PersistentSocket] = set()  # of the sockets in here
        self._id = session_id
        self._number: tuple[int, int] | None = None  # of the directory: device, inode
        self._held: list[int] = []  # descriptors with locks
        self._linked: set[str] = set()  # the names of links that led here
        self._is_named = False  # NAME.sock leads to JupyterLab
        self._is_over = False

    def __enter__(self) -> SessionDirectory:
        try:
            with contextlib.ExitStack() as stack:
                runtime_directory.make(self.runtime_dir)
                stack.callback(self.__exit__)
                with runtime_directory.locked(self.runtime_dir):
                    self._sweep()
                    self.path = leftovers.new_path(self.runtime_dir)
                    self.restore()
                private.write_atomically(self._starting, self._id)
                stack.pop_all()
        except OSError as error:
            where = error.filename or self.runtime_dir
            raise JlabError(f"cannot use {where}: {error.strerror}") from error
        return self

    def restore(self) -> None:
        """What is not there, or not any more; with the lock of the base. Raises OSError.

        Not after the end: whoever asks may have waited for the lock for that long.
        """
        if self._is_over:
            return
        if not self.exists():
            self.path.mkdir(mode=0o700)
            found = self.path.lstat()
            self._number = found.st_dev, found.st_ino
            self._let_go()
            # The base is shared. Both keep systemd-tmpfiles from what is in there.
            self._held += [leftovers.lock(self.path), leftovers.lock(self.runtime_dir, shared=True)]
        if leftovers.owner(self.path) is None:
            leftovers.mark(self.path)
        if not self._alive.exists():
            self._appear_alive()
        self.jupyter_runtime.mkdir(mode=0o700, exist_ok=True)
        if self._is_named and not self._has_name():
            self.socket(self.name).symlink_to(self.direct.name)

    def _has_name(self) -> bool:
        return self.name == NEWEST or os.path.lexists(self.socket(self.name))

    def exists(self) -> bool:
        """Whether the directory is the one that was made, and ours; raises JlabError if not ours.

        False: there is none.
        """
        try:
            found = self.path.lstat()
        except OSError:
            return False
        private.require_only_ours(self.path, found, "")
        if (found.st_dev, found.st_ino) != self._number:
            raise JlabError(f"{self.path} is not the directory that this session has made")
        return True

    def is_complete(self) -> bool:
        """Whether all of it is as it was made; raises JlabError where something is not ours."""
        return (
            runtime_directory.check(self.runtime_dir) is not None
            and self.exists()
            and leftovers.owner(self.path) is not None
            and self._alive.exists()
            and self.jupyter_runtime.exists()
            and all(each.exists() for each in self.listeners)
            and (not self._is_named or self._has_name())
            and all(
                os.path.lexists(self.runtime_dir / name) for name in self._linked & self._names()
            )
        )

    def _appear_alive(self) -> None:
        """To older versions, which else take this for the directory of a dead session."""
        alive = os.open(self._alive, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._held.append(alive)
        with contextlib.suppress(OSError):
            fcntl.flock(alive, fcntl.LOCK_EX)

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def __exit__(self, *_: object) -> None:
        # Where the lock cannot be had, all of it stays, known as dead, for another to sweep.
        with contextlib.suppress(OSError, JlabError), runtime_directory.locked(self.runtime_dir):
            if self._number and self.exists():
                leftovers.clear(self.path)
            self._is_over = True
            self._let_go()
            socket_links.repair(self.runtime_dir)

    @property
    def jupyter_runtime(self) -> Path:
        """JupyterLab's runtime directory. Its name is short: sockets of kernels are made in it."""
        return self.path / "rt"

    @property
    def _starting(self) -> Path:
        return self.path / session_lookup.STARTING

    @property
    def _alive(self) -> Path:
        return self.path / "alive"

    @property
    def sshd_log(self) -> Path:
        return self.path / "sshd.log"

    @property
    def control(self) -> Path:
        """The socket on which the session takes requests."""
        return self.path / session_lookup.CONTROL

    @property
    def direct(self) -> Path:
        """The socket on which JupyterLab listens."""
        return self.path / session_lookup.DIRECT

    def socket(self, name: str) -> Path:
        """The socket to which the link NAME.sock of the user's directory may lead."""
        return self.path / f"{name}.sock"

    def claim_links(self) -> None:
        """Let `ssh -L` to the newest socket of each name lead there, this session's for its own."""
        with runtime_directory.locked(self.runtime_dir):
            socket_links.claim(self.runtime_dir, self.path)
        self._linked = self._names()

    def _names(self) -> set[str]:
        """Of the sockets that are to be there. One that lies there may just be being removed."""
        paths = [each.path for each in self.listeners if isinstance(each, relay.Listener)]
        named = [self.socket(self.name)] if self._is_named else []
        return {path.name for path in [*paths, *named] if path.suffix == ".sock"}

    def remove_stale(self) -> None:
        """Clear away what killed sessions left; not now, if another session is at it."""
        with contextlib.suppress(OSError, JlabError):
            if leftovers.stale(
                self.runtime_dir
            ):  # before each connection: mostly there is nothing to do
                with runtime_directory.locked(self.runtime_dir, timeout=0):
                    self._sweep()

    def _sweep(self) -> None:
        if leftovers.remove(self.runtime_dir):
            socket_links.repair(self.runtime_dir)

    def shorten_logs(self) -> None:
        """Whoever reaches the endpoint can make its sshds write, and so fill the node's disk."""
        with contextlib.suppress(OSError):
            private.keep_tail(self.sshd_log, _LONGEST_LOG)

    def mark_ready(self) -> None:
        """The session is no longer `starting`."""
        self._starting.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def relay(self, jupyterlab: PersistentSocket) -> AsyncIterator[None]:
        """Let the links lead to JupyterLab, which listens on `direct`."""
        loop = asyncio.get_running_loop()

        async def to_the_askers_own(pid: int, make: Callable[[], RelayEnd]) -> None:
            session = session_lookup.session_of_ancestor(pid, self.runtime_dir) or self.path
            await loop.create_unix_connection(make, str(session / session_lookup.DIRECT))

        async with relay.relay_unix(
            self.socket(NEWEST), to_the_askers_own, listeners=self.listeners
        ):
            self.listeners.add(jupyterlab)
            self._is_named = True
            try:
                self.restore()
                self.claim_links()
                yield
            finally:
                self._is_named = False
                self.listeners.discard(jupyterlab)
