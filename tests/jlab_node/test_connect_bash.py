"""connect.bash alone: which sessions it goes to by itself, and what it leaves to Python."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, wait_until

from jlab_node.registry import home
from jlab_node.registry.record import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jlab_node.registry.record import Record

NONCE, KNOCK = "0f" * 16, "1e" * 16
BANNER = "SSH-2.0-test\r\n"


class Endpoint:
    """Says its first lines to whoever comes, and then what they say."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.greeting = f"jlab {NONCE}\r\n{BANNER}"
        self.visits = 0
        self.hangs_up = False
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.visits += 1
                threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(self.greeting.encode())
            while not self.hangs_up and (said := connection.recv(4096)):
                connection.sendall(said)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


@pytest.fixture
def session(record: Record, endpoint: Endpoint) -> Record:
    """In Slurm job 12, on this machine."""
    return replace(record, node="localhost", ssh_port=endpoint.port, nonce=NONCE)


class Connect:
    """A ~/.jlab whose jlab-node only tells how it is asked."""

    def __init__(self, place: Path) -> None:
        self.directory = place
        self.sessions, self.sites = place / "sessions", place / "sites"
        self.sessions.mkdir()
        self.sites.mkdir()
        self.script = place / "connect"
        self.script.write_text(home.connect_script(), encoding="utf-8")
        left = "$({ true >&3; } 2>/dev/null && echo ', descriptor 3 is open')"
        (place / "jlab-node").write_text(f'echo "jlab-node $*{left}"\n')
        self.host = "login"
        self.knows("slurm:cal1 slurm:")
        self.stderr = ""

    def knows(self, sites: str) -> None:
        """The clusters that this machine belongs to."""
        (self.sites / self.host).write_text(f"{sites}\n")

    def publish(self, session: Record | str, *, name: str = "", age: int = 0) -> None:
        text = session if isinstance(session, str) else render(session)
        path = self.sessions / (name or getattr(session, "id", "slurm-12-lab"))
        path.write_text(text, encoding="utf-8")
        then = time.time() - age
        os.utime(path, (then, then))

    def said(self, *words: str, command: tuple[str, ...] = ()) -> str:
        """The first line that comes back from whoever was reached, and was told "hello"."""
        with subprocess.Popen(
            command or ["bash", str(self.script), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOSTNAME": self.host},
            encoding="utf-8",
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("hello\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if line == BANNER.replace("\r", ""):
                line = process.stdout.readline()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            self.stderr = process.stderr.read()
        return line.rstrip("\n")


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    return Connect(tmp_path)


def changed(session: Record, **values: str) -> str:
    """Its text with these values, whatever they are."""
    lines = dict(line.split("=", 1) for line in render(session).splitlines())
    return "".join(f"{key}={value}\n" for key, value in {**lines, **values}.items())


def test_it_goes_to_the_session(connect: Connect, session: Record) -> None:
    connect.publish(session)
    assert connect.said() == "hello"
    assert connect.said("--session=lab", "--of-the-future=x", "y") == "hello"
    assert connect.stderr == ""


def test_it_ends_with_what_it_reads_however_soon_that_is(connect: Connect, session: Record) -> None:
    """Its two directions may end just as it begins to wait for them."""
    connect.publish(session)

    def once(_: int) -> bytes:
        command = ["bash", str(connect.script)]
        environ = {**os.environ, "HOSTNAME": connect.host}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=environ,
            check=False,
        )
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(once, range(500))) == {BANNER.encode()}


def test_sends_the_client_token(connect: Connect, session: Record) -> None:
    connect.publish(replace(session, knock=KNOCK))
    assert connect.said() == f"jlab {KNOCK}"


@pytest.mark.parametrize("then", ["", "\r\n", "HTTP/1.1 400 Bad Request\r\n"])
def test_an_endpoint_whose_sshd_does_not_speak(
    connect: Connect, session: Record, endpoint: Endpoint, then: str
) -> None:
    """It is crowded, perhaps: Python tries again."""
    endpoint.greeting = f"jlab {NONCE}\r\n{then}"
    endpoint.hangs_up = True
    connect.publish(session)
    assert connect.said() == "jlab-node connect"


@pytest.mark.root("only root can give a file to another user")
def test_a_record_of_another_users(connect: Connect, session: Record) -> None:
    connect.publish(session)
    os.chown(connect.sessions / session.id, NOBODY, -1)
    assert connect.said() == "jlab-node connect"


def test_it_goes_to_the_node(connect: Connect, session: Record) -> None:
    with contextlib.closing(Endpoint("127.0.0.2")) as there:
        connect.publish(replace(session, node="127.0.0.2", ssh_port=there.port))
        assert connect.said() == "hello"


def test_without_a_record_hands_over_to_python(connect: Connect) -> None:
    assert connect.said() == "jlab-node connect"
    connect.sessions.rmdir()
    assert connect.said("--session=gpu", "--x") == "jlab-node connect --session=gpu --x"
    assert connect.stderr == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "2"),
        ("format", ""),
        ("format", "1x"),
        ("name", "a b"),
        ("name", ""),
        ("scheduler", "Slurm"),
        ("scheduler", "slurm2"),
        ("scheduler", ""),
        ("job_id", "1-2"),
        ("job_id", "$(x)"),
        ("job_id", ""),
        ("cluster", "a b"),
        ("cluster", "c/d"),
        ("ssh_port", "0PORT"),
        ("ssh_port", "PORT "),
        ("ssh_port", ""),
        ("nonce", "0F" * 16),
        ("nonce", "0f" * 15),
        ("nonce", NONCE + "0"),
        ("nonce", "x" + NONCE),
        ("nonce", ""),
        ("ends_at", "soon"),
        ("ends_at", "1" * 13),
        ("ends_at", "a[$(x)]"),
        ("scheme", "ftp"),
        ("scheme", "httpss"),
        ("scheme", ""),
        ("base_url", "lab/"),
        ("base_url", "/lab"),
        ("base_url", "/a\\b/"),
        ("base_url", "/\x1b/"),
        ("base_url", ""),
    ],
    ids=ascii,
)
def test_a_value_that_cannot_be(
    connect: Connect, session: Record, endpoint: Endpoint, key: str, value: str
) -> None:
    """All else fits, so that nothing but the value keeps it from going there."""
    value = value.replace("PORT", str(endpoint.port))
    text = changed(session, **{key: value})
    values = dict(line.split("=", 1) for line in text.splitlines())
    connect.knows(f"{values['scheduler']}:{values['cluster']}")
    endpoint.greeting = f"jlab {values['nonce']}\r\n{BANNER}"
    connect.publish(text)
    assert connect.said() == "jlab-node connect"
    assert endpoint.visits == 0
    assert connect.stderr == ""


