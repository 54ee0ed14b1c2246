"""What a session exposes beside JupyterLab: it answers `jlab-node expose`, and relays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..identifiers import NEWEST
from ..registry import records
from ..registry.record import MAX_EXPOSED
from ..runtime import ports, runtime_directory, socket_relay
from ..runtime.control_protocol import Request, Response, parse_request, render
from ..runtime.socket_links import DirectLink
from .time_limit import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Callable

    from ..registry.records import OwnRecord
    from ..runtime.session_directory import SessionDirectory
    from ..runtime.socket_relay import ConnectTarget, RelayEnd
    from .io_thread import IoThread

_REQUEST_TIMEOUT = 10.0  # seconds for a request to arrive
_HOME_TIMEOUT = 10.0  # seconds for ~/.jlab to be read or written


@contextlib.asynccontextmanager
async def serving(
    place: SessionDirectory, publication: OwnRecord, home_io: IoThread
) -> AsyncIterator[None]:
    """Take requests for as long as this lasts; nothing stays exposed after it."""
    exposed = Exposed(place, publication, home_io)
    async with socket_relay.serve_unix(place.control, exposed.serve, listeners=place.listeners):
        try:
            yield
        finally:
            await exposed.close()


class Exposed:
    """What one session exposes: by which name, to which port."""

    def __init__(self, place: SessionDirectory, publication: OwnRecord, home_io: IoThread) -> None:
        self._place = place
        self._publication = publication
        self._home_io = home_io
        self._targets: dict[str, int | str] = {}
        self._open: dict[str, contextlib.AsyncExitStack] = {}
        self._straight: dict[str, DirectLink] = {}
        self._lock = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request that comes over one connection."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.TimeoutError):
            try:
                line = await within(_REQUEST_TIMEOUT, reader.readline())
            except ValueError:  # longer than any request
                return
            writer.write(await self._answer(line))
            await writer.drain()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = parse_request(line)
            async with self._lock:
                await self._do(request)
        except JlabError as error:
            return render(error)
        except asyncio.TimeoutError:
            return render(JlabError(f"{self._publication.directory} does not answer"))
        except OSError as error:  # a full disk
            return render(JlabError(f"{error.filename or 'a socket'}: {error.strerror}"))
        by_port = {name: each for name, each in self._targets.items() if isinstance(each, int)}
        by_path = {name: each for name, each in self._targets.items() if isinstance(each, str)}
        return render(Response(self._publication.record.id, by_port, by_path))

    async def _do(self, request: Request) -> None:
        if request.name is None:
            return
        target = request.port or request.path
        if target is None:
            await self._end(request.name)
        else:
            await self._check(request.name, target)
            try:
                await self._expose(request.name, target)
            except (JlabError, OSError, asyncio.TimeoutError):
                self._home_io.submit(self._amendment(self._targets))  # if it is only late
                await self._lead_straight(request.name, self._targets.get(request.name))
                with contextlib.suppress(JlabError, OSError):
                    await asyncio.to_thread(self._place.claim_links)  # back to who had the name
                raise

    async def _check(self, name: str, target: int | str) -> None:
        directory = self._publication.directory
        running, _ = await self._home_io.run(
            lambda: records.read_all(directory), timeout=_HOME_TIMEOUT
        )
        what = f"port {target}" if isinstance(target, int) else target
        if name in (NEWEST, *(each.record.name for each in running)):
            raise JlabError(
                f"{name} is the name of a session", remedy=f"take another one for {what}"
            )
        if name not in self._targets and len(self._targets) == MAX_EXPOSED:
            raise JlabError(
                f"{MAX_EXPOSED} ports are exposed", remedy="end one of them with --stop first"
            )
        if isinstance(target, int):
            target = f"{ports.HOST}:{target}" if not ports.of_mine(target) else ""
        elif _leads_to_mine(target):
            target = ""
        if target:
            host = f"{target} of {socket.gethostname()}"
            raise JlabError(f"nothing of yours listens on {host}", remedy="start it first")

    async def _expose(self, name: str, target: int | str) -> None:
        """If `name` is exposed already, new connections lead to `target` from now on."""
        path = self._place.socket(name)
        async with contextlib.AsyncExitStack() as stack:
            if name in self._open:
                os.utime(path)  # the newest of this name has the link
            else:
                carrying = socket_relay.relay_unix(
                    path, self._way(name), listeners=self._place.listeners
                )
                await stack.enter_async_context(carrying)
            await self._lead_straight(name, target)
            await asyncio.to_thread(self._place.claim_links)
            await self._publish({**self._targets, name: target})
            self._targets[name] = target
            self._open.setdefault(name, stack.pop_all())

    async def _end(self, name: str) -> None:
        if name not in self._open:
            names = ", ".join(self._targets) or "none"
            raise JlabError(f"nothing is exposed as {name}; exposed: {names}")
        del self._targets[name]
        await self._lead_straight(name, None)
        await self._open.pop(name).aclose()
        await asyncio.to_thread(self._place.claim_links)
        await self._publish(self._targets)

    async def _lead_straight(self, name: str, target: int | str | None) -> None:
        """Past the relay, to a socket that nobody else can ever replace."""
        straight = self._straight.pop(name, None)
        if straight:
            self._place.listeners.discard(straight)
            straight.end()
        if isinstance(target, str) and runtime_directory.is_ours_alone(Path(target)):
            straight = self._straight[name] = DirectLink(self._place.path, name, target)
            await straight.start()
            self._place.listeners.add(straight)

    async def _publish(self, targets: dict[str, int | str]) -> None:
        await self._home_io.run(self._amendment(targets), timeout=_HOME_TIMEOUT)

    def _amendment(self, targets: dict[str, int | str]) -> Callable[[], None]:
        exposed = ",".join(targets)
        return lambda: self._publication.update(exposed=exposed)

    def _way(self, name: str) -> ConnectTarget:
        async def connect(_: int, make: Callable[[], RelayEnd]) -> None:
            target = self._targets.get(name, 0)
            if isinstance(target, int):
                await _connect_to_mine(target, make)
            else:
                await _connect_to_my_socket(target, make)

        return connect

    async def close(self) -> None:
        """End all of it."""
        for stack in list(self._open.values()):
            await stack.aclose()


async def _connect_to_mine(port: int, make: Callable[[], RelayEnd]) -> None:
    """Raises OSError where another user's process has taken the port since it was exposed."""
    address = ports.of_mine(port)
    if address:
        transport, _ = await asyncio.get_running_loop().create_connection(make, address, port)
        if ports.of_mine(port) == address:  # still: nobody had it for a moment
            return
        transport.abort()
    raise ConnectionRefusedError


async def _connect_to_my_socket(path: str, make: Callable[[], RelayEnd]) -> None:
    """Raises OSError where another user's process has it: who listens is asked, not the path."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        await loop.sock_connect(connection, path)
        if socket_relay.peer_credentials(connection)[1] != os.geteuid():
            raise ConnectionRefusedError
        await loop.create_unix_connection(make, sock=connection)
    except BaseException:
        connection.close()
        raise


def _leads_to_mine(path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(path)
        return socket_relay.peer_credentials(connection)[1] == os.geteuid()
    return False
