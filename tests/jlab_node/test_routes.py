"""The ways into a session: real sockets, and real commands that do what sites' commands do."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from jlab_node.connect import routes
from jlab_node.registry import home, records
from jlab_node.registry.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.jlab_node.conftest import Children

NONCE = "0f" * 16
RECORD = Record(
    name="lab",
    node="n1",
    port=8888,
    token="ab" * 32,
    scheduler="slurm",
    job_id="12",
    ssh_port=40123,
    nonce=NONCE,
)
NAP = f"sleep 60.{os.getpid()}"  # no other process takes the same
BANNER = b"SSH-2.0-OpenSSH_9.2\r\n"
GREET = "printf 'SSH-2.0-OpenSSH_9.2\\r\\n'"


@pytest.fixture
def jlab(tmp_path: Path) -> Path:
    """A ~/.jlab."""
    made = tmp_path / "home" / ".jlab"
    (made / "sessions").mkdir(parents=True)
    (made / "connect").write_text(home.connect_script(), encoding="utf-8")
    return made


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], Record]]:
    """Listens, says the bytes to whoever comes, and hangs up; None: says nothing, and does not."""
    stack = contextlib.ExitStack()

    def serve(said: bytes | None) -> Record:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if said is None:
                    stack.enter_context(connection)
                else:
                    connection.sendall(said)
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        stack.callback(thread.join)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        port = listener.getsockname()[1]
        return replace(RECORD, node="127.0.0.1", ssh_port=port)

    with stack:
        yield serve


def test_tcp_to_the_endpoint_opens_a_route(server: Callable[[bytes | None], Record]) -> None:
    way = routes.tcp(server(b"jlab " + NONCE.encode() + b"\r\n" + BANNER + b"more"))
    with way.connection as connection:
        assert way.first_line == BANNER
        connection.settimeout(5)
        assert connection.recv(100) == b"more", "what follows is ssh's"


def test_tcp_to_a_session_of_this_machine(server: Callable[[bytes | None], Record]) -> None:
    """It listens on the loopback alone."""
    record = server(b"jlab " + NONCE.encode() + b"\r\n" + BANNER)
    way = routes.tcp(replace(record, scheduler="local", node="no-such-host.invalid"))
    with way.connection as connection:
        assert connection.getpeername() == ("127.0.0.1", record.ssh_port)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"jlab " + b"1f" * 16 + b"\r\n", id="another session"),
        pytest.param(b"jlab " + NONCE.encode() + b"\n", id="nearly the same"),
        pytest.param(b"jlab " + NONCE.encode(), id="not a whole line"),
        pytest.param(BANNER, id="an sshd"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="a web server"),
        pytest.param(b"x" * 5000, id="a long line"),
        pytest.param(b"\n", id="an empty line"),
    ],
)
def test_tcp_to_another_program(server: Callable[[bytes | None], Record], said: bytes) -> None:
    record = server(said)
    with pytest.raises(routes.SessionEnded) as caught:
        routes.tcp(record)
    assert str(caught.value) == f"127.0.0.1:{record.ssh_port} belongs to another program now"


@pytest.mark.parametrize(
    "said", [b"", b"jlab " + NONCE.encode() + b"\r\n"], ids=["nothing", "greets"]
)
def test_tcp_to_one_that_hangs_up(server: Callable[[bytes | None], Record], said: bytes) -> None:
    """A forwarder whose other end is gone, or a crowd: that tells nothing of the session."""
    with pytest.raises(routes.RouteUnavailable, match=r"^it hangs up at once$"):
        routes.tcp(server(said))


def test_tcp_to_one_that_resets_the_connection() -> None:
    """As a kernel does when its program leaves what was sent unread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(routes.RouteUnavailable, match=r"^it hangs up at once$"):
            routes.tcp(replace(RECORD, node="127.0.0.1", ssh_port=port))
        thread.join()


