"""One connection to a local port, carried on to a unix socket; it never blocks.

A request that had no answer when the way broke is asked again when there is another way: only such
as may be asked twice. So a page in the browser waits, and has nothing to complain of.
"""

from __future__ import annotations

import contextlib
import re
import select
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_PIECE = 1 << 18  # bytes that are read at once
_LONGEST_REQUEST = 1 << 16  # bytes of one that may be asked again
_RETRY = 1.0  # seconds between two attempts where a way is, and nobody answers
_TWICE = re.compile(rb"(?:GET|HEAD|OPTIONS) [^\r\n]+\r\n(?:[^\r\n]+\r\n)+\r\n", re.IGNORECASE)
_PAGE_LOAD = re.compile(rb"GET [^\r\n]+\r\n.*^accept:[^\r\n]*text/html", re.I | re.M | re.S)
_WEBSOCKET = re.compile(rb"^upgrade: *websocket", re.I | re.M)
_TEXT = """\
<!DOCTYPE html>
<meta charset="utf-8">
<title>JupyterLab: waiting</title>
<body style="font-family: sans-serif; max-width: 40em; margin: 4em auto">
<h1>No way to the session at the moment</h1>
<p><code>jlab-proxy open</code> holds this port and looks for a way: the terminal in which it runs
says how it stands. This page tries again by itself.</p>
"""
_PAGE = (
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n"
    "Refresh: 2\r\nRetry-After: 2\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
    f"Connection: close\r\nContent-Length: {len(_TEXT)}\r\n\r\n{_TEXT}"
).encode()
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_LEFT = getattr(select, "POLLRDHUP", 0)  # Linux tells so of one from whom nothing is read
_buffer = memoryview(bytearray(_PIECE))  # one thread carries them all


