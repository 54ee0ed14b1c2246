"""Which user of this computer is at the other end of a connection, as far as Linux tells."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import cast

_IPV4, _IPV6 = "/proc/net/tcp", "/proc/net/tcp6"
_TIME_WAIT = "06"  # in these tables

# From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, number, from
_REQUEST = struct.Struct("=4BI")  # family, protocol, extensions, -; the states that are asked for
_PORTS, _ANY_SOCKET = struct.Struct("!HH"), struct.pack("=3I", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_USER = struct.Struct("=I")
_USER_AT = _HEADER.size + 4 + 48 + 12  # behind the states, the socket's ends, three numbers


def is_stranger(connection: socket.socket) -> bool:
    """Return whether another ordinary user has connected. root may carry for us: False."""
    user = _user_of(connection)
    return user not in (None, 0) and user != os.getuid()


def _user_of(connection: socket.socket) -> int | None:
    """Return the user's number; None: this system does not say, or he has gone."""
    try:
        theirs, ours = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return None
    try:
        return _asked_for(connection.family, theirs, ours)
    except OSError:  # a system without that question: a container, say
        return _read_from_table(connection.family, theirs, ours)


def _asked_for(family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """Ask Linux for that one socket, however many there are; raises OSError."""
    addresses = [socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (theirs, ours)]
    ends = _PORTS.pack(theirs[1], ours[1]) + b"".join(addresses) + _ANY_SOCKET
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends
    length = _HEADER.size + len(request)
    netlink = getattr(socket, "AF_NETLINK", None)
    if netlink is None:
        raise OSError(errno.EAFNOSUPPORT, "no netlink")
    with socket.socket(netlink, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
        answer = kernel.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _SOCK_DIAG_BY_FAMILY:
        return cast("int", _USER.unpack_from(answer, _USER_AT)[0])
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    if code == errno.ENOENT:  # he has gone
        return None
    raise OSError(code, os.strerror(code))


def _read_from_table(family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    ends = [_written(end, family) for end in (theirs, ours)]
    rows = _rows(_IPV6 if family == socket.AF_INET6 else _IPV4)
    return next((int(row[7]) for row in rows if row[1:3] == ends), None)


def _written(end: tuple[str, int], family: int) -> str:
    """As in that table: each 32 bits of the address as this machine has them, in hexadecimal."""
    raw = socket.inet_pton(family, end[0])
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"


def is_settling(port: int) -> bool:
    """Return whether only ended connections keep the port; False if the system does not say."""
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