@pytest.mark.parametrize("node", ["a b", "a/b", "$(x)", "\x1b"], ids=ascii)
def test_a_node_that_cannot_be(connect: Connect, session: Record, node: str) -> None:
    connect.host = node
    connect.publish(changed(replace(session, scheduler="local", cluster=""), node=node))
    assert connect.said() == "jlab-node connect"


@pytest.mark.parametrize("text", ["", "\n", "format=1\n", "a directory"])
def test_what_is_no_record_hides_what_is_older(
    connect: Connect, session: Record, text: str
) -> None:
    """Python says what is wrong with it."""
    connect.publish(session, age=60)
    if text == "a directory":
        (connect.sessions / "slurm-13-lab").mkdir()
    else:
        connect.publish(text, name="slurm-13-lab")
    assert connect.said() == "jlab-node connect"


def test_keys_of_the_future(connect: Connect, session: Record) -> None:
    connect.publish(changed(session, PATH="/nowhere", directory="/nowhere", key="x=y"))
    assert connect.said() == "hello"


@pytest.mark.parametrize(
    ("sites", "cluster", "there"),
    [
        pytest.param("slurm:cal1 slurm:", "cal1", True, id="this cluster"),
        pytest.param("slurm:cal1 slurm:", "", True, id="of no cluster that is known"),
        pytest.param("slurm:cal1 slurm:", "cal2", False, id="another cluster"),
        pytest.param("slurm:cal10 slurm:", "cal1", False, id="its name begins like another's"),
        pytest.param("xslurm:cal1", "cal1", False, id="its scheduler ends like another's"),
        pytest.param("oar:cal1 oar:", "cal1", False, id="another scheduler"),
        pytest.param("", "cal1", False, id="not known"),
    ],
)
def test_clusters_that_share_a_home(
    connect: Connect, session: Record, *, sites: str, cluster: str, there: bool
) -> None:
    connect.knows(sites)
    connect.publish(replace(session, cluster=cluster))
    assert connect.said() == ("hello" if there else "jlab-node connect")


def test_a_cluster_that_nobody_has_asked_for(connect: Connect, session: Record) -> None:
    connect.publish(session)
    (connect.sites / connect.host).unlink()
    assert connect.said() == "jlab-node connect"
    assert connect.stderr == ""


