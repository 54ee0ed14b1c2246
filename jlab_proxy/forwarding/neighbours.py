"""Which user of this computer is at the other end of a connection, as far as Linux tells."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    _End = tuple[str, int]  # host and port

_IPV4, _IPV6 = "/proc/net/tcp", "/proc/net/tcp6"
_TIME_WAIT = "06"  # in these tables

# From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, number, from
_REQUEST = struct.Struct("=4BI")  # family, protocol, extensions, -; the states that are asked for
_PORTS, _ANY_SOCKET = struct.Struct("!HH"), struct.pack("=3I", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_USER_AND_FILE = struct.Struct("=II")
_PORTS_AT = _HEADER.size + 4  # behind the states
_USER_AT = _PORTS_AT + 48 + 12  # behind the socket's ends, three numbers

_MAPPED = "::ffff:"  # before an address of IPv4 that a socket of IPv6 has


def is_stranger(connection: socket.socket) -> bool:
    """Return whether another ordinary user has connected. root may carry for us: False.

    Who has gone by now, or hides on a Linux that does tell, counts as one.
    """
    try:
        theirs, ours = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return True
    users = _users_between(theirs, ours)
    return users is not None and (not users or any(each not in (0, os.getuid()) for each in users))


def _users_between(theirs: _End, ours: _End) -> set[int] | None:
    """Return the users who have the other end; None if this system does not say."""
    for way in (_asked_for, _read_from_table):
        with contextlib.suppress(OSError):  # a system without that question: a container, say
            users = _told(way, theirs, ours)
            if users or _told(way, ours, theirs):  # it knows at least of our own end
                return users
    return None


def _told(way: Callable[[int, _End, _End], int | None], here: _End, there: _End) -> set[int]:
    """Return the users who have the end `here`, in either family; raises OSError."""
    found = (way(*form) for form in _forms(here, there))
    return {user for user in found if user is not None}


def _forms(here: _End, there: _End) -> list[tuple[int, _End, _End]]:
    """Return each family, and both ends as that has them: sockets of either speak IPv4."""
    if ":" in here[0] and not here[0].startswith(_MAPPED):
        return [(socket.AF_INET6, here, there)]
    hosts = [end[0].removeprefix(_MAPPED) for end in (here, there)]
    return [
        (family, (prefix + hosts[0], here[1]), (prefix + hosts[1], there[1]))
        for family, prefix in ((socket.AF_INET, ""), (socket.AF_INET6, _MAPPED))
    ]


def _asked_for(family: int, here: _End, there: _End) -> int | None:
    """Ask Linux for that one socket, however many there are, and return its user, or None.

    Raises OSError if this Linux does not answer.
    """
    addresses = [socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (here, there)]
    ends = _PORTS.pack(here[1], there[1]) + b"".join(addresses) + _ANY_SOCKET
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
        # Where there is no such connection, Linux tells of who listens at that port.
        is_it = _PORTS.unpack_from(answer, _PORTS_AT) == (here[1], there[1])
        return _owner(*_USER_AND_FILE.unpack_from(answer, _USER_AT)) if is_it else None
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    if code == errno.ENOENT:  # he has gone
        return None
    raise OSError(code, os.strerror(code))


def _read_from_table(family: int, here: _End, there: _End) -> int | None:
    """Find that socket in the system's table, and return its user, or None."""
    ends = [_written(end, family) for end in (here, there)]
    rows = _rows(_IPV6 if family == socket.AF_INET6 else _IPV4)
    for row in rows:
        if row[1:3] == ends:
            return _owner(int(row[7]), int(row[9]))
    return None


def _owner(user: int, file: int) -> int | None:
    """Return the user; None if no process has the socket any more: Linux then says 0 for both."""
    return user if user or file else None


def _written(end: tuple[str, int], family: int) -> str:
    """As in that table: each 32 bits of the address as this machine has them, in hexadecimal."""
    raw = socket.inet_pton(family, end[0])
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"


def is_resting(port: int) -> bool:
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
