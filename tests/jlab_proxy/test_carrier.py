"""Connections that are carried to a unix socket: whole, both ways, and held while there is none."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, free_port, wait_until

from jlab_proxy import messages, port_check
from jlab_proxy.cluster import client
from jlab_proxy.commands import open_tunnel
from jlab_proxy.errors import PortTakenError
from jlab_proxy.forwarding import carrier, local_ports, neighbours, ways
from jlab_proxy.forwarding.carrier import Carrier, listen
from jlab_proxy.forwarding.local_ports import LocalForward
from jlab_proxy.paths import Paths
from jlab_proxy.target import Target
from jlab_proxy.ui.terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUEST = b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n"
PAGE = b"GET /lab HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*\r\n\r\n"
POST = b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nAccept: text/html\r\nUpgrade: websocket\r\n\r\n"


class Far:
    """What is behind a unix socket: each connection is served by `serve`."""

    def __init__(self, path: Path, serve: Callable[[socket.socket], None]) -> None:
        self.visits = 0
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        self._serve = serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                came, _ = self._listener.accept()
            except OSError as error:
                if error.errno != errno.EMFILE:
                    return  # it is closed
                time.sleep(0.05)  # accept() takes a descriptor when it begins to wait
                continue
            self.visits += 1
            threading.Thread(target=self._one, args=(came,), daemon=True).start()

    def _one(self, came: socket.socket) -> None:
        with came, contextlib.suppress(OSError):
            self._serve(came)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Port:
    """A port that is carried to `path`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "s"
        self.number = free_port()
        self.carrier = Carrier()
        self.carrier.add(listen(self.number), "lab")
        self._fars: list[Far] = []

    def serve(self, serve: Callable[[socket.socket], None]) -> Far:
        self._fars.append(Far(self.path, serve))
        self.carrier.set_sockets({"lab": str(self.path)})
        return self._fars[-1]

    def lose(self) -> None:
        self.carrier.set_sockets({})
        self._fars[-1].close()

    def asking(self) -> int:
        """So many connections have asked for something, and are held."""
        return sum(not each.is_silent for each in list(self.carrier._connections))

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.number))
        made.settimeout(20)
        return made


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    made = Port(tmp_path)
    with made.carrier:
        yield made


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(1 << 20):
        found += piece
    return found


def echo(came: socket.socket) -> None:
    while piece := came.recv(1 << 20):
        came.sendall(piece)


def answer(came: socket.socket) -> None:
    while came.recv(65536):
        came.sendall(b"answer")


def test_megabytes_both_ways_are_whole(port: Port) -> None:
    port.serve(echo)
    sent = bytes(range(256)) * 80_000
    with port.connect() as connection:

        def say() -> None:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        saying = threading.Thread(target=say)
        saying.start()
        found = read_all(connection)
        saying.join()
    assert len(found) == len(sent)
    assert hashlib.sha256(found).digest() == hashlib.sha256(sent).digest()


def test_a_reader_who_is_slow_stops_the_sender(port: Port) -> None:
    """And takes no memory meanwhile."""
    sent = 0

    def flood(came: socket.socket) -> None:
        nonlocal sent
        while True:
            sent += came.send(bytes(1 << 16))

    port.serve(flood)
    with port.connect():
        wait_until(lambda: sent > 0, "it begins")
        before = -1
        while before != sent:
            before = sent
            time.sleep(0.3)
        assert sent < 30_000_000


def test_the_end_of_one_side_is_told_to_the_other(port: Port) -> None:
    def count(came: socket.socket) -> None:
        came.sendall(str(len(read_all(came))).encode())

    port.serve(count)
    with port.connect() as connection:
        connection.sendall(b"x" * 1000)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"1000"
    port.lose()
    port.serve(lambda came: came.sendall(b"all of it"))
    with port.connect() as connection:
        assert read_all(connection) == b"all of it"


def test_what_came_before_there_was_a_way_is_carried_then(port: Port) -> None:
    with port.connect() as early, port.connect() as silent:
        early.sendall(b"hel")
        time.sleep(0.2)
        early.sendall(b"lo")
        time.sleep(0.2)
        port.serve(echo)
        assert early.recv(5) == b"hello"
        silent.sendall(b"now")
        assert silent.recv(5) == b"now"


