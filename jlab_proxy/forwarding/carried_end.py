"""One of the two sockets of a connection that is carried: it never blocks."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

MAX_PIECE = 1 << 18  # bytes that are read at once
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux tells so of one from whom nothing is read
_buffer = memoryview(bytearray(MAX_PIECE))  # one thread carries them all


class CarriedEnd:
    """A socket, what has not gone into it yet, and what its selector waits for.

    `on_ready` is called with this end, and with whether it can be read and written to.
    """

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        on_ready: Callable[[CarriedEnd, bool, bool], None],
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._selector = selector
        self._on_ready = on_ready
        self._mask = 0
        self.unsent = memoryview(b"")
        self.has_finished = False  # it says nothing more

    def receive(self) -> memoryview:
        """Return what it says, which is good until the next call; empty at its end.

        Raises BlockingIOError if it says nothing at the moment.
        """
        try:
            return _buffer[: self._socket.recv_into(_buffer)]
        except BlockingIOError:
            raise
        except OSError:
            return _buffer[:0]

    def send(self, piece: memoryview) -> None:
        """Send it, and keep what does not go now. What ended it is seen when it is read from."""
        sent = 0
        with contextlib.suppress(OSError):
            sent = self._socket.send(piece) if piece else 0
        if sent < len(piece):
            self.unsent = memoryview(bytes(piece[sent:]))

    def flush(self) -> None:
        """Send what was kept, as far as that goes; raises OSError if nobody is there any more."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self._socket.send(self.unsent) :]

    def end_writing(self) -> None:
        """Let the other side know that nothing more comes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def watch(self, *, other: CarriedEnd | None = None, reads: bool = True) -> None:
        """Wait for what it says while `other` takes it, and for room while something is unsent."""
        takes = reads and not self.has_finished and not (other and other.unsent)
        self._set_mask((_READ if takes else 0) | (_WRITE if self.unsent else 0))

    def _set_mask(self, mask: int) -> None:
        if mask == self._mask:
            return
        if not mask:
            self._selector.unregister(self._socket)
        elif self._mask:
            self._selector.modify(self._socket, mask, self._call)
        else:
            self._selector.register(self._socket, mask, self._call)
        self._mask = mask

    def _call(self, mask: int) -> None:
        self._on_ready(self, bool(mask & _READ), bool(mask & _WRITE))

    @property
    def has_hung_up(self) -> bool:
        """Whether its other side has gone, as far as nothing else tells so."""
        if self._mask or not _HUNG_UP:
            return False
        poll = select.poll()
        poll.register(self._socket, _HUNG_UP)
        return bool(poll.poll(0))

    def close_at_once(self) -> None:
        """Close it without the wait in which the system keeps its port from being used again."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close it; nothing is waited for any more."""
        self._set_mask(0)
        self._socket.close()
        self.unsent = memoryview(b"")
