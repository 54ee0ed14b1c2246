"""One `ssh -N jlab+...`: the forwards that it holds, what it says, and who answers behind them."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import psutil

from . import connect
from .screen import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .paths import Paths

_TIMEOUT = 5.0  # seconds for one request
_MOST_LINES, _LONGEST = 1000, 4096  # of what ssh says: a cluster may talk without end
# A connection of its own, since a shared one would end on its own terms; and one that notices
# within 15 s that the network is gone.
_OPTIONS = (
    "-N",
    "-oControlPath=none",
    "-oExitOnForwardFailure=yes",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
)


class Forward:
    """A running ssh; a context manager that ends it."""

    def __init__(self, paths: Paths, host: str, more: Sequence[str]) -> None:
        """`more`: further options, such as -L. Raises OSError."""
        config = [] if paths.is_default else ["-F", paths.config]
        self._process = subprocess.Popen(
            ["ssh", *config, *_OPTIONS, *more, "--", host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, connect.OPEN: "1"},
        )
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Forward:
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
            while line := stream.readline(_LONGEST):
                self._lines.append(printable(line.decode("utf-8", errors="replace").strip()))

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def listens_on(self, port: int) -> bool:
        """Whether it, and no other program, has that port of this computer."""
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(self._process.pid).net_connections(kind="tcp")
            return any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found
            )
        return False

    def lines(self) -> list[str]:
        """What it has said since the last time."""
        if self.has_ended:
            self._reader.join(timeout=1)
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._lines.popleft())
        return found


def answers(address: str) -> int | None:
    """The status by which JupyterLab answers at the address that logs in; None: nobody does."""
    parts = urlsplit(address)
    token = parse_qs(parts.query)["token"][0]
    assert parts.port  # noqa: S101
    path = parts.path.removesuffix("lab") + "api/status"
    return request(parts.scheme, parts.port, path, token=token)


def request(
    scheme: str, port: int, path: str, *, token: str = "", timeout: float = _TIMEOUT
) -> int | None:
    """The status of an HTTP request to a local port; None: there is no such answer."""
    connection: http.client.HTTPConnection
    if scheme == "https":  # through ssh already: the certificate is whatever the user made
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {"Authorization": f"token {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
