"""Real Slurm and real OAR on this machine, as scripts/cluster makes them, and their users."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until
from testcluster import Cluster

from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster.hosts import Host

PORTS = (31000, 31999)  # what --port-range is given, and what a test can block


@dataclass(frozen=True)
class Site:
    """What differs between the two clusters, for whoever uses them."""

    scheduler: str
    login: str  # also the laptop's alias for it
    nodes: tuple[str, str]
    job_variable: str
    cancel: str
    laptop: str  # where its users sit, so that the two can be used side by side
    queue: str  # prints a line per job, its id first


SITES = {
    "slurm": Site("slurm", "cal1", ("n1", "n2"), "SLURM_JOB_ID", "scancel", "laptop", "squeue -h"),
    "oar": Site("oar", "gricad", ("d1", "d2"), "OAR_JOB_ID", "oardel", "laptop2", "oarstat -u"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks, and more time than others have: the first one waits for the clusters to come up."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if not item.get_closest_marker("quick"):
                item.add_marker(pytest.mark.full)
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(600, func_only=True))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Both clusters; taken down again by the last who uses them, unless they were up before."""
    made = Cluster()
    wanted = [scheduler for scheduler in SITES if not made.why_not(scheduler)]
    if not wanted:
        pytest.skip(str(made.why_not()))
    with made.used(wanted):
        yield made


