"""Which user of this computer is at the other end of a connection, as far as Linux tells."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_TIME_WAIT = "06"  # in that table


def is_stranger(connection: socket.socket) -> bool:
    """Whether another ordinary user has connected. root may carry for us: False."""
    user = _user_of(connection)
    return user not in (None, 0) and user != os.getuid()


def _user_of(connection: socket.socket) -> int | None:
    """The user's number; None: this system does not say, or he has gone."""
    table = "/proc/net/tcp6" if connection.family == socket.AF_INET6 else "/proc/net/tcp"
    try:
        ends = [_written(each, connection.family) for each in _both(connection)]
        rows = Path(table).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    for row in rows[1:]:
        words = row.split()
        if words[1:3] == ends:
            return int(words[7])
    return None


def _both(connection: socket.socket) -> tuple[tuple[str, int], ...]:
    """His end, then ours: as his row says it."""
    return connection.getpeername()[:2], connection.getsockname()[:2]


def _written(end: tuple[str, int], family: int) -> str:
    """As in that table: each 32 bits of the address as this machine has them, in hexadecimal."""
    raw = socket.inet_pton(family, end[0])
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{each:08X}" for each in words) + f":{end[1]:04X}"


def is_settling(port: int) -> bool:
    """Whether only connections that have ended keep the port; False where Linux does not say."""
    states = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except (OSError, ValueError):
            continue
        ends = [row.split()[1:4] for row in rows]
        states |= {state for here, _, state in ends if here.endswith(f":{port:04X}")}
    return states == {_TIME_WAIT}
