"""What a session exposes beside JupyterLab: it answers `jlab-node expose`, and relays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from . import ports, relay, sessions
from .errors import JlabError
from .expose import Answer, Request, parse_request, render
from .record import MAX_EXPOSED
from .user_directory import NEWEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Callable

    from .aside import Aside
    from .relay import Side, Way
    from .session_directory import SessionDirectory
    from .sessions import Publication

_PATIENCE = 10.0  # seconds for a request to arrive
_HOME_TIMEOUT = 10.0  # seconds for ~/.jlab to be read or written


@contextlib.asynccontextmanager
async def serving(
    place: SessionDirectory, publication: Publication, at_home: Aside
) -> AsyncIterator[None]:
    """Take requests for as long as this lasts; nothing stays exposed after it."""
    exposed = Exposed(place, publication, at_home)
    async with relay.serving(place.control, exposed.serve, kept=place.listeners):
        try:
            yield
        finally:
            await exposed.close()


class Exposed:
    """What one session exposes: by which name, to which port."""

    def __init__(self, place: SessionDirectory, publication: Publication, at_home: Aside) -> None:
        self._place = place
        self._publication = publication
        self._at_home = at_home
        self._ports: dict[str, int] = {}
        self._open: dict[str, contextlib.AsyncExitStack] = {}
        self._one_at_a_time = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request that comes over one connection."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.TimeoutError):
            try:
                line = await asyncio.wait_for(reader.readline(), _PATIENCE)
            except ValueError:  # longer than any request
                return
            writer.write(await self._answer(line))
            await writer.drain()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = parse_request(line)
            async with self._one_at_a_time:
                await self._do(request)
        except JlabError as error:
            return render(error)
        except asyncio.TimeoutError:
            return render(JlabError(f"{self._publication.directory} does not answer"))
        except OSError as error:  # a full disk
            return render(JlabError(f"{error.filename or 'a socket'}: {error.strerror}"))
        return render(Answer(self._publication.record.id, self._ports))

    async def _do(self, request: Request) -> None:
        if request.name is None:
            return
        if request.port is None:
            await self._end(request.name)
        else:
            await self._check(request.name, request.port)
            try:
                await self._expose(request.name, request.port)
            except (JlabError, OSError, asyncio.TimeoutError):
                self._at_home.do(self._amendment(self._ports))  # if it is only late
                with contextlib.suppress(JlabError, OSError):
                    await asyncio.to_thread(self._place.take_links)  # back to who had the name
                raise

    async def _check(self, name: str, port: int) -> None:
        directory = self._publication.directory
        running, _ = await self._at_home.done(
            lambda: sessions.read_all(directory), timeout=_HOME_TIMEOUT
        )
        if name in (NEWEST, *(each.record.name for each in running)):
            raise JlabError(f"{name} is the name of a session: take another one for port {port}")
        if name not in self._ports and len(self._ports) == MAX_EXPOSED:
            raise JlabError(f"{MAX_EXPOSED} ports are exposed: end one of them with --stop first")
        if not ports.is_mine(port):
            host = f"{ports.HOST}:{port} of {socket.gethostname()}"
            raise JlabError(f"nothing of yours listens on {host}: start it first")

    async def _expose(self, name: str, port: int) -> None:
        """If `name` is exposed already, new connections lead to `port` from now on."""
        path = self._place.socket(name)
        async with contextlib.AsyncExitStack() as stack:
            if name in self._open:
                os.utime(path)  # the newest of this name has the link
            else:
                carrying = relay.carrying(path, self._way(name), kept=self._place.listeners)
                await stack.enter_async_context(carrying)
            await asyncio.to_thread(self._place.take_links)
            await self._publish({**self._ports, name: port})
            self._ports[name] = port
            self._open.setdefault(name, stack.pop_all())

    async def _end(self, name: str) -> None:
        if name not in self._open:
            names = ", ".join(self._ports) or "none"
            raise JlabError(f"nothing is exposed as {name}; exposed: {names}")
        del self._ports[name]
        await self._open.pop(name).aclose()
        await asyncio.to_thread(self._place.take_links)
        await self._publish(self._ports)

    async def _publish(self, ports: dict[str, int]) -> None:
        await self._at_home.done(self._amendment(ports), timeout=_HOME_TIMEOUT)

    def _amendment(self, ports: dict[str, int]) -> Callable[[], None]:
        exposed = ",".join(ports)
        return lambda: self._publication.amend(exposed=exposed)

    def _way(self, name: str) -> Way:
        async def connect(_: int, make: Callable[[], Side]) -> None:
            await _connect_to_mine(self._ports.get(name, 0), make)

        return connect

    async def close(self) -> None:
        """End all of it."""
        for stack in list(self._open.values()):
            await stack.aclose()


async def _connect_to_mine(port: int, make: Callable[[], Side]) -> None:
    """Raises OSError where another user's process has taken the port since it was exposed."""
    if ports.is_mine(port):
        transport, _ = await asyncio.get_running_loop().create_connection(make, ports.HOST, port)
        if ports.is_mine(port):  # still: nobody had it for a moment
            return
        transport.abort()
    raise ConnectionRefusedError
