"""A way into the job that breaks anywhere: kill -9, silence. The rest ends, the next one works."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import Loopback, accepts, finished, free_port, name_of, wait_until

from jlab_proxy.forwarding import ssh_forward
from tests.loopback.light import all_end, family, has_ended, without_monitors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

pytestmark = pytest.mark.full

NEVER = "sh -c 'exec sleep 1000' jupyter-lab"


class Chain:
    """`ssh jlab+demo cat`, and all that is on its way."""

    def __init__(self, site: Loopback, host: str) -> None:
        self._site = site
        before = set(self.carriers())  # of the last one there may still be something
        self.ssh = subprocess.Popen(
            site.ssh(host, "cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        wait_until(lambda: set(self.carriers()) - before, "it is under way")

    def named(self, name: str) -> list[psutil.Process]:
        """The processes of that name."""
        ways: dict[str, Callable[[], list[psutil.Process]]] = {
            "ssh": lambda: [psutil.Process(self.ssh.pid)],
            "proxy": lambda: psutil.Process(self.ssh.pid).children(),
            "master": lambda: masters(self._site),
            "sshd": lambda: without_monitors(self._site.connections()),
            "carrier": self.carriers,
            "relay": self.relay,
            "cat": self.cats,
            "job": lambda: without_monitors(self.in_the_job()),
        }
        return ways[name]()

    def carriers(self) -> list[psutil.Process]:
        """Below the login node's sshd: a cat that relays, or Python that waits."""
        return [
            each
            for connection in self._site.connections()
            for each in connection.children()
            if name_of(each)[:4] not in ("sshd", "")
        ]

    def cats(self) -> list[psutil.Process]:
        """What carries bytes each way."""
        return [each for each in self.relay() if name_of(each) == "cat"]

    def relay(self) -> list[psutil.Process]:
        return [process for each in self.carriers() for process in family(each)]

    def in_the_job(self) -> list[psutil.Process]:
        """The session's sshd for this connection, and all below it."""
        session = psutil.Process(int(self._site.records()[0].name.split("-")[1]))
        return [
            each
            for child in session.children()
            if name_of(child).startswith("sshd")
            for each in [child, *child.children(recursive=True)]
        ]

    def everything(self) -> list[psutil.Process]:
        names = ("ssh", "proxy", "relay", "job")
        return [each for name in names for each in self.named(name)]

    def goes_on(self) -> bool:
        """Whether bytes still go there and back; waits until they do or it has ended."""
        assert self.ssh.stdin is not None
        assert self.ssh.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.ssh.stdin.write(b"ping\n")
        return self.ssh.stdout.read(5) == b"ping\n"

    def has_ended(self) -> bool:
        """Some bytes may still pass on the way there."""
        return not self.goes_on()

    def end(self) -> None:
        self.ssh.kill()
        self.ssh.wait()
        for stream in (self.ssh.stdin, self.ssh.stdout):
            if stream:
                stream.close()


def masters(site: Loopback) -> list[psutil.Process]:
    path = f"{site.laptop}/jlab/login-"
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if any(path in word and "[mux]" in word for word in each.info["cmdline"] or ())
    ]


@pytest.fixture(scope="module")
def site() -> Iterator[Loopback]:
    """With a session, one that never becomes ready, and a laptop."""
    with Loopback() as made:
        made.wait_for_session(made.start_session())
        made.start_session("--name", "slow", "--jupyter", NEVER, log=made.root / "slow.log")
        wait_until(lambda: list(made.tmp.glob("*/starting")), "it is starting")
        setup = made.proxy("setup", "demo", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        yield made


def the_next_one_works(site: Loopback, host: str = "jlab+demo") -> None:
    done = finished(site.ssh(host, "echo here"))
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


@pytest.mark.parametrize("victim", ["ssh", "proxy", "master", "sshd", "cat", "job"])
def test_a_connection(site: Loopback, victim: str) -> None:
    for which in range(2):  # there may be more than one of a name
        chain = Chain(site, "jlab+demo")
        try:
            assert chain.goes_on()
            there = chain.everything()
            victims = chain.named(victim)
            victims[min(which, len(victims) - 1)].kill()
            wait_until(chain.has_ended, "ssh notices")
        finally:
            chain.end()
        all_end(there, seconds=60)
        the_next_one_works(site)


@pytest.mark.parametrize("victim", ["ssh", "proxy", "master", "sshd", "carrier"])
def test_one_that_waits(site: Loopback, victim: str) -> None:
    chain = Chain(site, "jlab+demo+slow")
    try:
        there = chain.everything()
        chain.named(victim)[0].kill()
        wait_until(chain.has_ended, "ssh notices")
    finally:
        chain.end()
    all_end(there, seconds=60)
    the_next_one_works(site)


class Freezing:
    """A relay to a port of this machine that can fall silent, without a goodbye."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._moves = threading.Event()
        self._moves.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def freeze(self) -> None:
        self._moves.clear()

    def thaw(self) -> None:
        self._moves.set()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._moves.wait()
                target.sendall(data)
        self._moves.wait()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.thaw()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def road(site: Loopback) -> Iterator[Freezing]:
    """The way to the login node, as alias `far`."""
    made = Freezing(site.port)
    site.add_alias("far", made.port)
    config = site.config.read_text()
    site.config.write_text(config.replace("Host far\n", "Host far\n    ConnectTimeout 5\n", 1))
    setup = site.proxy("setup", "far", "--yes")
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield made
    finally:
        made.close()


def test_silence(site: Loopback, road: Freezing) -> None:
    """Connections that are half-open: one into the job, and one that waits."""
    chains = [Chain(site, host) for host in ("jlab+far", "jlab+far+slow")]
    try:
        assert chains[0].goes_on()
        there = [each for chain in chains for each in (*chain.everything(), *masters(site))]
        road.freeze()
        for chain in chains:
            chain.ssh.wait(timeout=150)
    finally:
        for chain in chains:
            chain.end()
    road.thaw()
    subprocess.run(site.proxy("close", "demo"), check=True, stdout=subprocess.DEVNULL)
    all_end(there, seconds=150)
    the_next_one_works(site, "jlab+far")


def test_silence_from_the_beginning(site: Loopback, road: Freezing) -> None:
    """Where the user's own ssh has a bound, this has the same."""
    subprocess.run(site.proxy("close", "far"), check=True, stdout=subprocess.DEVNULL)
    road.freeze()
    done = finished(site.ssh("jlab+far", "true"))
    assert done.returncode == 255
    assert "timed out" in done.stderr
    road.thaw()
    the_next_one_works(site, "jlab+far")


def test_open(site: Loopback) -> None:
    """Whatever it leaves, the next one has the port."""
    setup = site.proxy("setup", "demo", "--yes")
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    left: list[psutil.Process] = []
    for _ in range(3):
        process = subprocess.Popen(
            site.proxy("open", "demo", "--no-browser"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert ssh_forward.login_status(url) == 200
            assert all(map(has_ended, left))
            left = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()
            process.communicate()
    done = subprocess.run(
        site.proxy("close", "demo"), capture_output=True, text=True, timeout=60, check=True
    )
    assert "closed the tunnel" in done.stdout
    all_end(left, seconds=60)
    assert not accepts(int(url.split(":")[2].split("/")[0]))
