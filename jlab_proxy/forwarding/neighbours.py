"""Which user of this computer is at the other end of a connection, as far as Linux tells."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_IPV4, _IPV6 = "/proc/net/tcp", "/proc/net/tcp6"
_TIME_WAIT = "06"  # in these tables


def is_stranger(connection: socket.socket) -> bool:
    """Whether another ordinary user has connected. root may carry for us: False."""
    user = _user_of(connection)
    return user not in (None, 0) and user != os.getuid()


def _user_of(connection: socket.socket) -> int | None:
    """The user's number; None: this system does not say, or he has gone."""
    try:
        ends = [_written(each, connection.family) for each in _both(connection)]
    except OSError:
        return None
    rows = _rows(_IPV6 if connection.family == socket.AF_INET6 else _IPV4)
    return next((int(row[7]) for row in rows if row[1:3] == ends), None)


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
    here = f":{port:04X}"
    rows = [*_rows(_IPV4), *_rows(_IPV6)]
    return {row[3] for row in rows if row[1].endswith(here)} == {_TIME_WAIT}


def _rows(table: str) -> list[list[str]]:
    """Return the table of connections, a list of words each: our end, theirs, the state, ...

    Empty where the system has none.
    """
    try:
        lines = Path(table).read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
    return [line.split() for line in lines[1:]]
