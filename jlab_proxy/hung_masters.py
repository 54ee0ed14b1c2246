"""Shared connections to login nodes whose ssh does not react: the next ssh would wait for ever.

On the way of every `ssh jlab+x`: `socket` would cost a fifth of the start-up, `_socket` nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` would cost a tenth of the start-up
if TYPE_CHECKING:
    from .paths import Paths

_PATIENCE = 3.0  # seconds for an ssh of this computer to say hello, which it does at once


def forget_silent(paths: Paths) -> bool:
    """Remove the sockets of those that are stopped or stuck; whether there were any.

    Where nobody listens any more ssh itself begins anew.
    """
    try:
        names = os.listdir(paths.directory)  # noqa: PTH208
    except OSError:
        return False
    sockets = [f"{paths.directory}/{name}" for name in names if name.startswith("login-")]
    silent = [each for each in sockets if _is_silent(each)]
    for each in silent:
        try:  # contextlib would cost as much as all of this  # noqa: SIM105
            os.unlink(each)  # noqa: PTH108
        except OSError:
            pass
    return bool(silent)


def _is_silent(path: str) -> bool:
    """Whether somebody listens there who does not begin to speak."""
    import _socket

    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.settimeout(_PATIENCE)
        probe.connect(path)
        probe.recv(1)
    except (_socket.timeout, BlockingIOError):  # the latter: too many wait there already
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return False