def test_one_of_another_cluster_hides_none(
    connect: Connect, session: Record, endpoint: Endpoint
) -> None:
    connect.publish(session, age=60)
    connect.publish(replace(session, cluster="cal2", job_id="13", ssh_port=1))
    assert connect.said() == "hello"
    assert endpoint.visits == 1


def test_nothing_is_left_of_one_that_was_passed_over(connect: Connect, session: Record) -> None:
    least = f"format=1\nname=lab\nnode=login\nssh_port={session.ssh_port}\nnonce={NONCE}\n"
    connect.publish(f"{least}port=1\ntoken={'ab' * 32}\n", name="local-0-lab", age=60)
    other = replace(session, cluster="cal2", scheme="https", base_url="/u/", ends_at=1)
    connect.publish(other)
    assert connect.said("--columns=80", "--port=8889") == "hello"
    where = "session lab on login, JupyterLab at http://127.0.0.1:8889/"
    assert connect.stderr == f"jlab-node: {where}\n"
    connect.publish("format=1\n", name="local-0-lab", age=60)
    assert connect.said() == "jlab-node connect"


@pytest.mark.parametrize(("node", "there"), [("login", True), ("login2", False), ("logi", False)])
def test_a_session_without_a_job(
    connect: Connect, session: Record, node: str, *, there: bool
) -> None:
    """It runs on this machine or on another one, and is reached through the loopback."""
    connect.knows("local:")
    connect.publish(replace(session, scheduler="local", cluster="", node=node))
    assert connect.said() == ("hello" if there else "jlab-node connect")


@pytest.mark.parametrize(
    "greeting",
    [
        f"jlab {'1f' * 16}\r\n",
        f"jlab {NONCE}\n",
        f"jlab {NONCE}0\r\n",
        f" jlab {NONCE}\r\n",
        f"{NONCE}\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "x" * 5000,
    ],
    ids=lambda greeting: ascii(greeting[:20]),
)
def test_the_port_is_anothers(
    connect: Connect, session: Record, endpoint: Endpoint, greeting: str
) -> None:
    """Nor does it go to an older session instead: Python says what has happened."""
    with contextlib.closing(Endpoint()) as older:
        connect.publish(replace(session, ssh_port=older.port, job_id="11"), age=60)
        endpoint.greeting = greeting
        connect.publish(session)
        assert connect.said() == "jlab-node connect"
        assert (endpoint.visits, older.visits) == (1, 0)


def test_the_newest_and_the_named(connect: Connect, session: Record) -> None:
    """A name that is a part of another is not that other."""
    connect.publish(session, age=90)
    connect.publish(replace(session, name="gpu", job_id="13"), age=60)
    nowhere = replace(session, ssh_port=1, job_id="14")
    connect.publish(replace(nowhere, name="gpu2"), age=30)
    connect.publish("no record", name="slurm-15-other")
    for name in ("lab", "gpu"):
        assert connect.said(f"--session={name}") == "hello"
    for name in ("gpu2", "gp", "other"):
        assert connect.said(f"--session={name}") == f"jlab-node connect --session={name}"
    assert connect.said() == "jlab-node connect", "the newest is no record"


def test_refused_port_hands_over_to_python(connect: Connect, session: Record) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        connect.publish(replace(session, ssh_port=closed.getsockname()[1]))
        assert connect.said() == "jlab-node connect"
    assert connect.stderr == ""


