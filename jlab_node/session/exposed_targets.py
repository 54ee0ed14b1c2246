"""What a session may expose: a port of the node or a unix socket, if the user listens there.

Other users' programs may take a port or a path at any time, so it is asked who listens at each
connection, and never only who did when it was exposed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ..runtime import connection_owner, ports, runtime_directory, socket_relay
from ..runtime.socket_links import DirectLink

if TYPE_CHECKING:
    from typing import Callable

    from ..runtime.session_directory import SessionDirectory
    from ..runtime.socket_relay import RelayEnd

Target = Union[int, str]  # a port of 127.0.0.1, or the path of a unix socket

_PROBE_TIMEOUT = 1.0  # seconds to connect to a unix socket
_TRIES = 3


def describe(target: Target) -> str:
    """Return what a sentence calls the target."""
    return f"port {target}" if isinstance(target, int) else target


def address_without_listener(target: Target) -> str:
    """Return the address of the target if no process of the user listens there, else ""."""
    if isinstance(target, int):
        return "" if ports.address_of_my_listener(target) else f"{ports.HOST}:{target}"
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
    """Connect to a port of 127.0.0.1, and ask who answers rather than who listens there.

    Somebody who waits for us at each port that we may come from shuts us out, but for addresses
    that nobody can guess.
    """
    for _ in range(_TRIES):
        address = ports.address_of_my_listener(port)
        if not address:
            break
        connection = await _connected(address, port)
        try:
            # Who listens has to be the same still: nobody had it for a moment.
            if (
                connection_owner.is_ours(connection)
                and ports.address_of_my_listener(port) == address
            ):
                await asyncio.get_running_loop().create_connection(make, sock=connection)
                return
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise ConnectionRefusedError


async def _connected(address: str, port: int) -> socket.socket:
    """Return a connection from an address of this machine's own that cannot be guessed."""
    is_ipv6 = ":" in address
    connection = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        connection.setblocking(False)
        if not is_ipv6:
            connection.bind((f"127.{'.'.join(str(each) for each in _random_bytes())}", 0))
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _random_bytes() -> list[int]:
    return [1 + secrets.randbelow(254) for _ in range(3)]


async def _connect_to_socket(path: str, make: Callable[[], RelayEnd]) -> None:
    """Connect to a unix socket, and ask who listens there rather than whose the path is."""
    loop = asyncio.get_running_loop()
    if not stat.S_ISSOCK(os.lstat(path).st_mode):  # a link may lead to another one of ours
        raise ConnectionRefusedError
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
