"""What a session may expose: a port of the node or a unix socket, if the user listens there.

Other users' programs may take a port or a path at any time, so it is asked who listens at each
connection, and never only who did when it was exposed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ..runtime import ports, runtime_directory, socket_relay
from ..runtime.socket_links import DirectLink

if TYPE_CHECKING:
    from typing import Callable

    from ..runtime.session_directory import SessionDirectory
    from ..runtime.socket_relay import RelayEnd

Target = Union[int, str]  # a port of 127.0.0.1, or the path of a unix socket

_PROBE_TIMEOUT = 1.0  # seconds to connect to a unix socket


def describe(target: Target) -> str:
    """Return what a sentence calls the target."""
    return f"port {target}" if isinstance(target, int) else target


def address_without_listener(target: Target) -> str:
    """Return the address of the target if no process of the user listens there, else ""."""
    if isinstance(target, int):
        return "" if ports.of_mine(target) else f"{ports.HOST}:{target}"
    return "" if _is_my_socket(target) else target


def _is_my_socket(path: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PROBE_TIMEOUT)
        connection.connect(path)
        return socket_relay.peer_credentials(connection)[1] == os.geteuid()
    return False


async def connect(target: Target, make: Callable[[], RelayEnd]) -> None:
    """Connect what `make` returns to the target; raises OSError where another user has that now."""
    if isinstance(target, int):
        await _connect_to_port(target, make)
    else:
        await _connect_to_socket(target, make)


async def _connect_to_port(port: int, make: Callable[[], RelayEnd]) -> None:
    address = ports.of_mine(port)
    if address:
        transport, _ = await asyncio.get_running_loop().create_connection(make, address, port)
        if ports.of_mine(port) == address:  # still: nobody had it for a moment
            return
        transport.abort()
    raise ConnectionRefusedError


async def _connect_to_socket(path: str, make: Callable[[], RelayEnd]) -> None:
    """Connect to a unix socket, and ask who listens there rather than whose the path is."""
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


class DirectLinks:
    """Links that lead past the session's relay, to sockets that nobody else can ever replace."""

    def __init__(self, session_dir: SessionDirectory) -> None:
        self._session_dir = session_dir
        self._links: dict[str, DirectLink] = {}

    async def set(self, name: str, target: Target | None) -> None:
        """Let the link of that name lead to `target`, or end it where that is not safe.

        None: end it. Raises OSError.
        """
        link = self._links.pop(name, None)
        if link:
            self._session_dir.listeners.discard(link)
            link.end()
        if isinstance(target, str) and runtime_directory.is_ours_alone(Path(target)):
            link = self._links[name] = DirectLink(self._session_dir.path, name, target)
            await link.start()
            self._session_dir.listeners.add(link)