def test_a_node_that_does_not_answer(connect: Connect, session: Record) -> None:
    """Python need not try that again."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:  # until the kernel takes no more
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.5)
            try:
                filler.connect(full.getsockname())
            except OSError:  # it has waited in vain
                break
        connect.publish(replace(session, ssh_port=full.getsockname()[1]))
        words = "--session=lab --tried=slurm-12-lab"
        assert connect.said("--session=lab") == f"jlab-node connect {words}"
    assert connect.stderr == ""


def test_a_silent_node_whose_name_is_looked_up_slowly(connect: Connect, session: Record) -> None:
    """The looking up outlasts the first time that the waiting is broken off."""
    apart = ["unshare", "--mount", "--net"]
    tried = subprocess.run(
        [*apart, "ip", "link", "set", "lo", "up"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no namespaces of one's own here: {tried.stderr.decode().strip()}")
    connect.publish(replace(session, node="node.example"))
    there = [sys.executable, str(Path(__file__).with_name("slow_names.py")), str(session.ssh_port)]
    command = (*apart, *there, "bash", str(connect.script))
    assert connect.said(command=command) == "jlab-node connect --tried=slurm-12-lab"
    assert connect.stderr == ""


def test_a_node_that_answers_and_says_nothing(
    connect: Connect, session: Record, endpoint: Endpoint
) -> None:
    endpoint.greeting = ""
    connect.publish(session)
    assert connect.said() == "jlab-node connect"


def test_it_leaves_no_process(connect: Connect, session: Record, endpoint: Endpoint) -> None:
    connect.publish(session)
    assert connect.said() == "hello"
    left = ["pgrep", "-f", str(connect.script)]
    wait_until(lambda: subprocess.run(left, check=False, capture_output=True).returncode, "gone")


MINUTE, HOUR = 60, 3600


@pytest.mark.parametrize(
    ("scheduler", "left", "words", "says"),
    [
        pytest.param("slurm", None, [], "localhost, slurm job 12", id="no end is known"),
        pytest.param(
            "slurm", 2 * HOUR + 3 * MINUTE, [], "localhost, slurm job 12, 2 h 3 min left", id="end"
        ),
        pytest.param(
            "slurm", -HOUR, [], "localhost, slurm job 12, 0 h 0 min left", id="it should be over"
        ),
        pytest.param("local", None, [], "login", id="no job"),
        pytest.param(
            "local",
            None,
            ["--port=8889"],
            "login, JupyterLab at https://127.0.0.1:8889/u/alice/",
            id="port",
        ),
        pytest.param(
            "local",
            None,
            ["--taken=8889"],
            "login (127.0.0.1:8889 is taken already, perhaps by another ssh to it)",
            id="taken",
        ),
    ],
)
def test_it_says_where_it_goes(
    connect: Connect,
    session: Record,
    *,
    scheduler: str,
    left: int | None,
    words: list[str],
    says: str,
) -> None:
    """To a person; a program has no terminal."""
    node = "login" if scheduler == "local" else "localhost"
    ends_at = None if left is None else int(time.time()) + left + MINUTE // 2
    here = replace(session, scheduler=scheduler, node=node, scheme="https", base_url="/u/alice/")
    connect.publish(replace(here, ends_at=ends_at))
    assert connect.said("--columns=80", *words) == "hello"
    assert connect.stderr == f"jlab-node: session lab on {says}\n"
    assert connect.said(*words) == "hello"
    assert connect.stderr == ""


@pytest.mark.parametrize(
    ("socket_dir", "words", "is_there"),
    [
        pytest.param("", [], True, id="an older session"),
        pytest.param("/tmp/jlab-alice", [], True, id="an older block"),
        pytest.param("/scratch/jlab-alice", [], False, id="an older block, elsewhere"),
        pytest.param("/tmp/jlab-alice", ["--sockets=/tmp/jlab-alice"], True, id="the usual"),
        pytest.param("/scratch/x", ["--sockets=/scratch/x"], True, id="another"),
        pytest.param("/scratch/x", ["--sockets=/tmp/jlab-alice"], False, id="not this one"),
        pytest.param("", ["--sockets=/scratch/x"], True, id="an older session, elsewhere"),
    ],
)
def test_it_names_no_address_that_leads_elsewhere(
    connect: Connect, session: Record, socket_dir: str, words: list[str], *, is_there: bool
) -> None:
    """Where on the node the laptop's port leads, nobody of ours may listen."""
    connect.publish(replace(session, user="alice", socket_dir=socket_dir))
    for port in ("--port=8888", "--taken=8888"):
        assert connect.said("--columns=80", port, *words) == "hello"
        assert ("127.0.0.1:8888" in connect.stderr) is is_there
        assert ("type jlab-proxy setup ALIAS" in connect.stderr) is not is_there
    assert connect.said("--columns=80", *words) == "hello"
    assert connect.stderr == "jlab-node: session lab on localhost, slurm job 12\n"


@pytest.mark.parametrize("columns", [[], ["--columns=80"]], ids=["program", "person"])
def test_a_way_that_python_has_found(
    connect: Connect, session: Record, endpoint: Endpoint, columns: list[str]
) -> None:
    endpoint.greeting = ""
    connect.publish(replace(session, ssh_port=1))
    given = f'exec 3<>/dev/tcp/127.0.0.1/{endpoint.port}; exec bash "$@"'
    relay = ("--relay=slurm-12-lab", *columns)
    command = ("bash", "-c", given, "bash", str(connect.script), *relay)
    assert connect.said(command=command) == "hello"
    says = "jlab-node: session lab on localhost, slurm job 12\n"
    assert connect.stderr == (says if columns else "")
