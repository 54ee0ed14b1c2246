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
from ...runtime import ports as node_ports
from .. import descriptors
from ..rate_limit import TokenBucket
from ..time_limit import within
from . import sshd

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Callable

    from ..child_processes import Child

_RESTING, _RESTING_POLL = 65.0, 0.5  # seconds; Linux keeps a port after its last connection
_BACKLOG = 4096  # as many as Linux lets it have: a crowd shall keep nobody out
_MAX_PENDING = 500  # connections at once that have said nothing, if so many descriptors there are
_HANDSHAKE_TIMEOUT = 10.0  # seconds that they may take
_MAX_UNAUTHENTICATED = 10  # at once: whoever can reach the port can make it start an sshd
_UNAUTHENTICATED_PER_SECOND = 5.0
_POLL = 0.05  # seconds between two looks at a line that has begun
_MAX_PEEKS = 40


async def listen(
    ports: range | None, *, loopback: bool, resting: float = _RESTING
) -> socket.socket:
    """Return a socket that listens, so that no other process can take the port in between.

    `ports` None lets the kernel pick; a range is tried in random order, so that the many users
    of a node do not all begin with the same port. One that has just been used is waited for,
    `resting` seconds at most, where no other is free. Raises JlabError.
    """
    until = asyncio.get_running_loop().time() + resting
    while True:
        for port in [0] if ports is None else random.sample(ports, len(ports)):
            try:
                return _bind(port, loopback=loopback)
            except OSError:
                continue
        is_late = asyncio.get_running_loop().time() > until
        if ports is None or is_late or not node_ports.resting(ports):
            where = (
                "any port" if ports is None else f"{ports[0]}-{ports[-1]}: all of them are taken"
            )
            raise JlabError(f"cannot listen on {where}")
        await asyncio.sleep(_RESTING_POLL)


def _bind(port: int, *, loopback: bool) -> socket.socket:
    """Return a socket that listens at a port which it shares with no other socket; raises OSError.

    With SO_REUSEADDR, another user's that does not listen could have it as well, and be called in
    its place.
    """
    is_dual = not loopback and socket.has_dualstack_ipv6()
    made = socket.socket(socket.AF_INET6 if is_dual else socket.AF_INET)
    try:
        if is_dual:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((node_ports.HOST if loopback else "", port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


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
        client_token: str,
        start: Callable[[int], Awaitable[Child]],
        unauthenticated_per_second: float = _UNAUTHENTICATED_PER_SECOND,
    ) -> None:
        self._server_banner = handshake.server_banner(nonce)
        self._client_token = handshake.client_token(client_token)
        self._start = start
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: list[asyncio.Task[None]] = []  # who has said nothing yet, the oldest first
        self._max_pending = descriptors.share(3, most=_MAX_PENDING)
        self._unauthenticated = 0  # who may still have no key
        self._served: set[Child] = set()
        self._rate = TokenBucket(_MAX_UNAUTHENTICATED, unauthenticated_per_second)

    async def serve(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:  # the client is gone already, or no descriptor is free
                    await asyncio.sleep(0.1)
                    continue
                task = loop.create_task(self._handle(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self._pending.append(task)
                if len(self._pending) > self._max_pending:
                    self._pending.pop(0).cancel()  # the owner would have knocked at once
                await asyncio.sleep(0)  # accepting does not wait while there is a crowd
        finally:
            for task in self._tasks:
                task.cancel()

    def disconnect_all(self) -> None:
        """End the connections that are served."""
        for child in self._served:
            child.signal(signal.SIGTERM)

    async def _handle(self, connection: socket.socket) -> None:
        """Serve one connection until it is sshd's: the owner's, or one of few strangers'."""
        try:
            with connection:
                if await self._handshake(connection):
                    await self._serve_owner(connection)
                elif self._unauthenticated < _MAX_UNAUTHENTICATED and self._rate.take():
                    self._unauthenticated += 1
                    try:
                        await self._serve_unauthenticated(connection)
                    finally:
                        self._unauthenticated -= 1
        except (OSError, asyncio.TimeoutError):
            return

    async def _serve_owner(self, connection: socket.socket) -> None:
        """Serve the owner, who is told why if that cannot be done."""
        try:
            await self._serve(connection)
        except JlabError as error:
            connection.sendall(handshake.refusal(str(error)))

    async def _serve_unauthenticated(self, connection: socket.socket) -> None:
        """Serve a stranger, until it has shown a key."""
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

    async def _handshake(self, connection: socket.socket) -> bool:
        """Send the banner, and tell the owner from a stranger; raises OSError, TimeoutError."""
        try:
            connection.setblocking(False)
            # sshd asks for it late: until then each small packet would wait for the last one's ACK.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.send(self._server_banner)  # fits an empty buffer
            return await within(_HANDSHAKE_TIMEOUT, self._is_owner(connection))
        finally:
            task = asyncio.current_task()
            if task in self._pending:
                self._pending.remove(task)

    async def _is_owner(self, connection: socket.socket) -> bool:
        """Return whether it sends the client token, rather than begin to speak ssh.

        What follows the token is left for sshd. Raises OSError where it does neither.
        """
        for _ in range(_MAX_PEEKS):
            await _readable(connection)
            said = connection.recv(len(self._client_token), socket.MSG_PEEK)
            if said.startswith(b"SSH-"):
                return False
            if len(said) == len(self._client_token):
                if not secrets.compare_digest(said, self._client_token):
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
