"""A port of this computer: its addresses by number, and whether somebody listens there.

On the way of `ssh jlab+x` at a terminal, so it imports `socket` only where it is needed.
"""

from __future__ import annotations

import os

HOST = "127.0.0.1"  # by number: "localhost" is ::1 as well, where somebody else may listen
HOST6 = "::1"
# The addresses at which a listener is reached there, and nobody else can listen as well.
_COVERING = {
    HOST: (HOST, "0.0.0.0", "::ffff:127.0.0.1", "::"),  # noqa: S104
    HOST6: (HOST6, "::"),
}


def is_free(port: int) -> bool:
    """Return whether ssh could listen on the port now, and nobody does at either localhost."""
    return not taken(port)


def taken(port: int) -> list[tuple[str, ...]]:
    """Return the addresses of which somebody has one, for each localhost that is taken."""
    return [covering for host, covering in _COVERING.items() if _is_taken(host, port)]


def _is_taken(host: str, port: int) -> bool:
    import errno
    import socket

    family = socket.AF_INET if host == HOST else socket.AF_INET6
    try:
        with socket.socket(family) as listener:
            if os.name != "nt":  # there it means: even if somebody listens
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, port))
    except OSError as error:  # another at IPv6: there is none here
        return family == socket.AF_INET or error.errno == errno.EADDRINUSE
    return False