@pytest.fixture(autouse=True)
def undisturbed(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """A test that takes a cluster's commands or hosts away disturbs no other process' tests."""
    only = request.node.callspec.params.get("site") if hasattr(request.node, "callspec") else None
    both = only is None or "sites" in request.fixturenames
    with contextlib.ExitStack() as stack:
        for each in SITES.values():  # always in this order
            if both or each.scheduler == only:
                directory = os.open(cluster.host(each.login).directory, os.O_RDONLY)
                stack.callback(os.close, directory)
                fcntl.flock(directory, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module", params=SITES)
def site(request: pytest.FixtureRequest, cluster: Cluster) -> Site:
    """Each cluster in turn."""
    found = SITES[request.param]
    reason = None if cluster.is_up(found.scheduler) else cluster.why_not(found.scheduler)
    if reason:
        pytest.skip(reason)
    cluster.wait(found.scheduler)
    return found


WAYS = ("", "-jump", "-noforward")  # endings of the aliases of a login node


@dataclass
class Person:
    """Somebody with an account on a cluster and one on a laptop."""

    cluster: Cluster
    site: Site
    name: str = "1"  # account u1 there, l1 here
    laptop_name: str = ""
    alias: str = ""
    _running: list[subprocess.Popen[str] | Terminal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alias = self.alias or self.site.login
        self.laptop_name = self.laptop_name or self.site.laptop
        self.user = f"u{self.name}"
        self.owner = f"l{self.name}"
        self.home = self.login.home(self.user)

    @property
    def login(self) -> Host:
        return self.cluster.host(self.site.login)

    @property
    def laptop(self) -> Host:
        return self.cluster.host(self.laptop_name)

    # On the cluster.

    def on_login(
        self, *command: str, timeout: float = 60, check: bool = True, text: str | None = None
    ) -> str:
        """stdout of a command on the login node."""
        return self.login.run(command, self.user, timeout=timeout, check=check, input=text).stdout

    def write(self, name: str, text: str) -> None:
        """A file in the home on the cluster, as its owner."""
        self.on_login("sh", "-c", f"cat > {name} && chmod 755 {name}", text=text)

    def submit(
        self,
        *options: str,
        node: int | None = 0,
        seconds: int = 1800,
        name: str = "lab",
        before: str = "",
        cores: int = 1,
        body: str = "",
    ) -> str:
        """Submit a job script; the job's id. `options` go to `jlab-node run`.

        With a `body` of its own it runs that, and is not called jlab anything.
        """
        run = f"exec jlab-node run --name {name} --port-range {PORTS[0]}-{PORTS[1]}"
        label = name if body else f"jlab-{name}"
        script = f"{label}.sh"
        where = self.site.nodes[node] if node is not None else ""
        minutes = max(round(seconds / 60), 1)
        if self.site.scheduler == "slurm":
            head = [f"--time={minutes}", f"--cpus-per-task={cores}", f"--job-name={label}"]
            head += [f"--nodelist={where}"] if where else []
            lines = [f"#SBATCH {option}" for option in head]
            command = ["sbatch", script]
        else:
            clock = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}"
            lines = [f"#OAR -n {label}", f"#OAR -l /nodes=1/core={cores},walltime={clock}"]
            lines += [f"#OAR -p network_address='{where}'"] if where else []
            command = ["oarsub", "-S", f"./{script}"]
        text = ["#!/bin/bash", *lines, before, body or " ".join([run, *options])]
        self.write(script, "\n".join(text) + "\n")
        said = self.on_login(*command)
        found = re.search(r"(?:OAR_JOB_ID=|batch job )([0-9]+)", said)
        assert found, said
        return found[1]

    def jobs(self) -> list[str]:
        """The ids of the jobs that are queued or run."""
        command = self.site.queue.split()
        if self.site.scheduler == "slurm":
            command.append(f"--user={self.user}")
        printed = self.on_login(*command)
        return re.findall(r"^\s*([0-9]+)", printed, re.MULTILINE)

    def cancel(self, *jobs: str) -> None:
        self.on_login(self.site.cancel, *jobs, check=False)

    def records(self) -> dict[str, dict[str, str]]:
        """The published records by the ids of their jobs."""
        found = {}
        for path in (self.home / ".jlab" / "sessions").glob("[a-z]*"):
            with contextlib.suppress(FileNotFoundError):
                lines = path.read_text().splitlines()
                record = dict(line.partition("=")[::2] for line in lines)
                found[record["job_id"]] = record
        return found

    def wait_for_session(self, job: str, *, seconds: float = 180) -> dict[str, str]:
        """The record of that job's session, once it is there."""
        wait_until(lambda: job in self.records(), f"job {job} publishes", seconds=seconds)
        return self.records()[job]

    # On the laptop.

    def set_up(self, *options: str) -> None:
        """Once per laptop and cluster, as the README says.

        All but the first user of a laptop name a port, since each has it to itself.
        """
        if self.name != "1":
            ways = [f"{each.login}{way}" for each in SITES.values() for way in WAYS]
            port = 8900 + 10 * "1234tzf56".index(self.name) + ways.index(self.alias)
            options = ("--port", str(port), *options)
        done = self.on_laptop("jlab-proxy", "setup", self.alias, "--yes", *options)
        assert done.returncode == 0, done.stderr

    def on_laptop(
        self, *command: str, timeout: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.laptop.run(command, self.owner, timeout=timeout, input=text)

    def target(self, session: str = "") -> str:
        """What ssh and its like call the session."""
        return f"jlab+{self.alias}" + (f"+{session}" if session else "")

    def ssh(self, *command: str, session: str = "", timeout: float = 120) -> Said:
        """`ssh jlab+ALIAS`, without a terminal; how it went, and how long it took."""
        began = time.monotonic()
        done = self.on_laptop("ssh", self.target(session), *command, timeout=timeout)
        return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def is_soon(self, said: Said) -> bool:
        """Whether that took less than 10 s, on a machine that may be busy with other things."""
        if said.seconds < 10:
            return True
        quickest = self.ssh("true", session="none")
        return said.seconds - quickest.seconds < 10

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command on the laptop that goes on."""
        process = subprocess.Popen(
            self.laptop.command(command, self.owner),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def terminal(self, *command: str, host: Host | None = None, user: str = "") -> Terminal:
        """A command on a terminal, on the laptop unless another host is named."""
        made = Terminal((host or self.laptop).command(command, user or self.owner))
        self._running.append(made)
        return made

    def open_forward(self, session: str = "") -> str:
        """`ssh -N` in the background; the address that JupyterLab then has on the laptop."""
        self.wait_for_forward(self.start("ssh", "-N", self.target(session)), session)
        return self.url(session)

    def wait_for_forward(self, tunnel: subprocess.Popen[str], session: str = "") -> None:
        """Until that ssh has the local port: before, `jlab-proxy url` tells no address."""
        wait_until(
            lambda: self._ask_url(session).returncode != 69 or tunnel.poll() is not None,
            "the forward is there",
        )

    def _ask_url(self, session: str) -> subprocess.CompletedProcess[str]:
        where = self.alias + (f"+{session}" if session else "")
        return self.on_laptop("jlab-proxy", "url", where)

    def url(self, session: str = "") -> str:
        """The address that `jlab-proxy url` prints."""
        done = self._ask_url(session)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def evaluate(self, url: str, code: str = "6*7") -> str:
        """The value of `code` in a new kernel, by way of the laptop's own localhost."""
        call = f"from notebook import evaluate; print(evaluate({url!r}, {code!r}))"
        script = Path(__file__).parents[2] / "scripts" / "notebook.py"
        directory = self.laptop.home(self.owner)
        (directory / "notebook.py").write_text(script.read_text())
        # Not in the command line: the token stands in it.
        done = self.on_laptop("/opt/jlab/bin/python", "-", text=call)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def ready(self) -> Iterator[Person]:
        """Set up on both sides and with nothing running; and nothing of it stays."""
        self.clean_up()
        try:
            self.on_login("jlab-node", "setup")
            self.set_up()
            yield self
        finally:
            self.clean_up()

    def clean_up(self) -> None:
        """End what was started, on both sides."""
        for each in self._running:
            if isinstance(each, Terminal):
                each.end()
            else:
                each.terminate()
                each.communicate()
        self._running.clear()
        self.on_laptop("sh", "-c", "for m in ~/.ssh/jlab/*-*; do ssh -Oexit -S $m x; done")
        jobs = self.jobs()
        if jobs:
            self.cancel(*jobs)
        wait_until(lambda: not self.jobs(), "the jobs are gone", seconds=120)
        directory = self.home / ".jlab" / "sessions"
        for path in directory.glob("*") if directory.exists() else ():
            path.unlink(missing_ok=True)
        for name in ("submit", "submitted"):
            (self.home / ".jlab" / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Said:
    """How an ssh ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def sentences(self) -> str:
        """What our own side said, without what ssh adds to it."""
        lines = self.stderr.splitlines()
        return "\n".join(line for line in lines if line.startswith("jlab-"))


@pytest.fixture
def sites() -> dict[str, Site]:
    """Both clusters, for tests that need them at once."""
    return SITES


@pytest.fixture
def account() -> str:
    """Whose account `person` has: a file's own, where files may be run side by side."""
    return "1"


@pytest.fixture
def person(cluster: Cluster, site: Site, account: str) -> Iterator[Person]:
    """u1 on the cluster, set up on the laptop, with nothing running."""
    with Person(cluster, site, account).ready() as made:
        yield made


@pytest.fixture
def another(cluster: Cluster) -> Iterator[Callable[..., Person]]:
    """Others, for one test: by the arguments of Person."""
    with contextlib.ExitStack() as stack:
        yield lambda *who, **more: stack.enter_context(Person(cluster, *who, **more).ready())


@pytest.fixture(scope="module")
def people(cluster: Cluster, site: Site) -> Iterator[Callable[..., Person]]:
    """Others; the same for a whole module, by the keywords of Person."""
    with contextlib.ExitStack() as stack:
        yield lambda **who: stack.enter_context(Person(cluster, site, **who).ready())
