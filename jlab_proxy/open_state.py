"""Who holds a local port as `jlab-proxy open`: asked, and answered, by a socket in ~/.ssh/jlab.

Asked on the way of `ssh jlab+x` as well, so that next to nothing is imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` would cost a tenth of the start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .paths import Paths

_PREFIX = "open-"
_LONGEST = 100  # bytes of a socket's path
_TIMEOUT = 2.0  # seconds for a process of this computer to answer
_MOST = 65536  # bytes of an answer


def ask(paths: Paths, port: int) -> dict[str, Any]:
    """What the `open` that has the port says of itself; {}: none has it.

    `pid`; `host`, as one types it after ssh; once it was there: `id` of the session, `text` about
    it, and `address` that logs in.
    """
    return _ask(_place(paths, port))


def all_of(paths: Paths) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each `open` of this config file: its port, and what it says."""
    try:
        names = os.listdir(paths.directory)  # noqa: PTH208
    except OSError:
        return
    for name in sorted(names):
        port = name[len(_PREFIX) :]
        if name.startswith(_PREFIX) and port.isascii() and port.isdigit():
            found = _ask(f"{paths.directory}/{name}")
            if found:
                yield int(port), found


def _place(paths: Paths, port: int) -> str:
    return f"{paths.directory}/{_PREFIX}{port}"


def _ask(place: str) -> dict[str, Any]:
    import _socket
    import json

    if not hasattr(_socket, "AF_UNIX"):
        return {}
    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    said, pid = b"", None
    try:
        asking.settimeout(_TIMEOUT)
        asking.connect(place)
        if hasattr(_socket, "SO_PEERCRED"):  # else it says so itself
            found = asking.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
            pid = int.from_bytes(found[:4], sys.byteorder)
        while len(said) < _MOST and (piece := asking.recv(_MOST)):
            said += piece
        found = json.loads(said)
    except (OSError, ValueError):
        return {}
    finally:
        asking.close()
    if not isinstance(found, dict) or pid == 0:  # of another container: nothing here is its
        return {}
    return found if pid is None else {**found, "pid": pid}


class Announcement:
    """Answers those who ask; a context manager. It is the holder of the port who announces."""

    def __init__(self, paths: Paths, port: int, say: Callable[[], dict[str, Any]]) -> None:
        self._place = _place(paths, port)
        self._say = say
        self._listener: Any = None

    def __enter__(self) -> Announcement:
        import socket
        import threading

        if len(os.fsencode(self._place)) > _LONGEST:
            return self
        listener = socket.socket(socket.AF_UNIX)
        try:
            self._unlink()  # of one that was killed: who has the port is us
            listener.bind(self._place)
            os.chmod(self._place, 0o600)  # noqa: PTH101
            listener.listen()
        except OSError:  # without it others say only that the port is taken
            listener.close()
            return self
        self._listener = listener
        threading.Thread(target=self._answer, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._listener is not None:
            self._unlink()
            self._listener.close()

    def _unlink(self) -> None:
        try:  # noqa: SIM105 (contextlib would cost as much as all of this)
            os.unlink(self._place)  # noqa: PTH108
        except OSError:
            pass

    def _answer(self) -> None:
        import json

        while True:
            try:
                asking, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            with asking:
                try:
                    asking.settimeout(_TIMEOUT)
                    asking.sendall(json.dumps(self._say()).encode())
                except OSError:
                    continue
