"""One connection to a local port, carried on to a unix socket; it never blocks.

A request that had no answer when the way broke is asked again when there is another way: only such
as may be asked twice. So a page in the browser waits, and has nothing to complain of.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from .carried_end import MAX_PIECE, CarriedEnd
from .pending_request import PendingRequest

if TYPE_CHECKING:
    import selectors
    from typing import Callable

_RETRY_INTERVAL = 1.0  # seconds between two attempts where a way is, and nobody answers
_CONNECT_INTERVAL = 0.1  # seconds, the same where nobody listens
_WAITING_PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<title>JupyterLab: waiting</title>
<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto">
<h1>No way to the session at the moment</h1>
<p><code>jlab-proxy open</code> holds this port and looks for a way. Its terminal says how far it
is. This page tries again by itself.</p>
"""
_UNAVAILABLE = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Refresh: 2\r\nRetry-After: 2\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
    f"Connection: close\r\nContent-Length: {len(_WAITING_PAGE)}\r\n\r\n{_WAITING_PAGE}"
).encode()
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"


class CarriedConnection:
    """A connection: it waits until there is a way, and is carried then."""

    def __init__(
        self,
        client: socket.socket,
        selector: selectors.BaseSelector,
        forget: Callable[[CarriedConnection], None],
    ) -> None:
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector = selector
        self._forget = forget  # called when it is closed
        self._client = CarriedEnd(client, selector, self._on_ready)
        self._peer: CarriedEnd | None = None  # behind the unix socket; None: it waits
        self._request = PendingRequest()
        self._was_refused = False  # since the last answer, by a peer that said nothing
        self._is_closed = False
        self.waits_since = time.monotonic()
        self.retry_at = 0.0
        self._watch()

    @property
    def is_waiting(self) -> bool:
        """Whether nobody is behind it at the moment."""
        return self._peer is None

    @property
    def is_silent(self) -> bool:
        """Whether its client has neither asked for anything yet nor been answered."""
        return self._request.is_silent

    def close_if_client_has_left(self) -> bool:
        """Return whether it is closed: nobody is told so while there is no room to read."""
        if self._client.has_hung_up:
            self.close()
        return self._is_closed

    def connect(self, path: str) -> None:
        """Carry it to that unix socket, if somebody listens there."""
        try:
            peer = _connected_socket(path)
        except OSError:  # gone by now, or many wait there, or too many files are open
            self.retry_at = time.monotonic() + _CONNECT_INTERVAL
            return
        self._peer = CarriedEnd(peer, self._selector, self._on_ready)
        self._peer.send(memoryview(self._request.text))
        self._watch()

    def answer_page_load(self) -> None:
        """Answer in the meantime if a page is loaded; other requests just wait."""
        if self._request.is_page_load:
            self._answer(_UNAVAILABLE)

    def _answer(self, text: bytes) -> None:
        self._client.send(memoryview(text))
        self.close()

    def abort(self) -> None:
        """End both sides, so that nothing of it keeps the port from being used again."""
        self._client.close_at_once()
        self._close_rest()

    def close(self) -> None:
        """End both sides."""
        self._client.close()
        self._close_rest()

    def _close_rest(self) -> None:
        self._is_closed = True
        if self._peer:
            self._peer.close()
        self._forget(self)

    def _on_ready(self, end: CarriedEnd, can_read: bool, can_write: bool) -> None:
        if can_write:
            self._flush(end)
        if can_read and not self._is_closed and end in (self._client, self._peer):
            self._relay(end)

    def _other(self, end: CarriedEnd) -> CarriedEnd | None:
        return self._peer if end is self._client else self._client

    def _relay(self, source: CarriedEnd) -> None:
        """Give the other side what the source has to say by now."""
        sink = self._other(source)
        while True:
            try:
                piece = source.receive()
            except BlockingIOError:
                return
            if not piece:
                self._finish(source)
                return
            if source is self._client:
                self._request.add(piece, is_carried=sink is not None)
            else:
                self._request.answered()
                self._was_refused = False
            if sink:
                sink.send(piece)
            if not sink or len(piece) < MAX_PIECE or sink.unsent:
                self._watch()
                return

    def _flush(self, sink: CarriedEnd) -> None:
        try:
            sink.flush()
        except OSError:
            if sink is self._peer and self._may_ask_again:
                self._finish(sink)
            else:
                self.close()
            return
        source = self._other(sink)
        if not sink.unsent and source and source.has_finished:
            sink.end_writing()
        self._watch()

    def _finish(self, source: CarriedEnd) -> None:
        """The source has nothing more to say."""
        source.has_finished = True
        sink = self._other(source)
        if not sink:
            self.close()
        elif source is self._peer and self._may_ask_again:
            self._wait_for_another_peer(source)
        else:
            if not sink.unsent:
                sink.end_writing()
            if sink.has_finished and not sink.unsent:
                self.close()
            else:
                self._watch()

    @property
    def _may_ask_again(self) -> bool:
        client = self._client
        return self._request.is_repeatable and not client.has_finished and not client.unsent

    def _wait_for_another_peer(self, peer: CarriedEnd) -> None:
        peer.close()
        self._peer = None
        now = time.monotonic()
        if not self._was_refused:  # else it has waited since then
            self.waits_since, self._was_refused = now, True
        self.retry_at = now + _RETRY_INTERVAL
        self._watch()

    def _watch(self) -> None:
        """Let each side be read while the other takes it, and written to while it has room."""
        if self._peer:
            self._client.watch(other=self._peer)
            self._peer.watch(other=self._client)
        elif not self._request.has_room and self._request.is_silent:
            self._answer(_TOO_LARGE)  # no server takes such a head
        else:
            self._client.watch(reads=self._request.has_room)


def _connected_socket(path: str) -> socket.socket:
    """Raises OSError, BlockingIOError among them: nothing is waited for."""
    made = socket.socket(socket.AF_UNIX)
    try:
        made.setblocking(False)
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made
