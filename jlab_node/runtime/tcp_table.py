"""Linux's table of this node's TCP sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

_LISTENS, _HALF_OPEN, TIME_WAIT = "0A", "03", "06"  # the kernel's states


class Row(NamedTuple):
    """One socket; its ends are as `written`."""

    here: str
    there: str
    state: str
    uid: int


def rows() -> Iterator[Row]:
    """Yield the sockets of IPv4 and of IPv6; raises OSError, ValueError, IndexError."""
    return _of_both(rows_of)


def listeners() -> Iterator[Row]:
    """Yield those that listen; raises as `rows`."""
    return _of_both(_listeners_of)


def _of_both(read: Callable[[int], Iterator[Row]]) -> Iterator[Row]:
    yield from read(socket.AF_INET)
    with contextlib.suppress(FileNotFoundError):  # a node without IPv6
        yield from read(socket.AF_INET6)


def _listeners_of(family: int) -> Iterator[Row]:
    for row in rows_of(family):
        if row.state == _LISTENS:
            yield row
        elif row.state != _HALF_OPEN:
            return  # these come first, and there may be very many others


def rows_of(family: int) -> Iterator[Row]:
    """Yield the sockets of one family, those that listen first; raises as `rows`."""
    path = "/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp"
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        next(file)
        for line in file:
            words = line.split()
            yield Row(words[1], words[2], words[3], int(words[7]))


def written(host: str, family: int) -> str:
    """Return an address as the table has it: words in the byte order of the machine."""
    raw = socket.inet_pton(family, host)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words)


def port_of(end: str) -> int:
    """Return the port of an end."""
    return int(end.rpartition(":")[2], 16)