def test_tcp_to_one_that_accepts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full, and so it looks like a node behind a firewall."""
    monkeypatch.setattr(routes, "TCP_TIMEOUT", 0.3)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        began = time.monotonic()
        with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
            routes.tcp(replace(RECORD, node="127.0.0.1", ssh_port=listener.getsockname()[1]))
        assert time.monotonic() - began < 30


def test_tcp_to_one_that_hangs_up_at_first() -> None:
    """It hears the knock, and lets us in when there is room."""
    record = replace(RECORD, node="127.0.0.1", knock="1e" * 16)
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in (b"", b"", BANNER):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"jlab " + NONCE.encode() + b"\r\n")
                    heard.append(connection.recv(100))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        way = routes.tcp(replace(record, ssh_port=listener.getsockname()[1]))
        way.connection.close()
        thread.join()
    assert way.first_line == BANNER
    assert heard == [b"jlab " + b"1e" * 16 + b"\r\n"] * 3


def test_tcp_to_one_that_is_silent(
    server: Callable[[bytes | None], Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "TCP_TIMEOUT", 0.3)
    began = time.monotonic()
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.tcp(server(None))
    assert 0.2 < time.monotonic() - began < 20
    gc.collect()  # what was left open would complain


def test_tcp_to_a_closed_port_is_unavailable(server: Callable[[bytes | None], Record]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(routes.RouteUnavailable, match=r"^Connection refused$"):
        routes.tcp(replace(RECORD, node="127.0.0.1", ssh_port=port))


def test_tcp_to_a_name_that_is_none() -> None:
    with pytest.raises(routes.RouteUnavailable) as caught:
        routes.tcp(replace(RECORD, node="a" * 64))
    assert str(caught.value)


ENTER = ["bash", "~/.jlab/connect", "--inside=slurm-12-lab"]
SSH = [
    *["ssh", "-T", "-oBatchMode=yes", "-oConnectTimeout=1", "-oClearAllForwardings=yes"],
    *["-oForwardX11=no", "-oForwardAgent=no", "--", "n1", *ENTER],
]


@pytest.mark.parametrize(
    ("scheduler", "name", "begin"),
    [
        pytest.param("slurm", "srun", ["srun", "--overlap"], id="slurm"),
        pytest.param("oar", "oarsh", ["env", "OAR_JOB_ID=12", "oarsh", "n1"], id="oar"),
    ],
)
def test_fallback_routes_in_order(jlab: Path, scheduler: str, name: str, begin: list[str]) -> None:
    record = replace(RECORD, scheduler=scheduler)
    step, ssh = routes.fallback_routes(record, jlab, unresponsive=False)
    assert (step.name, step.is_outside) == (name, False)
    assert step.command[: len(begin)] == begin
    assert " ".join(step.command).endswith(f"bash ~/.jlab/connect --inside={record.id}")
    assert (ssh.name, ssh.is_outside) == ("ssh", True)
    assert ssh.command == [*SSH[:-1], f"--inside={record.id}"]
    hasty, _ = routes.fallback_routes(record, jlab, unresponsive=True)
    assert (hasty.name, hasty.command) == (step.name, step.command)
    assert hasty.timeout < step.timeout, "its node may be dead"


@pytest.mark.parametrize(
    ("node", "says"),
    [
        pytest.param("127.0.0.1", True, id="it answers, or refuses"),
        pytest.param("255.255.255.255", False, id="nobody's address"),
        pytest.param("n1.invalid", False, id="nobody's name"),
        pytest.param("a" * 64, False, id="no name at all"),
    ],
)
def test_a_silent_port_on_a_node_that_lives(jlab: Path, node: str, *, says: bool) -> None:
    """Then it is a firewall, and the step may take its time."""
    record = replace(RECORD, node=node)
    patient, _ = routes.fallback_routes(record, jlab, unresponsive=False)
    hasty, _ = routes.fallback_routes(record, jlab, unresponsive=True)
    assert (hasty.timeout == patient.timeout) is says
    assert hasty.timeout <= patient.timeout


@pytest.mark.parametrize("scheduler", ["pbs", "sge", "lsf"])
def test_fallback_routes_always_end_with_ssh(jlab: Path, scheduler: str) -> None:
    *steps, ssh = routes.fallback_routes(
        replace(RECORD, scheduler=scheduler), jlab, unresponsive=False
    )
    assert ssh.command == [*SSH[:-1], f"--inside={scheduler}-12-lab"]
    for step in steps:
        assert step.name in step.command


def test_a_shell_takes_the_words_as_they_are(jlab: Path) -> None:
    """Also the number of a job that is one of an array."""
    (ssh,) = routes.fallback_routes(
        replace(RECORD, scheduler="pbs", job_id="12[3].s"), jlab, unresponsive=False
    )
    done = subprocess.run(
        ["sh", "-c", f"printf '%s|' {' '.join(ssh.command[-2:])}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("/.jlab/connect|--inside=pbs-12[3].s-lab|")


@pytest.mark.parametrize("text", ["# older\n", ""])
def test_fallback_routes_need_the_script_of_this_version(jlab: Path, text: str) -> None:
    (jlab / "connect").write_text(text)
    with pytest.raises(
        routes.RouteUnavailable, match=r"is of another version: type `jlab-node setup`"
    ):
        list(routes.fallback_routes(RECORD, jlab, unresponsive=False))


@pytest.fixture
def through(children: Children) -> Iterator[Callable[..., routes.OpenRoute]]:
    """Goes that way; afterwards the command is gone, since nobody holds its other end."""
    with contextlib.ExitStack() as stack:

        def go(command: list[str], *, timeout: float = 10) -> routes.OpenRoute:
            way = routes.via_command(command, timeout=timeout)
            stack.callback(way.connection.close)
            return way

        yield go
    for child in children():
        child.wait(timeout=60)


still_running = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def sh(text: str) -> list[str]:
    return ["sh", "-c", text]


def received(way: routes.OpenRoute) -> bytes:
    """All that still comes."""
    way.connection.settimeout(10)
    found = b""
    while piece := way.connection.recv(65536):
        found += piece
    return found


@still_running
@pytest.mark.parametrize(
    "noise",
    [
        pytest.param("", id="none"),
        pytest.param("echo Welcome to n1; echo; echo 'Quota: 99 %';", id="lines"),
        pytest.param("echo 'not SSH-2.0-x';", id="a line with a banner in it"),
        pytest.param("echo oops >&2;", id="on stderr"),
        pytest.param("printf '\\377\\0\\r\\n';", id="bytes"),
        pytest.param("i=0; while [ $((i += 1)) -lt 150 ]; do echo $i noise; done;", id="many"),
        pytest.param("printf '%0300d\\n' 7;", id="a long line"),
    ],
)
def test_noise_before_the_banner(through: Callable[..., routes.OpenRoute], noise: str) -> None:
    way = through(sh(f"{noise} {GREET}; printf rest"))
    assert way.first_line == BANNER
    assert received(way) == b"rest"


@still_running
def test_bytes_after_the_banner_are_passed_on_as_they_are(
    through: Callable[..., routes.OpenRoute],
) -> None:
    """In both directions, and stdin waits for a command that is slow to read it."""
    sent = bytes(range(256)) * 4096
    way = through(sh(f"echo noise; {GREET}; sleep 0.1; exec cat"))
    sender = threading.Thread(target=send, args=(way, sent))
    sender.start()
    assert received(way) == sent
    sender.join()


def send(way: routes.OpenRoute, what: bytes) -> None:
    way.connection.settimeout(10)
    way.connection.sendall(what)
    way.connection.shutdown(socket.SHUT_WR)


@still_running
def test_the_command_hears_when_its_other_end_is_gone(
    through: Callable[..., routes.OpenRoute], tmp_path: Path, children: Children
) -> None:
    way = through(sh(f"{GREET}; cat >/dev/null; echo over >'{tmp_path}/said'"))
    (child,) = children()
    way.connection.close()
    child.wait(timeout=60)
    assert (tmp_path / "said").read_text() == "over\n"


@still_running
def test_what_it_says_much_later_blocks_nobody(through: Callable[..., routes.OpenRoute]) -> None:
    text = "import sys; print('SSH-2.0-x', flush=True); sys.stderr.write('x' * 10**6); print('y')"
    assert received(through([sys.executable, "-c", text])) == b"y\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        pytest.param("exit 1", "it ended at once", id="in silence"),
        pytest.param("exit 0", "it ended at once", id="with success"),
        pytest.param("echo only noise; exit 1", "it ended at once", id="after noise"),
        pytest.param("printf SSH; exit 1", "it ended at once", id="half a banner"),
        pytest.param(
            "echo 'srun: error: first' >&2; printf 'srun: Job 12 is over.\\n\\n' >&2; exit 1",
            "srun: Job 12 is over",
            id="with a reason",
        ),
        pytest.param("echo $LC_ALL >&2; exit 1", "C", id="in English"),
        pytest.param("printf 'caf\\303 \\377' >&2; exit 1", "caf\ufffd \ufffd", id="not text"),
        pytest.param("echo no >&2; exec 0<&- 1>&-; sleep 0.2", "no", id="it hangs up, then ends"),
        pytest.param("exit 127", "it ended at once", id="127"),
        pytest.param("kill -9 $$", "it ended at once", id="killed"),
    ],
)
def test_a_command_that_ends_at_once(children: Children, command: str, why: str) -> None:
    with pytest.raises(routes.RouteUnavailable) as caught:
        routes.via_command(sh(command), timeout=10)
    assert str(caught.value) == why
    assert children() == []


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        routes.RouteUnavailable, match=r"^no-such-program: No such file or directory$"
    ):
        routes.via_command(["no-such-program", "x"], timeout=10)
    (tmp_path / "program").touch(mode=0o600)
    with pytest.raises(routes.RouteUnavailable, match=r"/program: Permission denied$"):
        routes.via_command([str(tmp_path / "program")], timeout=10)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("exit 69", id="its script says so"),
        pytest.param("echo 'srun: error: n1: exit code 69' >&2; exit 69", id="and srun repeats it"),
    ],
)
def test_a_session_that_is_over(command: str) -> None:
    with pytest.raises(routes.SessionEnded, match=r"^its jlab-node has ended$"):
        routes.via_command(sh(command), timeout=10)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("sh: oarsh: No such file or directory", id="another file"),
        pytest.param("datacenter: oarsh: No such file or directory", id="part of a word"),
        pytest.param("bash: /home/u1/.jlab/connect: No such file or directory", id="no home"),
    ],
)
def test_via_command_with_what_only_looks_like_the_end_is_unavailable(said: str) -> None:
    with pytest.raises(routes.RouteUnavailable, match=f"^{said}$"):
        routes.via_command(sh(f"echo '{said}' >&2; exit 1"), timeout=10)


def test_via_command_with_too_much_noise_is_unavailable(children: Children) -> None:
    with pytest.raises(routes.RouteUnavailable, match=r"^it printed too much$"):
        routes.via_command(sh("while :; do echo noise; done"), timeout=10)
    assert children() == []


def test_a_command_that_says_nothing_in_time(tmp_path: Path) -> None:
    """It is ended, with all that it has started."""
    began = time.monotonic()
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.via_command(sh(f"{NAP} & echo noise; {NAP}; exit 1"), timeout=0.3)
    assert 0.2 < time.monotonic() - began < 20
    assert sleeping() == []


def test_a_reason_for_the_silence() -> None:
    with pytest.raises(routes.RouteUnavailable, match=r"^srun: job 12 queued and waiting$"):
        routes.via_command(sh("echo 'srun: job 12 queued and waiting' >&2; sleep 60"), timeout=0.3)


def test_a_command_that_does_not_want_to_end(children: Children) -> None:
    began = time.monotonic()
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.via_command(sh(f"trap : TERM; while :; do {NAP}; done"), timeout=0.3)
    assert time.monotonic() - began < 20
    assert children() == []
    assert sleeping() == []


def test_one_that_chats_without_end_is_out_of_time_too() -> None:
    """The time is that of the whole way, not of each line."""
    began = time.monotonic()
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.via_command(sh("while :; do echo wait; sleep 0.1; done"), timeout=0.5)
    assert time.monotonic() - began < 20


def test_what_outlives_its_command_is_ended_too() -> None:
    """It would hold our end of the connection."""
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.via_command(sh(f"{NAP} & exit 0"), timeout=0.3)
    assert sleeping() == []


@still_running
@pytest.mark.parametrize("scheduler", ["slurm", "oar", "pbs"])
def test_every_way_ends_at_the_sessions_endpoint(
    through: Callable[..., routes.OpenRoute],
    program: Callable[[str, str], Path],
    server: Callable[[bytes | None], Record],
    *,
    jlab: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
) -> None:
    """These commands lead to this machine."""
    monkeypatch.setenv("HOME", str(jlab.parent))
    for name in ("oarsh", "ssh"):
        program(name, f'while [ "$1" != bash ]; do shift; done; echo {name}; eval "$*"')
    program("srun", 'while [ "$1" != sh ]; do shift; done; echo srun; "$@"')
    record = replace(server(b"jlab " + NONCE.encode() + b"\r\n" + BANNER), scheduler=scheduler)
    path = records.publish(jlab / "sessions", record).path
    ways = list(routes.fallback_routes(record, jlab, unresponsive=False))
    assert ways[-1].name == "ssh"

    def fails(way: type[Exception], match: str) -> None:
        for each in ways:
            with pytest.raises(way, match=match):
                through(each.command, timeout=each.timeout)

    for each in ways:
        assert through(each.command, timeout=each.timeout).first_line.rstrip() == BANNER.rstrip()
    another = server(b"jlab " + b"1f" * 16 + b"\r\n" + BANNER)
    records.publish(jlab / "sessions", replace(record, ssh_port=another.ssh_port))
    fails(routes.SessionEnded, "its jlab-node has ended")
    records.publish(jlab / "sessions", replace(record, ssh_port=1))
    fails(routes.SessionEnded, "its jlab-node has ended")
    reason = b"jlab-node: /tmp/jlab-u1 belongs to user eve\r\n"
    refusing = server(b"jlab " + NONCE.encode() + b"\r\n" + reason)
    records.publish(jlab / "sessions", replace(record, ssh_port=refusing.ssh_port))
    fails(routes.RouteUnavailable, "^/tmp/jlab-u1 belongs to user eve$")
    path.unlink()
    fails(routes.RouteUnavailable, "^the session's record cannot be read on")


def test_tcp_to_one_that_says_why_not(server: Callable[[bytes | None], Record]) -> None:
    greeting = b"jlab " + NONCE.encode() + b"\r\n"
    with pytest.raises(routes.RouteUnavailable, match=r"^no, since$"):
        routes.tcp(server(greeting + b"jlab-node: no, since\r\n"))
    with pytest.raises(routes.RouteUnavailable, match=r"^it hangs up at once$"):
        routes.tcp(server(greeting + b"jlab-node: \x1b[2J\r\n"))


def sleeping() -> list[int]:
    """The processes that still take this run's nap; those that are ending have a moment."""
    deadline = time.monotonic() + 1
    while True:
        found = [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] == NAP.split()
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def test_no_descriptor_is_left() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = open_files()
    for command in (sh("exit 1"), ["no-such-program"], sh("sleep 60")):
        with pytest.raises(routes.RouteUnavailable):
            routes.via_command(command, timeout=0.2)
    assert open_files() == before