class _Side:
    """One of the two sockets, and what has not gone into it yet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.left = memoryview(b"")
        self.has_finished = False  # it says nothing more
        self.mask = 0


class Carried:
    """A connection: it waits until there is a way, and is carried then."""

    def __init__(
        self,
        client: socket.socket,
        selector: selectors.BaseSelector,
        gone: Callable[[Carried], None],
    ) -> None:
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector = selector
        self._gone = gone
        self._client = _Side(client)
        self._far: _Side | None = None
        # What the client has said since it was last answered; None: too much to say it again.
        self._request: bytearray | None = bytearray()
        self._is_fresh = True  # nothing was answered yet
        self._was_refused = False  # since then
        self._is_closed = False
        self.waits_since = time.monotonic()
        self.retry_at = 0.0
        self._watch()

    @property
    def waits(self) -> bool:
        return self._far is None

    @property
    def is_silent(self) -> bool:
        """Whether it has neither asked for anything yet nor been answered."""
        request = self._request
        return self._is_fresh and request is not None and _END_OF_HEAD not in request

    def has_left(self) -> bool:
        """Close it if its client has gone: nobody is told so while there is no room to read."""
        if self._client.mask or not _LEFT:
            return False
        poll = select.poll()
        poll.register(self._client.socket, _LEFT)
        if poll.poll(0):
            self.close()
        return self._is_closed

    def connect(self, path: str) -> None:
        """Carry it to that unix socket, if somebody listens there."""
        far = None
        try:
            far = socket.socket(socket.AF_UNIX)
            far.setblocking(False)
            far.connect(path)
        except OSError:  # gone by now, or many wait there, or too many files are open
            if far:
                far.close()
            self.retry_at = time.monotonic() + _RETRY / 10
            return
        self._far = _Side(far)
        self._send(self._far, memoryview(bytes(self._request or b"")))
        self._watch()

    def tell(self) -> None:
        """A page load gets an answer in the meantime; other requests just wait."""
        request = bytes(self._request or b"")
        if _PAGE_LOAD.match(request) and not _WEBSOCKET.search(request):
            self._answer(_PAGE)

    def _answer(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            self._client.socket.send(text)
        self.close()

    def cut(self) -> None:
        """End both sides, so that nothing of it keeps the port from being used again."""
        with contextlib.suppress(OSError):
            at_once = struct.pack("ii", 1, 0)
            self._client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.close()

    def close(self) -> None:
        """End both sides."""
        self._is_closed = True
        for side in (self._client, self._far):
            if side:
                self._set(side, 0, None)
                side.socket.close()
        self._gone(self)

    def _from_client(self, mask: int) -> None:
        if mask & _WRITE:
            self._flush(self._client)
        if mask & _READ and not self._is_closed:
            self._move(self._client, self._far)

    def _from_far(self, mask: int) -> None:
        assert self._far  # noqa: S101
        if mask & _WRITE:
            self._flush(self._far)
        if mask & _READ and not self._is_closed and self._far:
            self._move(self._far, self._client)

    def _move(self, source: _Side, sink: _Side | None) -> None:
        """What the source has to say by now."""
        while True:
            try:
                count = source.socket.recv_into(_buffer)
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if not count:
                self._finish(source)
                return
            piece = _buffer[:count]
            self._note(source, piece)
            if sink is None:
                self._watch()
                return
            self._send(sink, piece)
            if count < _PIECE or sink.left:
                self._watch()
                return

    def _note(self, source: _Side, piece: memoryview) -> None:
        if source is not self._client:
            self._request, self._is_fresh, self._was_refused = bytearray(), False, False
        elif self._request is not None:
            self._request += piece
            if self._far and len(self._request) > _LONGEST_REQUEST:
                self._request = None

    def _send(self, sink: _Side, piece: memoryview) -> None:
        sent = 0
        with contextlib.suppress(OSError):  # what ended it is seen when it is read from
            sent = sink.socket.send(piece) if piece else 0
        if sent < len(piece):
            sink.left = memoryview(bytes(piece[sent:]))

    def _flush(self, sink: _Side) -> None:
        try:
            sent = sink.socket.send(sink.left)
        except BlockingIOError:
            return
        except OSError:
            if sink is self._far and self._may_be_asked_again():
                self._finish(sink)
            else:
                self.close()
            return
        sink.left = sink.left[sent:]
        source = self._far if sink is self._client else self._client
        if not sink.left and source and source.has_finished:
            self._end_writing(sink)
        self._watch()

    def _finish(self, source: _Side) -> None:
        """The source has nothing more to say."""
        source.has_finished = True
        far = self._far
        if far is None:
            self.close()
        elif source is far and self._may_be_asked_again():
            self._set(far, 0, None)
            far.socket.close()
            self._far = None
            now = time.monotonic()
            if not self._was_refused:  # else it has waited since then
                self.waits_since, self._was_refused = now, True
            self.retry_at = now + _RETRY
            self._watch()
        else:
            sink = self._client if source is far else far
            if not sink.left:
                self._end_writing(sink)
            if not self._client.has_finished or not far.has_finished or sink.left:
                self._watch()
            else:
                self.close()

    def _may_be_asked_again(self) -> bool:
        if self._request is None or self._client.has_finished or self._client.left:
            return False
        return bool(_TWICE.fullmatch(self._request)) or (self._is_fresh and not self._request)

    @staticmethod
    def _end_writing(sink: _Side) -> None:
        with contextlib.suppress(OSError):
            sink.socket.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        """Each side is read while the other takes it, and written to while something is left."""
        client, far = self._client, self._far
        if far is None:
            room = len(self._request or b"") < _LONGEST_REQUEST
            if not room and self.is_silent:  # no server takes such a head
                self._answer(_TOO_LARGE)
                return
            self._set(client, _READ if room else 0, self._from_client)
            return
        for side, other, act in (
            (client, far, self._from_client),
            (far, client, self._from_far),
        ):
            reads = _READ if not side.has_finished and not other.left else 0
            self._set(side, reads | (_WRITE if side.left else 0), act)

    def _set(self, side: _Side, mask: int, act: Callable[[int], None] | None) -> None:
        if mask == side.mask:
            return
        if not mask:
            self._selector.unregister(side.socket)
        elif side.mask:
            self._selector.modify(side.socket, mask, act)
        else:
            self._selector.register(side.socket, mask, act)
        side.mask = mask
