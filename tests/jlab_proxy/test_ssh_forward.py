"""What is asked through an ssh, and how long it may take."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.forwarding import ssh_forward

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextlib.contextmanager
def server(first: bytes, again: bytes) -> Iterator[int]:
    """A port that answers `first`, and then goes on with `again` until nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            came, _ = listener.accept()
            with came, contextlib.suppress(OSError):
                came.recv(4096)
                came.sendall(first)
                while again:
                    came.sendall(again)
                    time.sleep(0.05)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)
        assert not thread.is_alive(), "its connection has ended"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("first", "again"),
    [(b"", CONTINUE), (b"HTTP/1.1 200 OK\r\nA: ", b"x"), (b"", b"x")],
    ids=["100 Continue", "a header that drips", "a line that drips"],
)
def test_an_answer_without_end_is_none(scheme: str, first: bytes, again: bytes) -> None:
    """A socket's timeout begins anew with each byte."""
    began = time.monotonic()
    with server(first, again) as port:
        assert ssh_forward.http_status(scheme, port, "/api", token="t", timeout=0.5) is None
    assert time.monotonic() - began < 5


def test_an_answer_in_time_is_its_status() -> None:
    with server(CONTINUE + ANSWER, b"") as port:
        assert ssh_forward.http_status("http", port, "/api", token="t") == 200
