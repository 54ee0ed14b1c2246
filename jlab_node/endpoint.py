"""The session's own ssh endpoint: a TCP listener that hands each connection to `sshd -i`."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import TYPE_CHECKING

from .errors import JlabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from .processes import Children

_BACKLOG = 128
_LONGEST_LINE = 256  # RFC 4253: a version line has at most 255
_MOST_CONNECTIONS = 100  # at once: whoever can reach the port can make it start an sshd


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


def is_taken(host: str, port: int) -> bool:
    """Whether somebody has the port right now."""
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return True
    return False


def greeting(nonce: str) -> bytes:
    """The first line that a client gets. RFC 4253, 4.2: lines may come before the version."""
    return f"jlab {nonce}\r\n".encode("ascii")


async def serve(
    listener: socket.socket,
    *,
    nonce: str,
    command: Sequence[str],
    children: Children,
    before: Callable[[], None],
) -> None:
    """Call `before` and start `command` on each connection, until cancelled.

    sshd gets the socket itself, so it knows its peer and no byte passes through this process.
    """
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    places = asyncio.Semaphore(_MOST_CONNECTIONS)
    while True:
        await places.acquire()
        try:
            connection, _ = await loop.sock_accept(listener)
        except OSError:  # the client is gone already, or no descriptor is free
            places.release()
            await asyncio.sleep(0.1)
            continue
        try:
            with connection:
                before()
                connection.setblocking(True)
                connection.sendall(greeting(nonce))  # fits an empty buffer: does not block
                child = children.start(
                    command, stdin=connection.fileno(), stdout=connection.fileno()
                )
        except (OSError, JlabError):
            places.release()
        else:
            child.ended.add_done_callback(lambda _: places.release())


def read_line(connection: socket.socket, *, timeout: float) -> bytes:
    """The first line that comes within `timeout` seconds; raises OSError.

    Byte by byte: what follows belongs to ssh.
    """
    deadline = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line
