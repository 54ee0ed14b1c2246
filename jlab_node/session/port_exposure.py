"""What a session exposes beside JupyterLab: it answers `jlab-node expose`, and relays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..identifiers import NEWEST
from ..registry import records
from ..registry.record import MAX_EXPOSED
from ..runtime import socket_relay
from ..runtime.control_protocol import Request, Response, parse_request, render
from . import exposed_targets
from .exposed_targets import DirectLinks
from .time_limit import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Container
    from typing import Callable

    from ..registry.own_record import OwnRecord
    from ..runtime.session_directory import SessionDirectory
    from ..runtime.socket_relay import ConnectTarget, RelayEnd
    from .exposed_targets import Target
    from .io_thread import IoThread

_REQUEST_TIMEOUT = 10.0  # seconds for a request to arrive
_HOME_TIMEOUT = 10.0  # seconds for ~/.jlab to be read or written


@contextlib.asynccontextmanager
async def expose_ports(
    session_dir: SessionDirectory, own_record: OwnRecord, home_io: IoThread
) -> AsyncIterator[None]:
    """Take requests for as long as this lasts; nothing stays exposed after it.

    Raises JlabError where the session cannot listen for them.
    """
    exposure = PortExposure(session_dir, own_record, home_io)
    async with socket_relay.serve_unix(
        session_dir.paths.control, exposure.serve, listeners=session_dir.listeners
    ):
        try:
            yield
        finally:
            await exposure.close()


class PortExposure:
    """What one session exposes: by which name, to which target."""

    def __init__(
        self, session_dir: SessionDirectory, own_record: OwnRecord, home_io: IoThread
    ) -> None:
        self._session_dir = session_dir
        self._own_record = own_record
        self._home_io = home_io
        self._targets: dict[str, Target] = {}
        self._open: dict[str, contextlib.AsyncExitStack] = {}  # what ends the relay of a name
        self._direct_links = DirectLinks(session_dir)
        self._lock = asyncio.Lock()  # one request at a time

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the request that comes over one connection."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.TimeoutError):
            try:
                line = await within(_REQUEST_TIMEOUT, reader.readline())
            except ValueError:  # longer than any request
                return
            writer.write(await self._response(line))
            await writer.drain()

    async def _response(self, line: bytes) -> bytes:
        """Return the line that answers the request `line`, once it has been done or has failed."""
        try:
            request = parse_request(line)
            async with self._lock:
                await self._do(request)
        except JlabError as error:
            return render(error)
        except asyncio.TimeoutError:
            return render(JlabError(f"{self._own_record.directory} does not answer"))
        except OSError as error:  # a full disk
            return render(JlabError(f"{error.filename or 'a socket'}: {error.strerror}"))
        by_port = {name: each for name, each in self._targets.items() if isinstance(each, int)}
        by_path = {name: each for name, each in self._targets.items() if isinstance(each, str)}
        return render(Response(self._own_record.record.id, by_port, by_path))

    async def _do(self, request: Request) -> None:
        """Do what is asked for; raises JlabError, OSError, asyncio.TimeoutError."""
        if request.name is None:
            return
        target = request.port or request.path
        if target is None:
            await self._end(request.name)
            return
        directory = self._own_record.directory
        running, _ = await self._home_io.run(
            lambda: records.read_all(directory), timeout=_HOME_TIMEOUT
        )
        sessions = {stored.record.name for stored in running}
        _refuse_unusable(request.name, target, sessions=sessions, exposed=self._targets)
        try:
            await self._expose(request.name, target)
        except (JlabError, OSError, asyncio.TimeoutError):
            self._home_io.submit(self._registry_update(self._targets))  # if it is only late
            await self._direct_links.set(request.name, self._targets.get(request.name))
            with contextlib.suppress(JlabError, OSError):
                # The link goes back to the session that had the name.
                await asyncio.to_thread(self._session_dir.claim_links)
            raise

    async def _expose(self, name: str, target: Target) -> None:
        """Let `name` lead to `target`; connections that were made before stay where they are."""
        path = self._session_dir.paths.socket(name)
        async with contextlib.AsyncExitStack() as stack:
            if name in self._open:
                os.utime(path)  # the newest of this name has the link
            else:
                relaying = socket_relay.relay_unix(
                    path, self._relay_target(name), listeners=self._session_dir.listeners
                )
                await stack.enter_async_context(relaying)
            await self._direct_links.set(name, target)
            await asyncio.to_thread(self._session_dir.claim_links)
            await self._update_registry({**self._targets, name: target})
            self._targets[name] = target
            self._open.setdefault(name, stack.pop_all())

    async def _end(self, name: str) -> None:
        """Let `name` lead nowhere any more; raises JlabError if it does not lead anywhere."""
        if name not in self._open:
            names = ", ".join(self._targets) or "none"
            raise JlabError(f"nothing is exposed as {name}; exposed: {names}")
        del self._targets[name]
        await self._direct_links.set(name, None)
        await self._open.pop(name).aclose()
        await asyncio.to_thread(self._session_dir.claim_links)
        await self._update_registry(self._targets)

    async def _update_registry(self, targets: dict[str, Target]) -> None:
        await self._home_io.run(self._registry_update(targets), timeout=_HOME_TIMEOUT)

    def _registry_update(self, targets: dict[str, Target]) -> Callable[[], None]:
        """Return the call that writes the names of `targets` to the session's record."""
        exposed = ",".join(targets)
        return lambda: self._own_record.update(exposed=exposed)

    def _relay_target(self, name: str) -> ConnectTarget:
        """Return what connects a client of `name` to where that leads at the moment."""

        async def connect(_: int, make: Callable[[], RelayEnd]) -> None:
            await exposed_targets.connect(self._targets.get(name, 0), make)

        return connect

    async def close(self) -> None:
        """End all that is exposed."""
        for stack in list(self._open.values()):
            await stack.aclose()


def _refuse_unusable(
    name: str, target: Target, *, sessions: Container[str], exposed: Collection[str]
) -> None:
    """Raise JlabError if `target` cannot be exposed as `name`.

    `sessions` has the names of the sessions that run, `exposed` those that lead somewhere already.
    """
    if name == NEWEST or name in sessions:
        what = exposed_targets.describe(target)
        raise JlabError(f"{name} is the name of a session", remedy=f"take another one for {what}")
    if name not in exposed and len(exposed) == MAX_EXPOSED:
        raise JlabError(
            f"{MAX_EXPOSED} ports are exposed", remedy="end one of them with --stop first"
        )
    address = exposed_targets.address_without_listener(target)
    if address:
        host = f"{address} of {socket.gethostname()}"
        raise JlabError(f"nothing of yours listens on {host}", remedy="start it first")
