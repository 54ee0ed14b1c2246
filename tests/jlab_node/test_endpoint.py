"""Who gets past the session's listener: a real one, with `cat` in the place of sshd."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import wait_until

from jlab_node import endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

NONCE, SECRET = "0f" * 16, "1e" * 16
GREETING = f"jlab {NONCE}\r\n".encode()
KNOCK = f"jlab {SECRET}\r\n".encode()
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
STRANGERS = 10  # who get an sshd at once, at most

# Serves until its standard input ends, and says on which port.
PROGRAM = f"""
import asyncio, resource, sys
from jlab_node.endpoint import Endpoint, listen
from jlab_node.processes import Children

async def serve():
    async with Children(grace=0.1) as children:
        async def start(connection):
            return children.start(["cat"], stdin=connection, stdout=connection)

        door = Endpoint(nonce="{NONCE}", secret="{SECRET}", start=start)
        listener = listen(None, loopback=True)
        serving = asyncio.ensure_future(door.serve(listener))
        print(listener.getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()

asyncio.run(serve())
"""


class Door:
    """That program, and clients of it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert process.stdout is not None
        self._port = int(process.stdout.readline())
        self._process = psutil.Process(process.pid)

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that has heard the greeting and said this."""
        address = ("127.0.0.1", self._port)
        client = self._stack.enter_context(socket.create_connection(address, timeout=30))
        assert endpoint.read_line(client, timeout=30) == GREETING
        client.sendall(said)
        return client

    @property
    def started(self) -> int:
        """How many clients have a process."""
        return len(self._process.children())

    @property
    def held(self) -> int:
        """How many clients it holds itself."""
        sockets = self._process.net_connections("tcp4")
        return sum(each.status != psutil.CONN_LISTEN for each in sockets)


@pytest.fixture
def door() -> Iterator[Door]:
    with contextlib.ExitStack() as stack:
        yield Door(stack)


def is_let_in(client: socket.socket) -> bool:
    """Whether `cat` is at the other end."""
    client.sendall(b"hello\n")
    return b"hello\n" in client.makefile("rb")


def is_hung_up_on(client: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def test_the_owner(door: Door) -> None:
    """What follows the knock, be it at once, is left for sshd."""
    client = door.connect(KNOCK + SSH)
    assert client.makefile("rb").readline() == SSH
    assert is_let_in(client)


def test_the_knock_comes_in_pieces(door: Door) -> None:
    client = door.connect(KNOCK[:3])
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for place in range(3, len(KNOCK) - 1):
        client.sendall(KNOCK[place : place + 1])
    assert not door.started
    client.sendall(KNOCK[-1:])
    assert is_let_in(client)


def test_a_stranger_who_speaks_ssh(door: Door) -> None:
    """An older `connect` knows of no knock: the laptop's ssh speaks at once."""
    client = door.connect(SSH)
    assert client.makefile("rb").readline() == SSH
    assert is_let_in(client)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"jlab " + b"2d" * 16 + b"\r\n", id="another's knock"),
        pytest.param(GREETING, id="the greeting"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: n1:40123\r\n\r\n", id="http"),
        pytest.param(os.urandom(4096), id="noise"),
    ],
)
def test_what_is_no_ssh(door: Door, said: bytes) -> None:
    assert is_hung_up_on(door.connect(said))
    assert not door.started


def test_nothing_is_started_for_who_says_nothing(door: Door) -> None:
    silent = [door.connect() for _ in range(50)]
    assert door.held == len(silent)
    assert not door.started
    assert is_let_in(door.connect(KNOCK))
    for client in silent:
        client.close()
    wait_until(lambda: not door.held, "they are forgotten")


def test_those_who_say_nothing_make_room(door: Door) -> None:
    """Nine hundred of them: the oldest go, so that descriptors for the owner are left."""
    silent = [door.connect() for _ in range(900)]
    assert is_hung_up_on(silent[0])
    assert door.held <= 500
    assert is_let_in(door.connect(KNOCK))
    assert is_let_in(door.connect(SSH)), "nor do they keep strangers out"


def test_strangers_cannot_crowd_the_owner_out(door: Door) -> None:
    strangers = [door.connect(SSH) for _ in range(50)]
    wait_until(lambda: door.started == STRANGERS, "as many as are let in have a process")
    owner = [door.connect(KNOCK) for _ in range(150)]
    assert all(is_let_in(client) for client in owner)
    assert door.started == STRANGERS + len(owner)
    out = [client for client in strangers if is_hung_up_on(client)]
    assert len(out) == len(strangers) - STRANGERS
    for client in strangers:
        client.close()
    wait_until(lambda: door.started == len(owner), "they are gone")
    assert is_let_in(door.connect(SSH)), "their places are free"


def test_silence_is_not_waited_for(door: Door) -> None:
    clients = [door.connect(said) for said in (b"", b"jlab ", KNOCK[:-1], b"SS")]
    assert all(is_hung_up_on(client) for client in clients)
    assert not door.started
    wait_until(lambda: not door.held, "nothing is left")
