"""What several of these tests use: little programs that stand for a scheduler's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import MEASURED, NOBODY, wait_until

from jlab_node.jobs import detection
from jlab_node.registry import home as homes
from jlab_node.registry import records
from jlab_node.registry.home import Home
from jlab_node.registry.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Callable

    Children = Callable[[], list[psutil.Process]]  # what the fixture of that name is


FAILS = "echo down >&2; exit 1"
JOB_12 = Record(
    name="lab",
    node="n1",
    port=1,
    token="ab" * 32,
    scheduler="slurm",
    job_id="12",
    cluster="cal1",
)


def from_the_second_time(place: Path, what: str) -> str:
    """A program that does nothing when it is called first; it remembers that in `place`."""
    return f"[ -e '{place}/asked' ] && {{ {what}; }}; >'{place}/asked'"


@pytest.fixture
def home() -> Home:
    """The user's ~/.jlab, with no session in it."""
    made = Home(Path.home() / ".jlab")
    made.sessions.mkdir(parents=True, mode=0o700)
    return made


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script of a name on PATH, before all others."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    def put(name: str, text: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture(autouse=True)
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Which cluster this machine belongs to is found out anew in each test, and kept nowhere."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    detection.site.cache_clear()
    yield
    detection.site.cache_clear()


@pytest.fixture
def children() -> Children:
    """The children of this process that a test has; others are those of tests before it."""
    before = psutil.Process().children()
    return lambda: [each for each in psutil.Process().children() if each not in before]


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times mean the same wherever the tests run."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def on_stdin(tmp_path: Path) -> Iterator[Path]:
    """A file that is this process' stdin: in real life that is the laptop's ssh."""
    path = tmp_path / "stdin"
    path.write_text("from ssh\n", encoding="utf-8")
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    yield path
    os.dup2(before, 0)
    os.close(before)


ANOTHER = 65533  # another user than that


class Unkillable:
    """A command that becomes another user's, and takes a minute, as OAR's may."""

    def __init__(self, place: Path) -> None:
        program = shutil.copy(shutil.which("setpriv", path="/usr/bin:/bin") or "/none", place)
        os.chown(program, ANOTHER, -1)
        Path(program).chmod(0o4755)
        self._nap = f"60.{os.getpid()}"  # no other process takes the same
        self.command = [str(program), f"--reuid={ANOTHER}", "/bin/sleep", self._nap]

    def is_it(self, pid: int) -> bool:
        """Whether it is the other user's by now."""
        return psutil.Process(pid).uids().real == ANOTHER

    def works(self) -> bool:
        """Set-uid programs are plain ones on some file systems, and in some containers."""
        with subprocess.Popen(self.command, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until(lambda: self.is_it(process.pid) or process.poll() is not None, "it is")
            finally:
                self.end()
            return process.wait() == -9

    def end(self) -> None:
        """By root."""
        before = os.geteuid()
        os.seteuid(0)
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [""])[-1] == self._nap:
                process.kill()
        os.seteuid(before)


@pytest.fixture
def unkillable() -> Iterator[Unkillable]:
    """Such a command; this process is no longer root for the test."""
    if os.geteuid():
        pytest.skip("only root can make a set-uid program of another user")
    if not shutil.which("setpriv", path="/usr/bin:/bin"):
        pytest.skip("there is no setpriv, which becomes another user")
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    made = Unkillable(directory)
    os.seteuid(NOBODY)
    try:
        if not made.works():
            pytest.skip(f"set-uid programs in {directory.parent} are plain ones")
        yield made
    finally:
        made.end()
        os.seteuid(0)
        shutil.rmtree(directory)


@dataclass(frozen=True)
class Job:
    """A job as squeue lists it; its times are seconds from the moment that it is listed."""

    job_id: str = "12"
    word: str = "PENDING"
    reason: str = "None"
    start: int | None = None
    end: int | None = None
    node: str = "n1"
    name: str = "jlab"
    command: str = "(null)"
    cancel_id: str = ""  # of a task of an array: ARRAY_TASK

    def __str__(self) -> str:
        now = int(time.time())
        times = ["N/A" if each is None else str(now + each) for each in (self.start, self.end)]
        array = self.cancel_id.partition("_")[::2] if self.cancel_id else (self.job_id, "N/A")
        own = (self.job_id, self.word, self.reason, *times, self.node, *array)
        return "\x01" + "\x1f".join((*own, self.name, self.command))


