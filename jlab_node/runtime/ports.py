"""Ports of this node: which are taken, and by whom (psutil shows no other users')."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from . import tcp_table

if TYPE_CHECKING:
    from collections.abc import Container

HOST = "127.0.0.1"  # not "localhost", which may mean ::1 as well

_LOOPBACK, _LOOPBACK6 = HOST, "::1"

# At which address to connect to who listens there: of those that are found, the first gets what is
# sent to 127.0.0.1. Whether "::" takes that as well cannot be seen, so it is called by IPv6.
_ADDRESSES = {
    tcp_table.written("127.0.0.1", socket.AF_INET): _LOOPBACK,
    tcp_table.written("::ffff:127.0.0.1", socket.AF_INET6): _LOOPBACK,
    tcp_table.written("0.0.0.0", socket.AF_INET): _LOOPBACK,  # noqa: S104
    tcp_table.written("::1", socket.AF_INET6): _LOOPBACK6,
    tcp_table.written("::", socket.AF_INET6): _LOOPBACK6,
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


def resting(among: Container[int]) -> set[int]:
    """Return those ports that only connections which have ended keep, as Linux has it a minute."""
    states: dict[int, set[str]] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for row in tcp_table.rows():
            port = tcp_table.port_of(row.here)
            if port in among:
                states.setdefault(port, set()).add(row.state)
    return {port for port, found in states.items() if found == {tcp_table.TIME_WAIT}}


def _owners(port: int) -> tuple[str, set[int]]:
    found: dict[str, set[int]] = {}
    for row in tcp_table.listeners():
        if tcp_table.port_of(row.here) == port:
            found.setdefault(row.here.partition(":")[0], set()).add(row.uid)
    return next(
        ((_ADDRESSES[each], found[each]) for each in _ADDRESSES if each in found), ("", set())
    )
