"""Which user of this node is at the other end of a TCP connection within it, as Linux tells.

Who listens at a port does not say who answers there: another user can have the same port with a
socket that does not listen, and call the port that a connection comes from (RFC 9293, 3.5:
simultaneous open). So whoever is sent something secret is looked at when the connection is there.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from . import tcp_table

# From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_HEADER = struct.Struct("=IHHII")  # length, type, flags, number, from
_REQUEST = struct.Struct("=4BI")  # family, protocol, extensions, -; the states that are asked for
_PORTS, _ANY_SOCKET = struct.Struct("!HH"), struct.pack("=3I", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_USER = struct.Struct("=I")
_USER_AT = _HEADER.size + 4 + 48 + 12  # behind the states, the socket's ends, three numbers
_LISTEN = 10  # TCP_LISTEN

_End = tuple[str, int]


def is_ours(connection: socket.socket) -> bool:
    """Return whether a process of this user, or root, is at the other end.

    A connection that nobody has accepted yet belongs to nobody, which Linux shows as root: then the
    listener has it. Raises OSError.
    """
    theirs, ours = connection.getpeername()[:2], connection.getsockname()[:2]
    return _user_of(theirs, ours) in (0, os.geteuid())


def _user_of(theirs: _End, ours: _End) -> int | None:
    """Return the number of the user who has the end `theirs`; None: nobody has it any more."""
    ends = _both_families(theirs, ours)
    try:
        found = [_asked_for(family, *pair) for family, pair in ends]
    except OSError:  # a system without that question: a container, say
        found = [_read_from_table(pair) for _, pair in ends]
    return next((user for user in found if user is not None), None)


def _both_families(theirs: _End, ours: _End) -> list[tuple[int, tuple[_End, _End]]]:
    """Return the two ends as they may be known: a program may have IPv4's by an IPv6 socket."""
    if ":" in theirs[0]:
        return [(socket.AF_INET6, (theirs, ours))]
    mapped = [(f"::ffff:{host}", port) for host, port in (theirs, ours)]
    return [(socket.AF_INET, (theirs, ours)), (socket.AF_INET6, (mapped[0], mapped[1]))]


def _asked_for(family: int, theirs: _End, ours: _End) -> int | None:
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
    if _HEADER.unpack_from(answer)[1] == _SOCK_DIAG_BY_FAMILY:
        is_listener = answer[_HEADER.size + 1] == _LISTEN  # at that port: there is no such socket
        user: int = _USER.unpack_from(answer, _USER_AT)[0]
        return None if is_listener else user
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    if code == errno.ENOENT:
        return None
    raise OSError(code, os.strerror(code))


def _read_from_table(pair: tuple[_End, _End]) -> int | None:
    """The same from the table of all connections; raises OSError."""
    family = socket.AF_INET6 if ":" in pair[0][0] else socket.AF_INET
    wanted = [f"{tcp_table.written(host, family)}:{port:04X}" for host, port in pair]
    found = (row.uid for row in tcp_table.rows_of(family) if [row.here, row.there] == wanted)
    return next(found, None)
