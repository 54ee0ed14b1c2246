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
_MAX_PATH = 100  # bytes of a socket's path
_TIMEOUT = 2.0  # seconds for a process of this computer to answer
_MAX_ANSWER = 65536  # bytes


def query(paths: Paths, port: int) -> dict[str, Any]:
    """Return what the `open` that has the port says of itself; {} if none has it.

    `pid`; `host`, as one types it after ssh; once it was there: `id` of the session, `text` about
    it, and `address` that logs in.
    """
    return _query(_socket_path(paths, port))


def query_all(paths: Paths) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the port of each `open` of this config file, and what it says of itself."""
    try:
        names = os.listdir(paths.directory)  # noqa: PTH208
    except OSError:
        return
    for name in sorted(names):
        port = name[len(_PREFIX) :]
        if name.startswith(_PREFIX) and port.isascii() and port.isdigit():
            state = _query(f"{paths.directory}/{name}")
            if state:
                yield int(port), state


def _socket_path(paths: Paths, port: int) -> str:
    return f"{paths.directory}/{_PREFIX}{port}"


def _query(path: str) -> dict[str, Any]:
    import _socket
    import json

    if not hasattr(_socket, "AF_UNIX"):
        return {}
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    answer, pid = b"", None
    try:
        connection.settimeout(_TIMEOUT)
        connection.connect(path)
        if hasattr(_socket, "SO_PEERCRED"):  # else it says so itself
            credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
            pid = int.from_bytes(credentials[:4], sys.byteorder)
        while len(answer) < _MAX_ANSWER and (piece := connection.recv(_MAX_ANSWER)):
            answer += piece
        state = json.loads(answer)
    except (OSError, ValueError):
        return {}
    finally:
        connection.close()
    if not isinstance(state, dict) or pid == 0:  # of another container: nothing here is its
        return {}
    return state if pid is None else {**state, "pid": pid}


class StateServer:
    """Tells those who ask what `describe` returns; a context manager of whoever has the port."""

    def __init__(self, paths: Paths, port: int, describe: Callable[[], dict[str, Any]]) -> None:
        self._socket_path = _socket_path(paths, port)
        self._paths = paths
        self._describe = describe
        self._listener: Any = None

    def __enter__(self) -> StateServer:
        import socket
        import threading

        if len(os.fsencode(self._socket_path)) > _MAX_PATH or not self._paths.is_ours():
            return self
        listener = socket.socket(socket.AF_UNIX)
        try:
            self._unlink()  # of one that was killed: who has the port is us
            listener.bind(self._socket_path)
            os.chmod(self._socket_path, 0o600)  # noqa: PTH101
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
            os.unlink(self._socket_path)  # noqa: PTH108
        except OSError:
            pass

    def _answer(self) -> None:
        import json

        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is closed
                return
            with connection:
                try:
                    connection.settimeout(_TIMEOUT)
                    connection.sendall(json.dumps(self._describe()).encode())
                except OSError:
                    continue
