"""Unix sockets of the session: serve their connections, or carry them to where each is to lead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Protocol, cast

from ..errors import JlabError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine
    from pathlib import Path
    from typing import Any, Callable

    Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    # Connects what the second argument makes to where the process of that number is to get.
    ConnectTarget = Callable[[int, Callable[[], "RelayEnd"]], Awaitable[object]]


class PersistentSocket(Protocol):
    """A socket that is to be there for as long as the session."""

    def exists(self) -> bool:
        """Return whether the socket is there, and is this one."""

    async def start(self) -> None:
        """Listen on it, if it is not there; raises JlabError."""


class Listener:
    """What listens on the unix socket `path`, and can do so again when that has been removed."""

    _server: asyncio.AbstractServer | None = None
    _number = 0  # of the socket's inode

    def __init__(self, path: Path, listen: Callable[[], Awaitable[asyncio.AbstractServer]]) -> None:
        self.path = path
        self._listen = listen

    def exists(self) -> bool:
        """Return whether the socket is there, and is this one."""
        try:
            return self.path.lstat().st_ino == self._number
        except OSError:
            return False

    async def start(self) -> None:
        """Listen, if the path does not lead here yet; raises JlabError."""
        if self.exists():
            return
        self.close()
        try:
            self._server = await self._listen()
            self._number = self.path.lstat().st_ino
        except OSError as error:
            raise JlabError(f"cannot listen on {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Stop listening. What has been accepted goes on."""
        if self._server:
            self._server.close()
            self._server = None
        if self.exists():
            self.path.unlink()


@contextlib.asynccontextmanager
async def serve_unix(
    path: Path, serve: Server, *, listeners: set[PersistentSocket]
) -> AsyncIterator[None]:
    """Serve each connection to the unix socket `path` by `serve`; at the end they are cut off.

    What listens is put into `listeners`. Raises JlabError.
    """
    tasks: set[asyncio.Future[None]] = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with _listening(path, lambda: asyncio.start_unix_server(start, path), listeners):
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def relay_unix(
    path: Path, connect_target: ConnectTarget, *, listeners: set[PersistentSocket]
) -> AsyncIterator[None]:
    """Relay connections to the unix socket `path` to where `connect_target` leads the peer's pid.

    What listens is put into `listeners`. Raises JlabError.
    """
    loop = asyncio.get_running_loop()
    carried: set[RelayEnd] = set()

    def make() -> RelayEnd:
        return RelayEnd(carried, connect_target)

    async with _listening(path, lambda: loop.create_unix_server(make, path), listeners):
        try:
            yield
        finally:
            for side in list(carried):
                side.abort()


@contextlib.asynccontextmanager
async def _listening(
    path: Path,
    listen: Callable[[], Awaitable[asyncio.AbstractServer]],
    listeners: set[PersistentSocket],
) -> AsyncIterator[None]:
    listener = Listener(path, listen)
    await listener.start()
    listeners.add(listener)
    try:
        yield
    finally:
        listeners.discard(listener)
        listener.close()


class RelayEnd(asyncio.Protocol):
    """One end of a connection that is carried: what it says goes to the other end.

    Not streams: a request and its answer would take twice as long.
    """

    _transport: asyncio.Transport

    def __init__(self, carried: set[RelayEnd], connect_target: ConnectTarget | None = None) -> None:
        self._carried = carried
        self._connect_target = connect_target  # of the end that came to us
        self._peer: RelayEnd | None = None
        self._buffer = b""  # what it has said before there was another end
        self._has_finished = False
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._carried.add(self)
        if self._connect_target:
            self._connecting = asyncio.ensure_future(self._connect(self._connect_target))

    async def _connect(self, connect_target: ConnectTarget) -> None:
        peer = RelayEnd(self._carried)
        try:
            await connect_target(
                peer_credentials(self._transport.get_extra_info("socket"))[0], lambda: peer
            )
        except OSError:
            self.abort()
            return
        self._begin(peer)
        peer._begin(self)

    def _begin(self, peer: RelayEnd) -> None:
        """Send what was held back to the other end, and all that follows as well."""
        self._peer = peer
        if self._buffer:
            peer._transport.write(self._buffer)
            self._buffer = b""
        if self._has_finished:
            self._finish(peer)
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._peer:
            self._peer._transport.write(data)
        else:
            self._buffer += data
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._has_finished = True
        if self._peer:
            self._finish(self._peer)
        return True  # it may still be told something

    def _finish(self, peer: RelayEnd) -> None:
        if not peer._transport.is_closing():
            peer._transport.write_eof()
        if peer._has_finished:
            self._transport.close()
            peer._transport.close()

    def pause_writing(self) -> None:
        if self._peer:
            self._peer._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._peer:
            self._peer._transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self._carried.discard(self)
        if self._connecting:
            self._connecting.cancel()
        if self._peer:
            self._peer._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()


def peer_credentials(connection: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end of a unix socket; 0 and -1 if nobody can tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0, -1
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, 12))
    return pid, user
