"""Local ports that are ours from beginning to end, whether there is a way to the session or not."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, cast

from ..port_check import HOST, HOST6
from . import neighbours
from .carried import CarriedConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAGE_WAIT = 3.0  # seconds that a page load waits before it is told so
_POLL_INTERVAL = 0.1  # seconds between two looks at those that wait
_MAX_CONNECTIONS = 400  # at once
_UNCHECKED_CONNECTIONS = 50  # so many may be anybody's: who connects is looked up only then
_SPARE_DESCRIPTORS = 64  # for all else
SETTLING_TIME = 65.0  # seconds in which Linux keeps a port after its last connection
_SETTLING_INTERVAL = 0.5  # seconds between two attempts to have such a port
# Where it may be, another user can have the port as well, with a socket that does not listen: if he
# connects from there to the port that the browser comes from, he hears what it says.
_SHARES = sys.platform != "linux"


def listen(port: int, *, settling: float = SETTLING_TIME) -> list[socket.socket]:
    """Listen on the port of 127.0.0.1 and, where there is IPv6, of ::1; raises OSError.

    At both, so that nobody else is reached at either. A port that has just been used is waited for,
    `settling` seconds at most.
    """
    until = time.monotonic() + settling
    while True:
        try:
            return _listen(port)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE and neighbours.is_resting(port)
            if not in_use or time.monotonic() > until:
                raise
        time.sleep(_SETTLING_INTERVAL)


def _listen(port: int) -> list[socket.socket]:
    with contextlib.ExitStack() as stack:
        made = []
        for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, HOST6)):
            try:
                listener = stack.enter_context(socket.socket(family))
                if _SHARES:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((host, port))
                listener.listen(128)
                # While it listens nobody can bind beside it all the same; and what its connections
                # leave behind must not keep ssh from the port afterwards.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            except OSError as error:
                if family == socket.AF_INET or error.errno == errno.EADDRINUSE:
                    raise
                continue  # there is no IPv6 here
            made.append(listener)
        stack.pop_all()
        return made


class Carrier:
    """Carries connections to unix sockets, in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ours, self._wake = socket.socketpair()
        self._ours.setblocking(False)
        self._selector.register(self._ours, selectors.EVENT_READ, self._woken)
        self._listeners: dict[socket.socket, str] = {}  # and the name of what is behind it
        self._sockets: dict[str, str] = {}  # to each name: a unix socket
        self._connections: dict[CarriedConnection, str] = {}
        self._max_connections = _max_connections()
        self._has_ended = False
        self.failure: Exception | None = None  # nothing is carried any more
        self._thread = threading.Thread(target=self._run, daemon=True)

    def add(self, listeners: Iterable[socket.socket], name: str) -> None:
        """Let what comes there be carried to `name`. It is called before the context begins."""
        for listener in listeners:
            listener.setblocking(False)
            self._listeners[listener] = name
            self._selector.register(
                listener,
                selectors.EVENT_READ,
                lambda _, each=listener: self._accept(each),
            )

    def __enter__(self) -> Carrier:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended = True
        self._wake.send(b".")
        self._thread.join()
        for connection in list(self._connections):
            connection.abort()
        for sock in (*self._listeners, self._ours, self._wake):
            sock.close()
        self._selector.close()

    def set_sockets(self, sockets: dict[str, str]) -> None:
        """Carry to these unix sockets from now on, by name; {}: there is no way at the moment."""
        self._sockets = sockets
        with contextlib.suppress(OSError):  # after the end there is nobody to wake
            self._wake.send(b".")

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(4096)
        for connection in list(self._connections):
            connection.retry_at = 0.0

    def _run(self) -> None:
        try:
            self._carry()
        except Exception as error:
            self.failure = error

    def _carry(self) -> None:
        while not self._has_ended:
            waiting = any(connection.is_waiting for connection in self._connections)
            for key, mask in self._selector.select(_POLL_INTERVAL if waiting else None):
                if cast("socket.socket", key.fileobj).fileno() >= 0:  # else closed meanwhile
                    key.data(mask)
            self._attend_waiting()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_POLL_INTERVAL)
            return
        if not self._has_room_for(client):
            client.close()
            return
        made = CarriedConnection(client, self._selector, self._forget)
        name = self._connections[made] = self._listeners[listener]
        if name in self._sockets:
            made.connect(self._sockets[name])

    def _has_room_for(self, client: socket.socket) -> bool:
        """Return whether it is taken: no other user, and no silent one, crowds the owner out."""
        if len(self._connections) < min(_UNCHECKED_CONNECTIONS, self._max_connections // 2):
            return True
        if neighbours.is_stranger(client):
            return False
        if len(self._connections) >= self._max_connections:
            silent = next((each for each in self._connections if each.is_silent), None)
            if silent is None:
                return False
            silent.close()
        return True

    def _forget(self, connection: CarriedConnection) -> None:
        self._connections.pop(connection, None)

    def _attend_waiting(self) -> None:
        """Connect those that wait, and answer those that load a page, when it is time."""
        now = time.monotonic()
        for connection, name in list(self._connections.items()):
            if not connection.is_waiting or connection.close_if_client_has_left():
                continue
            if name in self._sockets and now >= connection.retry_at:
                connection.connect(self._sockets[name])
            if connection.is_waiting and now - connection.waits_since > _PAGE_WAIT:
                connection.answer_page_load()


def _max_connections() -> int:
    """Return how many connections, each with two descriptors, can be held at once."""
    if os.name != "posix":
        return _MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MAX_CONNECTIONS, max((soft - _SPARE_DESCRIPTORS) // 2, 8))