@pytest.mark.parametrize(
    ("request_", "is_asked_again"),
    [(REQUEST, True), (UPGRADE, True), (POST, False), (REQUEST[:-4], False), (b"\x16\x03", False)],
    ids=["GET", "websocket", "POST", "half", "TLS"],
)
def test_a_way_that_breaks_before_the_answer_repeats_only_safe_requests(
    port: Port, request_: bytes, *, is_asked_again: bool
) -> None:
    def listen_and_go(came: socket.socket) -> None:
        came.recv(65536)

    first = port.serve(listen_and_go)
    with port.connect() as connection:
        connection.sendall(request_)
        wait_until(lambda: first.visits, "it has been asked")
        if not is_asked_again:
            assert connection.recv(100) == b""
            return
        port.lose()
        port.serve(answer)
        assert connection.recv(100) == b"answer"


def test_a_way_that_breaks_within_an_answer_ends_the_connection(port: Port) -> None:
    def half(came: socket.socket) -> None:
        came.recv(65536)
        came.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    port.serve(half)
    with port.connect() as connection:
        connection.sendall(REQUEST)
        assert read_all(connection).endswith(b"half")


def test_a_connection_that_was_open_before_is_carried_by_the_next_way(port: Port) -> None:
    first = port.serve(lambda came: time.sleep(0.3))
    with port.connect() as connection:
        wait_until(lambda: first.visits, "it is there")
        port.lose()
        time.sleep(0.5)
        port.serve(answer)
        connection.sendall(REQUEST)
        assert connection.recv(100) == b"answer"


def test_page_loads_are_told_and_all_else_waits(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_PAGE_WAIT", 0.3)
    waiting = [port.connect() for _ in range(4)]
    for connection, text in zip(waiting, (REQUEST, POST, UPGRADE, b"")):
        connection.sendall(text)
    with port.connect() as page:
        page.sendall(PAGE)
        told = read_all(page)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Refresh: 2" in head
    port.serve(answer)
    for connection, text in zip(waiting, (REQUEST, POST, UPGRADE)):
        assert connection.recv(100) == b"answer", text
    for connection in waiting:
        connection.close()


def test_a_socket_without_a_listener_is_like_no_way(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier, "_PAGE_WAIT", 0.3)
    port.carrier.set_sockets({"lab": str(port.path)})
    with port.connect() as page:
        page.sendall(PAGE)
        assert read_all(page).startswith(b"HTTP/1.1 503 ")
    with port.connect() as connection:
        connection.sendall(REQUEST)
        Far(port.path, answer)
        assert connection.recv(100) == b"answer"


def test_connections_beyond_the_bound_are_closed(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port.carrier, "_max_connections", 5)
    made = [port.connect() for _ in range(5)]
    for each in made:
        each.sendall(REQUEST)
    wait_until(lambda: port.asking() == 5, "all have asked")
    with port.connect() as more:
        assert more.recv(1) == b""
    made.pop().close()
    wait_until(lambda: port.asking() == 4, "one has left")
    port.serve(answer)
    with port.connect() as again:
        again.sendall(REQUEST)
        assert again.recv(100) == b"answer"
    for each in made:
        each.close()


def test_a_silent_connection_is_closed_for_one_that_asks(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port.carrier, "_max_connections", 5)
    silent, asking = [port.connect() for _ in range(3)], [port.connect() for _ in range(2)]
    silent[1].sendall(REQUEST[:-2])
    for each in asking:
        each.sendall(REQUEST)
    wait_until(lambda: port.asking() == 2, "they have asked")
    with port.connect() as more:
        more.sendall(REQUEST)
        assert silent[0].recv(1) == b"", "the oldest goes"
        port.serve(answer)
        for each in (*asking, more):
            assert each.recv(100) == b"answer"
    for each in (*silent, *asking):
        each.close()


IDLE = """\
import os, socket, sys, time
"x".encode("idna")  # loaded while the standard library can be read
os.setuid(int(sys.argv[2]))
host = sys.argv[1]
made = [socket.create_connection((host, int(sys.argv[3]))) for _ in range(30)]
for each in made:
    each.settimeout(0.5)
held = 0
for each in made:
    try:
        each.recv(1)
    except socket.timeout:
        held += 1
        each.settimeout(0.05)
print(held, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_other_users_do_not_crowd_the_owner_out(
    port: Port, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(port.carrier, "_max_connections", 20)
    command = [sys.executable, "-c", IDLE, host, str(NOBODY), str(port.number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as idle:
        try:
            assert idle.stdout
            assert int(idle.stdout.readline()) == 10, "half of the places, and no more"
            port.serve(answer)
            with contextlib.ExitStack() as stack:
                for _ in range(10):
                    connection = stack.enter_context(port.connect())
                    connection.sendall(REQUEST)
                    assert connection.recv(100) == b"answer"
        finally:
            idle.kill()


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nX: y\r\n\r\n"])
def test_a_client_that_leaves_a_large_request_is_forgotten(port: Port, text: bytes) -> None:
    """A head without end is none at all; a large body waits as long as its sender does."""
    with port.connect() as connection:
        connection.sendall(text + b"x" * (1 << 17))
        if text.startswith(b"GET"):
            with contextlib.suppress(ConnectionResetError):  # some of it was not read
                assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
        else:
            time.sleep(0.5)
            assert port.carrier._connections
    wait_until(lambda: not port.carrier._connections, "it is forgotten")


def test_a_way_that_leads_to_nobody_is_told_to_page_loads(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh does it for a socket that is not there: it takes the connection, and ends it."""
    monkeypatch.setattr(carrier, "_PAGE_WAIT", 1.5)
    far = port.serve(lambda came: None)
    with port.connect() as page:
        page.sendall(PAGE)
        assert read_all(page).startswith(b"HTTP/1.1 503 ")
    assert far.visits > 1, "it was asked again before"


def test_a_lack_of_descriptors_is_waited_for(port: Port) -> None:
    with port.connect() as connection:
        connection.sendall(REQUEST)
        wait_until(lambda: port.carrier._connections, "it waits")
        Far(port.path, answer)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            port.carrier.set_sockets({"lab": str(port.path)})
            time.sleep(0.5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert connection.recv(100) == b"answer"


def test_clients_that_leave_are_forgotten(port: Port) -> None:
    port.serve(answer)
    for _ in range(300):
        with port.connect() as connection:
            connection.sendall(REQUEST)
            connection.recv(10)
    for _ in range(300):
        port.connect().close()
    wait_until(lambda: not port.carrier._connections, "all are forgotten")


@pytest.mark.skipif(sys.platform != "linux", reason="it is so on Linux alone")
def test_a_port_is_shared_with_no_socket_that_does_not_listen() -> None:
    """Whoever connects from there to the browser's next port would hear what the browser says."""
    number = free_port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", number))
        with pytest.raises(OSError, match="in use"):
            listen(number, settling=0)
    ours = listen(number)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", number))
    for each in ours:
        each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says so")
def test_a_port_that_was_used_just_now_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)):
            listener.accept()[0].close()
        assert not neighbours.is_resting(number), "somebody listens"
    assert neighbours.is_resting(number)
    with pytest.raises(OSError, match="in use"):
        listen(number, settling=0)