@pytest.fixture
def session() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a `jlab-node run` of this machine."""
    code = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, "jlab-node", "run"]) as process:
        yield process
        process.kill()


@pytest.fixture
def base() -> Iterator[Path]:
    """A user's directory on a node: its path is short, as sockets are made in it."""
    made = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def record() -> Record:
    """Of a session in Slurm job 12, which has run for a while."""
    return replace(JOB_12, started=int(time.time()) - 100)


class Commands:
    """The only programs on PATH, beside `env`; each notes its arguments."""

    def __init__(self, place: Path) -> None:
        self._notes = place / "notes"
        self.directory = place / "bin"
        self.directory.mkdir()
        self.link("env")

    def link(self, *names: str) -> None:
        """Programs of this machine."""
        for name in names:
            (self.directory / name).symlink_to(shutil.which(name, path="/usr/bin:/bin") or "/none")

    def put(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\necho {name} \"$*\" >>'{self._notes}'\n{text}\n")
        path.chmod(0o755)

    def prints(self, name: str, text: str) -> None:
        """A program that prints this."""
        self.put(name, f"/bin/cat <<'END'\n{text}\nEND")

    def slurm(self, *lines: Job | str, cluster: str = "cal1") -> None:
        """A Slurm whose squeue prints these lines, whatever it is asked."""
        self.prints("squeue", "\n".join(map(str, lines)))
        self.prints("scontrol", f"ClusterName             = {cluster}")

    def oar(self, job_id: str, **job: object) -> None:
        self.prints("oarstat", json.dumps({job_id: job}))

    @property
    def asked(self) -> list[str]:
        """The commands that have run, in order."""
        return self._notes.read_text().splitlines() if self._notes.exists() else []

    @property
    def names(self) -> list[str]:
        return [line.split()[0] for line in self.asked]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    # After it is made: it looks for programs of this machine.
    made = Commands(tmp_path)
    monkeypatch.setenv("PATH", str(made.directory))
    return made


class Login:
    """A login node: a home with a ~/.jlab, and no programs but the scheduler's and a few more."""

    def __init__(self, place: Path, commands: Commands) -> None:
        self.commands = commands
        commands.link("bash", "sh", "cat", "ps", "sleep")
        commands.put("ssh", "echo 'ssh: n1: No route to host' >&2; exit 255")
        self.directory = place / "login"
        self.home = Home(self.directory / ".jlab")
        for path in (self.directory, self.home.path, self.home.sessions):
            path.mkdir(mode=0o700)
        script = resources.files("jlab_node") / "connect.bash"
        (self.home.path / "connect").write_text(script.read_text("utf-8"), encoding="utf-8")
        self.env = {
            "HOME": str(self.directory),
            "PATH": str(commands.directory),
            "TZ": "UTC",
            "JLAB_TMPDIR": "/nowhere",  # no session is being started on this machine
            **MEASURED,
        }

    def start(self, *words: str, by: Sequence[str] = ()) -> subprocess.Popen[str]:
        """`jlab-node` with these arguments, by this command; the caller holds its stdin."""
        return subprocess.Popen(
            [*by, sys.executable, "-m", "jlab_node", *words],
            env=self.env,
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The same to its end; stdin is /dev/null, or holds this text and then ends."""
        return subprocess.run(
            [sys.executable, "-m", "jlab_node", *words],
            env=self.env,
            cwd=self.directory,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def connect(self, *words: str, waits: bool = False) -> list[str]:
        """The lines by which a connection fails. One that `waits` is given up by its laptop."""
        done = self.run("connect", *words, stdin="" if waits else None)
        assert (done.returncode, done.stdout) == (69, ""), done.stderr
        lines = [line.removeprefix("jlab-node: ") for line in done.stderr.splitlines()]
        assert [f"jlab-node: {line}" for line in lines] == done.stderr.splitlines()
        if waits:
            assert lines.pop() == "the laptop has ended the connection"
        return lines

    @property
    def user(self) -> str:
        """Whose it is."""
        return homes.user()

    def later(self) -> None:
        """What the scheduler has said is old by now."""
        for kept in self.home.path.glob("queue/*"):
            os.utime(kept, (1, 1))

    def publish(self, record: Record) -> Path:
        return records.publish(self.home.sessions, record).path

    @property
    def records(self) -> list[str]:
        """The files in ~/.jlab/sessions, those of the buried included."""
        return sorted(path.name for path in self.home.sessions.iterdir())

    @property
    def site_file(self) -> Path:
        """What is known of the cluster."""
        return self.home.path / "sites" / os.uname().nodename


@pytest.fixture
def login(tmp_path: Path, commands: Commands) -> Login:
    return Login(tmp_path, commands)
