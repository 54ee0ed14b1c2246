"""Who gets past the session's listener: a real one, with `cat` in the place of sshd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import wait_until

from jlab_node.errors import JlabError
from jlab_node.runtime import handshake, ports
from jlab_node.session.ssh.listener import listen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NONCE, SECRET = "0f" * 16, "1e" * 16
GREETING = f"jlab {NONCE}\r\n".encode()
KNOCK = f"jlab {SECRET}\r\n".encode()
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"
PER_SECOND = 5  # of them who do
STRANGERS = 10  # who get an sshd at once, at most

# Serves until its standard input ends, and says on which port.
PROGRAM = f"""
import asyncio, resource, sys
from jlab_node.session.ssh.listener import Endpoint, listen
from jlab_node.session.child_processes import Children

async def serve():
    async with Children(grace=0.1) as children:
        async def start(connection):
            return children.start(["cat"], stdin=connection, stdout=connection)

        door = Endpoint(nonce="{NONCE}", client_token="{SECRET}", start=start)
        listener = await listen(None, loopback=True)
        serving = asyncio.ensure_future(door.serve(listener))
        print(listener.getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        serving.cancel()

asyncio.run(serve())
"""


class Door:
    """That program, started by `by`, and clients of it."""

    def __init__(self, stack: contextlib.ExitStack, *by: str, program: str = PROGRAM) -> None:
        self._stack = stack
        process = stack.enter_context(
            subprocess.Popen(
                [*by, sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self._process = psutil.Process(process.pid)

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that has heard the greeting and said this."""
        address = ("127.0.0.1", self.port)
        client = self._stack.enter_context(socket.create_connection(address, timeout=30))
        assert handshake.read_line(client, timeout=30) == GREETING
        client.sendall(said)
        return client

    @property
    def started(self) -> int:
        """How many clients have a process."""
        return len(self._process.children())

    @property
    def limit(self) -> int:
        """How many descriptors it may have."""
        return self._process.rlimit(psutil.RLIMIT_NOFILE)[0]

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


def says(client: socket.socket) -> bytes:
    """The first line from the other end; b"" if it hangs up."""
    with contextlib.suppress(ConnectionResetError):
        return client.makefile("rb").readline()
    return b""


def is_hung_up_on(client: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def test_owner_with_the_client_token_is_served(door: Door) -> None:
    """What follows the knock, be it at once, is left for sshd."""
    client = door.connect(KNOCK + SSH)
    assert client.makefile("rb").readline() == SSH
    assert is_let_in(client)


def test_client_token_in_pieces_is_recognized(door: Door) -> None:
    client = door.connect(KNOCK[:3])
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for place in range(3, len(KNOCK) - 1):
        client.sendall(KNOCK[place : place + 1])
    assert not door.started
    client.sendall(KNOCK[-1:])
    assert is_let_in(client)


def test_unauthenticated_client_that_speaks_ssh_is_served(door: Door) -> None:
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
def test_other_protocols_are_refused(door: Door, said: bytes) -> None:
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


def test_half_a_line_is_not_waited_for_as_long_as_none(door: Door) -> None:
    """Each such client costs looks at what it may still say: it has forty of them."""
    halves = [door.connect(KNOCK[:-1]), door.connect(b"SS"), door.connect(b"jl")]
    silent = door.connect()
    assert is_let_in(door.connect(KNOCK))
    assert all(is_hung_up_on(client) for client in halves)
    silent.sendall(KNOCK)
    assert is_let_in(silent), "there is still time for who has said nothing"


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


# Connects as often as told, says nothing, and begins anew when it is hung up on.
CROWD = """
import contextlib, resource, select, socket, sys
port, count = map(int, sys.argv[1:])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
poll, clients = select.poll(), {}
def come():
    with contextlib.suppress(OSError):
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        clients[client.fileno()] = client
        poll.register(client, select.POLLRDHUP)
for _ in range(count):
    come()
print("all", flush=True)
while True:
    for number, _ in poll.poll():
        poll.unregister(number)
        clients.pop(number).close()
        come()
"""


@pytest.mark.full
def test_the_owner_gets_in_by_few_descriptors_whatever_crowd_there_is() -> None:
    """With `ulimit -n 256`, by which others could take all of them."""
    limited = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"]
    with contextlib.ExitStack() as stack:
        door = Door(stack, *limited)
        crowd = [sys.executable, "-c", CROWD, str(door.port), "750"]
        others = [
            stack.enter_context(subprocess.Popen(crowd, stdout=subprocess.PIPE)) for _ in range(2)
        ]
        for each in others:
            stack.callback(each.kill)
            assert each.stdout is not None
            assert each.stdout.readline() == b"all\n"
        assert door.held < 200
        for _ in range(20):
            assert is_let_in(door.connect(KNOCK))


def test_children_have_the_limit_of_descriptors_that_there_was(tmp_path: Path) -> None:
    code = PROGRAM.replace('["cat"]', f'["sh", "-c", "ulimit -n >{tmp_path}/limit"]')
    limited = ["sh", "-c", 'ulimit -S -n 200 && exec "$@"', "sh"]
    with contextlib.ExitStack() as stack:
        door = Door(stack, *limited, program=code)
        door.connect(KNOCK)
        wait_until(lambda: (tmp_path / "limit").exists() and door.started == 0, "it has run")
        assert (tmp_path / "limit").read_text() == "200\n"
        assert door.limit > 200


def test_strangers_start_only_so_many_sshds_a_second() -> None:
    """Who ends as soon as it has begun could else start a hundred; the owner may."""
    with contextlib.ExitStack() as stack:
        door = Door(stack, program=PROGRAM.replace('["cat"]', '["echo", "sshd"]'))
        began, in_time = time.monotonic(), 0
        while time.monotonic() - began < 2:
            with door.connect(SSH) as client:
                in_time += says(client) == b"sshd\n"
        took = time.monotonic() - began
        assert STRANGERS <= in_time <= STRANGERS + PER_SECOND * took + 1
        owner = [says(door.connect(KNOCK)) for _ in range(50)]
        assert set(owner) == {b"sshd\n"}


def test_silence_is_not_waited_for(door: Door) -> None:
    clients = [door.connect(said) for said in (b"", b"jlab ", KNOCK[:-1], b"SS")]
    assert all(is_hung_up_on(client) for client in clients)
    assert not door.started
    wait_until(lambda: not door.held, "nothing is left")


def test_port_of_a_range_is_shared_with_no_socket_that_does_not_listen() -> None:
    """Whoever is bound to it could be called in its place."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        number = other.getsockname()[1]
        with pytest.raises(JlabError, match="all of them are taken"):
            asyncio.run(listen(range(number, number + 1), loopback=True))


def test_port_of_a_range_that_has_just_been_used_is_waited_for() -> None:
    async def used() -> int:
        with await listen(None, loopback=True) as listener:
            port: int = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = listener.accept()
                accepted.close()  # first: then this end is the one that rests
                client.recv(1)
        return port

    async def run() -> None:
        port = await used()
        assert ports.resting([port]) == {port}
        with pytest.raises(JlabError, match="all of them are taken"):
            await listen(range(port, port + 1), loopback=True, resting=0.2)

    asyncio.run(run())
