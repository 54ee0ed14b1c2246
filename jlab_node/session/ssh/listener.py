"""The session's own ssh endpoint: a TCP listener that hands its connections to `sshd -i`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import socket
from typing import TYPE_CHECKING

from ...errors import JlabError
from ...runtime import handshake
from .. import descriptors
from ..rate_limit import Rate
from ..time_limit import within
from . import sshd

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Callable

    from ..child_processes import Child

_BACKLOG = 4096  # as many as Linux lets it have: a crowd shall keep nobody out
_MOST_SILENT = 500  # connections at once that have said nothing, if so many descriptors there are
_PATIENCE = 10.0  # seconds that they may take
_MOST_STRANGERS = 10  # at once: whoever can reach the port can make it start an sshd
_STRANGERS_PER_SECOND = 5.0
_POLL = 0.05  # seconds between two looks at a line that has begun
_MOST_LOOKS = 40


def listen(ports: range | None, *, loopback: bool) -> socket.socket:
    """A listening socket: no moment between picking a port and having it. Raises JlabError.

    `ports` None lets the kernel pick; a range is tried in random order, so that the many users
    of a node do not all begin with the same port.
    """
    for port in [0] if ports is None else random.sample(ports, len(ports)):
        try:
            return _bind(port, loopback=loopback)
        except OSError:
            continue
    where = "any port" if ports is None else f"{ports[0]}-{ports[-1]}: all of them are taken"
    raise JlabError(f"cannot listen on {where}")


def _bind(port: int, *, loopback: bool) -> socket.socket:
    if loopback:
        return socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
        )
    return socket.create_server(("", port), backlog=_BACKLOG)


class Endpoint:
    """Greets whoever connects, and for those who speak ssh then calls `start` with the connection.

    Everybody who can reach the port may do so, but only few at once: except for the owner, who is
    known by the knock, which stands in the record. So others cannot crowd the owner out. sshd gets
    the socket itself: it knows its peer, and no byte passes through this process.
    """

    def __init__(
        self,
        *,
        nonce: str,
        secret: str,
        start: Callable[[int], Awaitable[Child]],
        strangers_per_second: float = _STRANGERS_PER_SECOND,
    ) -> None:
        self._greeting = handshake.greeting(nonce)
        self._knock = handshake.knock(secret)
        self._start = start
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: list[asyncio.Task[None]] = []  # who has said nothing yet, the oldest first
        self._most_silent = descriptors.share(3, most=_MOST_SILENT)
        self._strangers = 0  # who may still have no key
        self._served: set[Child] = set()
        self._rate = Rate(_MOST_STRANGERS, strangers_per_second)

    async def serve(self, listener: socket.socket) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:  # the client is gone already, or no descriptor is free
                    await asyncio.sleep(0.1)
                    continue
                task = loop.create_task(self._attend(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._silent.append(task)
                if len(self._silent) > self._most_silent:
                    self._silent.pop(0).cancel()  # the owner would have knocked at once
                await asyncio.sleep(0)  # accepting does not wait while there is a crowd
        finally:
            for task in self._tasks:
                task.cancel()

    def cut(self) -> None:
        """End the connections that are served."""
        for child in self._served:
            child.signal(signal.SIGTERM)

    async def _attend(self, connection: socket.socket) -> None:
        """One connection, until it is sshd's: the owner's, or one of few strangers'."""
        try:
            with connection:
                if await self._hear(connection):
                    await self._admit(connection)
                elif self._strangers < _MOST_STRANGERS and self._rate.take():
                    self._strangers += 1
                    try:
                        await self._try(connection)
                    finally:
                        self._strangers -= 1
        except (OSError, asyncio.TimeoutError):
            return

    async def _admit(self, connection: socket.socket) -> None:
        """The owner, who is told why if it cannot be."""
        try:
            await self._serve(connection)
        except JlabError as error:
            connection.sendall(handshake.sentence(str(error)))

    async def _try(self, connection: socket.socket) -> None:
        """A stranger, until it has shown a key."""
        with contextlib.suppress(JlabError):
            child = await self._serve(connection)
            connection.close()
            await asyncio.wait([child.ended], timeout=sshd.LOGIN_GRACE)

    async def _serve(self, connection: socket.socket) -> Child:
        connection.setblocking(True)
        child = await self._start(connection.fileno())
        self._served.add(child)
        child.ended.add_done_callback(lambda _: self._served.discard(child))
        return child

    async def _hear(self, connection: socket.socket) -> bool:
        """Greet, and tell the owner from a stranger; raises OSError, TimeoutError."""
        try:
            connection.setblocking(False)
            # sshd asks for it late: until then each small packet would wait for the last one's ACK.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.send(self._greeting)  # fits an empty buffer
            return await within(_PATIENCE, self._is_owner(connection))
        finally:
            task = asyncio.current_task()
            if task in self._silent:
                self._silent.remove(task)

    async def _is_owner(self, connection: socket.socket) -> bool:
        """Whether it knocks, or begins to speak ssh. What follows the knock is left for sshd."""
        for _ in range(_MOST_LOOKS):
            await _readable(connection)
            said = connection.recv(len(self._knock), socket.MSG_PEEK)
            if said.startswith(b"SSH-"):
                return False
            if len(said) == len(self._knock):
                if not secrets.compare_digest(said, self._knock):
                    raise ConnectionError("it does not know this session")
                connection.recv(len(said))
                return True
            begins_well = b"SSH-".startswith(said[:4]) or b"jlab".startswith(said[:4])
            if not said or not begins_well:
                raise ConnectionError("it says something else, or has hung up")
            await asyncio.sleep(_POLL)  # the rest is still on its way
        raise ConnectionError("it does not finish its line")


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