@contextlib.contextmanager
def ending_connection() -> Iterator[int]:
    """A port at which a connection has just ended, as any user can have at any: TIME_WAIT."""
    with socket.create_server(("127.0.0.1", 0)) as far, socket.socket() as near:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        near.bind(("127.0.0.1", 0))
        number = near.getsockname()[1]
        near.connect(far.getsockname())
        came, _ = far.accept()
        near.close()
        came.close()
        wait_until(lambda: neighbours.is_resting(number), "it waits")
        yield number


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such a port")
def test_no_port_but_the_session_s_own_is_waited_for(tmp_path: Path) -> None:
    """Another user can keep all the next ones in that state: `open` never got to its browser."""
    paths = Paths(str(tmp_path / "config"), is_default=False)
    with ending_connection() as number:
        assert port_check.is_free(number), "of those there is one that says so"
        before = LocalForward(number - 1, "lab", "/tmp/jlab-alice", {"dask": number})
        after = local_ports.at_next_free_port(before, paths)
        assert number not in (after.port, *after.exposed.values())
        assert after.port != after.exposed["dask"]
        began = time.monotonic()
        target, forward = Target("cal1"), LocalForward(number, "lab", "/tmp/jlab-alice")
        with pytest.raises(PortTakenError):
            ways.choose(paths, target, forward, settling=1)
        assert 1 <= time.monotonic() - began < 10
        with pytest.raises(PortTakenError):  # the port of what is exposed
            ways.choose(paths, target, replace(before, port=free_port()), settling=60)
        assert time.monotonic() - began < 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such a port")
