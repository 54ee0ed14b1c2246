"""One `ssh -N jlab+...`: what it says, what it forwards, and who answers behind that."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import psutil

from ..errors import printable
from ..port_check import HOST
from ..ssh import OPEN, TAGGED
from . import port_owners

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..paths import Paths

_REQUEST_TIMEOUT = 5.0  # seconds for one request
_MAX_LINES, _MAX_LINE = 1000, 4096  # of what ssh says: a cluster may talk without end
# It notices within 30 s that the network is gone, and loses nothing if that is back after 20.
_OPTIONS = (
    "-N",
    "-oExitOnForwardFailure=yes",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=5",
)


class ForwardingSsh:
    """A running ssh; a context manager that ends it."""

    def __init__(self, paths: Paths, host: str, more: Sequence[str]) -> None:
        """`more`: further options, such as -L. Raises OSError."""
        config = [] if paths.is_default else ["-F", paths.config]
        self._process = subprocess.Popen(
            ["ssh", *config, *_OPTIONS, *more, "--", host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, OPEN: TAGGED},
        )
        self._lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> ForwardingSsh:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1)

    def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101
        with self._process.stderr as stream:
            while line := stream.readline(_MAX_LINE):
                self._lines.append(printable(line.decode("utf-8", errors="replace").strip()))

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def processes(self) -> tuple[psutil.Process, ...]:
        """The process itself; () if it has ended."""
        with contextlib.suppress(psutil.Error):
            return (psutil.Process(self._process.pid),)
        return ()

    def lines(self) -> list[str]:
        """Return what it has said since the last call."""
        if self.has_ended:
            self._reader.join(timeout=1)
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._lines.popleft())
        return found


def login_status(
    address: str, *, socket_path: str | None = None, by: Sequence[psutil.Process] | None = None
) -> int | None:
    """Return the status by which JupyterLab answers at the address; None if nobody does.

    `socket_path`: a unix socket that leads there as well, and the token goes to that alone.
    `by`: the token goes to nobody but these processes.
    """
    parts = urlsplit(address)
    token = parse_qs(parts.query)["token"][0]
    assert parts.port  # noqa: S101
    path = parts.path.removesuffix("lab") + "api/status"
    return http_status(parts.scheme, parts.port, path, token=token, socket_path=socket_path, by=by)


def http_status(
    scheme: str,
    port: int,
    path: str,
    *,
    token: str = "",
    timeout: float = _REQUEST_TIMEOUT,
    socket_path: str | None = None,
    by: Sequence[psutil.Process] | None = None,
) -> int | None:
    """Return the status of an HTTP request to a local port; None if there is no such answer.

    `by`: nothing is said unless one of these processes hears it. `timeout`: seconds for all that
    comes once somebody is there.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.sock = _connected_socket(port, socket_path, timeout)
        with _deadline(connection.sock, timeout):
            return _status(connection, scheme, path, token, by)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _status(
    connection: http.client.HTTPConnection,
    scheme: str,
    path: str,
    token: str,
    by: Sequence[psutil.Process] | None,
) -> int | None:
    """Raises OSError, http.client.HTTPException."""
    if by is not None and not port_owners.have_accepted(by, connection.sock):
        return None
    if scheme == "https":  # through ssh already: the certificate is whatever the user made
        context = ssl._create_unverified_context()  # noqa: S323
        connection.sock = context.wrap_socket(connection.sock)
    headers = {"Authorization": f"token {token}"} if token else {}
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status


@contextlib.contextmanager
def _deadline(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Let the connection end after so many seconds, whatever comes; raises TimeoutError then.

    A socket's own timeout begins anew with each byte: an answer that drips would never end.
    """
    has_passed = threading.Event()
    same = connection.dup()

    def end() -> None:
        has_passed.set()
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()
    if has_passed.is_set():  # what came by then may be half an answer
        raise TimeoutError


def _connected_socket(port: int, socket_path: str | None, timeout: float) -> socket.socket:
    """Return a socket that is connected to the path, or to the port; raises OSError."""
    if socket_path is None:
        return socket.create_connection((HOST, port), timeout)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout)
        made.connect(socket_path)
    except OSError:
        made.close()
        raise
    return made
