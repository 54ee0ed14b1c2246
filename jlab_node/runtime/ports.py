"""Ports of this node: which are taken, and by whom (psutil shows no other users')."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"  # not "localhost", which may mean ::1 as well

_LISTENS, _HALF_OPEN, _TIME_WAIT = "0A", "03", "06"  # the kernel's states of TCP sockets


def _hex(address: bytes) -> str:
    """Return an address as /proc/net has it: words in the byte order of the machine."""
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(address) // 4}I", address))


_LOOPBACK, _LOOPBACK6 = HOST, "::1"

# At which address to connect to who listens there: of those that are found, the first gets what is
# sent to 127.0.0.1. Whether "::" takes that as well cannot be seen, so it is called by IPv6.
_ADDRESSES = {
    _hex(socket.inet_pton(socket.AF_INET, "127.0.0.1")): _LOOPBACK,
    _hex(socket.inet_pton(socket.AF_INET6, "::ffff:127.0.0.1")): _LOOPBACK,
    _hex(socket.inet_pton(socket.AF_INET, "0.0.0.0")): _LOOPBACK,  # noqa: S104
    _hex(socket.inet_pton(socket.AF_INET6, "::1")): _LOOPBACK6,
    _hex(socket.inet_pton(socket.AF_INET6, "::")): _LOOPBACK6,
}


def address_of_my_listener(port: int) -> str:
    """Return the address at which a process of this user, and no other's, listens on `port`.

    "": there is none, or the system does not tell.
    """
    try:
        address, owners = _owners(port)
    except (OSError, ValueError, IndexError):
        return ""
    return address if owners == {os.geteuid()} else ""


def is_resting(port: int) -> bool:
    """Return whether only connections that have ended keep the port, as Linux has it a minute."""
    states = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError, ValueError), open(table, encoding="ascii") as file:  # noqa: PTH123
            next(file)
            for line in file:
                _, address, _, state, *_ = line.split()
                if address.endswith(f":{port:04X}"):
                    states.add(state)
    return states == {_TIME_WAIT}


def _owners(port: int) -> tuple[str, set[int]]:
    found: dict[str, set[int]] = {}
    for address, uid in _listeners():
        where, _, number = address.partition(":")
        if int(number, 16) == port:
            found.setdefault(where, set()).add(uid)
    return next(
        ((_ADDRESSES[each], found[each]) for each in _ADDRESSES if each in found), ("", set())
    )


def _listeners() -> Iterator[tuple[str, int]]:
    """Yield address and owner of each listening socket."""
    yield from _listeners_in("/proc/net/tcp")
    with contextlib.suppress(FileNotFoundError):  # a node without IPv6
        yield from _listeners_in("/proc/net/tcp6")


def _listeners_in(path: str) -> Iterator[tuple[str, int]]:
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        next(file)
        for line in file:
            _, address, _, state, _, _, _, uid, *_ = line.split()
            if state == _LISTENS:
                yield address, int(uid)
            elif state != _HALF_OPEN:
                return  # these come first, and there may be very many others