def test_open_waits_for_the_session_s_own_port_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(str(tmp_path / "config"), is_default=False)
    cluster = client.ClusterClient(paths, "cal1", share=False)
    screen = Screen()
    shown: list[str] = []
    monkeypatch.setattr(screen, "status", shown.append)
    with ending_connection() as number:
        forward = LocalForward(number, "lab", "/tmp/jlab-alice")
        tunnel = open_tunnel.Tunnel(
            cluster, open_tunnel.OpenOptions(Target("cal1"), forward, browser=False), screen
        )
        assert tunnel._settling_time() > 60
        assert shown == [messages.port_is_settling(number)]
        tunnel._forward = replace(forward, port=free_port())
        assert tunnel._settling_time() == 0
        assert len(shown) == 1


def test_both_addresses_are_taken_or_none(tmp_path: Path) -> None:
    number = free_port()
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", number))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            listen(number)
        with socket.socket() as free:
            free.bind(("127.0.0.1", number))
    made = listen(number)
    assert [each.getsockname()[0] for each in made] == ["127.0.0.1", "::1"]
    for each in made:
        each.close()


def test_a_carrier_is_told_of_an_ssh_that_ends_after_it() -> None:
    """Ctrl-C may come between any two steps."""
    with Carrier() as ended:
        pass
    ended.set_sockets({})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's own ways are tried")
@pytest.mark.parametrize(("family", "host"), [(2, "127.0.0.1"), (10, "::1")])
def test_both_ways_to_a_connections_user_say_the_same(family: int, host: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname()[:2])
        served, _ = listener.accept()
        theirs, ours = served.getpeername()[:2], served.getsockname()[:2]
        for way in (neighbours._asked_for, neighbours._read_from_table):
            assert way(family, theirs, ours) == os.getuid()
            assert way(family, (host, 1), ours) is None, "no such connection"
        assert not neighbours.is_stranger(served)
        client.close()
        for way in (neighbours._asked_for, neighbours._read_from_table):
            assert way(family, theirs, ours) is None, "it is nobody's, though its row says root"
        assert neighbours.is_stranger(served), "who has gone needs no room"
        served.close()
        assert neighbours.is_stranger(served)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's own ways are tried")
def test_whose_a_connection_is_is_not_said_by_who_listens_at_its_port() -> None:
    """Linux tells of a listener where it finds no such connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = (socket.AF_INET, listener.getsockname()[:2], ("127.0.0.1", 1))
        assert neighbours._asked_for(*asked) is None
        assert neighbours._read_from_table(*asked) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's own ways are tried")
@pytest.mark.parametrize(
    ("known", "is_one"), [("both", False), ("own end", True), ("nothing", False)]
)
def test_one_whom_a_system_does_not_name_is_a_stranger_where_it_tells_at_all(
    monkeypatch: pytest.MonkeyPatch, known: str, is_one: bool
) -> None:
    def say(_: int, here: tuple[str, int], __: tuple[str, int]) -> int | None:
        is_ours = here[1] == listener.getsockname()[1]
        return os.getuid() if known == "both" or (is_ours and known == "own end") else None

    def fail(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no such question")

    monkeypatch.setattr(neighbours, "_asked_for", fail)
    monkeypatch.setattr(neighbours, "_read_from_table", say)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as served,
    ):
        assert neighbours.is_stranger(served) == is_one


CONNECT = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
host = sys.argv[3]
connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
connection.connect((host, int(sys.argv[2])))
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("is_told", [True, False])
def test_another_users_connection_is_a_strangers(
    monkeypatch: pytest.MonkeyPatch, is_told: bool, host: str
) -> None:
    """Also where the system does not answer that question, and root's is not.

    A socket of IPv6 that is connected to an address of IPv4 is listed among those of IPv6.
    """
    if not is_told:
        monkeypatch.setattr(neighbours, "_NETLINK_SOCK_DIAG", 10**6)
    monkeypatch.setattr(os, "getuid", lambda: NOBODY + 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(30)
        for user, is_one in ((NOBODY, True), (NOBODY + 1, False), (0, False)):
            command = [sys.executable, "-c", CONNECT, str(user), str(listener.getsockname()[1])]
            command.append(host)
            with subprocess.Popen(command, stdin=subprocess.PIPE), listener.accept()[0] as served:
                assert neighbours.is_stranger(served) == is_one
