"""The lines by which a session's endpoint and its owner know each other, before ssh begins."""

from __future__ import annotations

import socket
import time

_LONGEST_LINE = 256  # RFC 4253: a version line has at most 255


def server_banner(nonce: str) -> bytes:
    """Return the first line that a client gets. RFC 4253, 4.2: lines may come before the version.

    It shows the session to the owner: the port may belong to somebody else by now.
    """
    return f"jlab {nonce}\r\n".encode("ascii")


def client_token(secret: str) -> bytes:
    """Return the line by which the owner answers the banner; what follows is ssh."""
    return f"jlab {secret}\r\n".encode("ascii")


def refusal(text: str) -> bytes:
    """Return the line that the owner gets instead of an sshd, where there can be none."""
    return f"jlab-node: {text}"[: _LONGEST_LINE - 2].encode("ascii", "replace") + b"\r\n"


def is_session_at(host: str, port: int, nonce: str, *, timeout: float) -> bool | None:
    """Return whether that session's endpoint is at the port; None: nobody answers there.

    Then nobody can tell. `timeout` is in seconds.
    """
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            return read_line(connection, timeout=timeout) == server_banner(nonce)
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    except (OSError, UnicodeError):
        return None


def read_line(connection: socket.socket, *, timeout: float) -> bytes:
    """Return the first line that comes within `timeout` seconds; raises OSError.

    It is read byte by byte: what follows belongs to ssh.
    """
    deadline = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line
