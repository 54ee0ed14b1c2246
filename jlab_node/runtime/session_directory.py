"""One session's directory on the node, in the runtime directory of the user.

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
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import writing
from ..identifiers import NEWEST
from . import leftovers, runtime_directory, session_lookup, socket_links
from . import socket_relay as relay
from .owned_directory import OwnedDirectory
from .session_paths import SessionPaths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Callable

    from .socket_relay import PersistentSocket, RelayEnd

_MAX_LOG_BYTES = 1 << 20  # of sshd.log; as much comes in a second, at most, before it is cut


class SessionDirectory:
    """One session's directory, sockets and links on the node.

    A context manager that leaves nothing behind. Entering it raises JlabError.
    """

    def __init__(self, runtime_dir: Path, name: str, session_id: str) -> None:
        self.runtime_dir = runtime_dir
        self.name = name
        self.paths = SessionPaths(leftovers.new_path(runtime_dir))
        self.listeners: set[PersistentSocket] = set()  # of the sockets in here
        self._id = session_id
        self._owned = OwnedDirectory(runtime_dir, self.paths)
        self._links = socket_links.SessionLinks(runtime_dir, self.paths, name)
        self._is_over = False

    @property
    def path(self) -> Path:
        """The directory itself."""
        return self.paths.directory

    def __enter__(self) -> SessionDirectory:
        try:
            with contextlib.ExitStack() as stack:
                runtime_directory.make(self.runtime_dir)
                stack.callback(self.__exit__)
                with runtime_directory.locked(self.runtime_dir):
                    self._prune()
                    self.restore()
                writing.write_atomically(self.paths.starting, self._id)
                stack.pop_all()
        except OSError as error:
            where = error.filename or self.runtime_dir
            raise JlabError(f"cannot use {where}: {error.strerror}") from error
        return self

    def restore(self) -> None:
        """Make what is missing, with the lock of the runtime directory; raises OSError, JlabError.

        Nothing is made after the end: whoever asks may have waited for the lock for that long.
        """
        if not self._is_over:
            self._owned.make()
            self._links.restore()

    def is_complete(self) -> bool:
        """Return whether all of it is as it was made; raises JlabError where it is another's."""
        return (
            runtime_directory.check(self.runtime_dir) is not None
            and self._owned.is_complete()
            and all(listener.exists() for listener in self.listeners)
            and self._links.are_complete(self._listening_paths())
        )

    def __exit__(self, *_: object) -> None:
        # Where the lock cannot be had, all of it stays, known as stale, for another to remove.
        with contextlib.suppress(OSError, JlabError), runtime_directory.locked(self.runtime_dir):
            self._owned.remove()
            self._is_over = True
            self._owned.release()
            socket_links.repair(self.runtime_dir)

    def claim_links(self) -> None:
        """Let `ssh -L` to the newest socket of each name lead to this session's for its own.

        Raises JlabError, OSError.
        """
        with runtime_directory.locked(self.runtime_dir):
            socket_links.claim(self.runtime_dir, self.path)
        self._links.note_claimed(self._listening_paths())

    def _listening_paths(self) -> list[Path]:
        """Return the sockets that are to be there; another may lie there that is being removed."""
        return [each.path for each in self.listeners if isinstance(each, relay.Listener)]

    def remove_stale(self) -> None:
        """Remove what killed sessions left; not now, if another session is at it."""
        with contextlib.suppress(OSError, JlabError):
            # This is called for each connection, and mostly there is nothing to remove.
            if leftovers.stale(self.runtime_dir):
                with runtime_directory.locked(self.runtime_dir, timeout=0):
                    self._prune()

    def _prune(self) -> None:
        if leftovers.remove(self.runtime_dir):
            socket_links.repair(self.runtime_dir)

    def shorten_logs(self) -> None:
        """Cut sshd.log: whoever reaches the endpoint can make it grow, and so fill the disk."""
        with contextlib.suppress(OSError):
            writing.keep_tail(self.paths.sshd_log, _MAX_LOG_BYTES)

    def mark_ready(self) -> None:
        """Let the session count as `starting` no longer; raises OSError."""
        self.paths.starting.unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def relay(self, jupyterlab: PersistentSocket) -> AsyncIterator[None]:
        """Let the links lead to JupyterLab, which listens on `direct`.

        Raises JlabError, OSError.
        """
        loop = asyncio.get_running_loop()

        async def connect(pid: int, make: Callable[[], RelayEnd]) -> None:
            session = session_lookup.session_of_ancestor(pid, self.runtime_dir) or self.path
            await loop.create_unix_connection(make, str(session / session_lookup.DIRECT))

        newest = self.paths.socket(NEWEST)
        async with relay.relay_unix(newest, connect, listeners=self.listeners):
            self.listeners.add(jupyterlab)
            self._links.is_named = True
            try:
                self.restore()
                self.claim_links()
                yield
            finally:
                self._links.is_named = False
                self.listeners.discard(jupyterlab)
