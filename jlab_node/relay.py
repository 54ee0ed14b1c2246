"""Unix sockets of the session: serve their connections, or carry them to where each is to lead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from .errors import JlabError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine
    from pathlib import Path
    from typing import Any, Callable

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
    Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    Way = Callable[[int], Awaitable[Streams]]  # from the pid of who asks

CHUNK = 256 * 1024


@contextlib.asynccontextmanager
async def serving(path: Path, serve: Server) -> AsyncIterator[None]:
    """`serve` each connection to the unix socket `path`. At the end they are cut off."""
    tasks: set[asyncio.Future[None]] = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        server = await asyncio.start_unix_server(start, path, limit=CHUNK)
    except OSError as error:
        raise JlabError(f"cannot listen on {path}: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def carrying(path: Path, way: Way) -> contextlib.AbstractAsyncContextManager[None]:
    """Carry connections to the unix socket `path` to where `way` leads for the peer's pid."""
    return serving(path, lambda reader, writer: _carry(reader, writer, way))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
    try:
        far_reader, far_writer = await way(_peer(writer))
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    finally:
        for each in (writer, far_writer):
            each.close()


def _peer(writer: asyncio.StreamWriter) -> int:
    """The process at the other end of a unix socket; 0 where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    return int(
        struct.unpack(
            "3i", writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option, 12)
        )[0]
    )


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; then the other is told, and may still finish what it has to say."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
