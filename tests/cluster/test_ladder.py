"""No TCP from the login node to the compute nodes: a step in the job carries the session."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster.hosts import Host

    from tests.cluster.conftest import Person

PORTS = "32300-32309"  # no other test's: what is blocked here, others do not miss
SLURMD_PORT = 6818
STEP = {"slurm": "srun", "oar": "oarsh"}
SIZE = 50_000_000


@contextlib.contextmanager
def rule(host: Host, text: str) -> Iterator[None]:
    """A rule of its network, which is there until the end."""
    host.run(["ip", "rule", "add", *text.split()], check=True)
    try:
        yield
    finally:
        host.run(["ip", "rule", "delete", *text.split()], check=True)


def refused(person: Person, ports: str = PORTS) -> contextlib.AbstractContextManager[None]:
    """What this user connects to is refused at once."""
    uid = person.home.stat().st_uid
    return rule(person.login, f"uidrange {uid}-{uid} ipproto tcp dport {ports} unreachable")


def dropped(person: Person) -> contextlib.AbstractContextManager[None]:
    """No answer leaves the node, so that whoever connects to it waits."""
    node = person.cluster.host(person.site.nodes[0])
    return rule(node, f"ipproto tcp sport {PORTS} blackhole")


@contextlib.contextmanager
def no_step(person: Person) -> Iterator[str]:
    """Neither srun nor oarsh gets to the node; what it says then."""
    if person.site.scheduler == "slurm":
        with refused(person, f"{SLURMD_PORT}-{SLURMD_PORT}"):
            yield "Application launch failed"
        return
    # oarsh connects as the user oar, as all of OAR does; but a key that is gone stops it as well.
    before = person.on_login("cat", ".bashrc", check=False)
    person.write(".bashrc", "export OAR_JOB_KEY_FILE=~/gone\n")
    try:
        yield f"Failed to read job key: /home/{person.user}/gone"
    finally:
        person.write(".bashrc", before)


@pytest.fixture(scope="module")
def person(people: Callable[..., Person]) -> Person:
    """u3, with a session."""
    made = people(name="3")
    made.wait_for_session(made.submit("--port-range", PORTS))
    return made


@pytest.fixture
def walled(person: Person) -> Iterator[Person]:
    """u3, whose session cannot be reached by TCP."""
    with refused(person):
        yield person


def job_of(person: Person) -> str:
    (job,) = person.records()
    return job


def test_a_terminal(walled: Person) -> None:
    """As any ssh: a terminal with its size, the job's environment, an exit code."""
    terminal = walled.terminal("ssh", walled.target())
    terminal.resize(33, 101)
    terminal.read_until(r"\$ $")
    node, job = walled.site.nodes[0], job_of(walled)
    title = walled.site.scheduler
    assert re.search(rf"jlab-node: session lab on {node}, {title} job {job}, ", terminal.text)
    terminal.type(f"hostname; tty; stty size; echo ${walled.site.job_variable}.\n")
    terminal.read_until(rf"{node}\s+/dev/pts/[0-9]+\s+33 101\s+{job}\.")
    terminal.resize(20, 60)
    terminal.type("stty size\n")
    terminal.read_until("20 60")
    terminal.type("exit 5\n")
    assert terminal.wait() == 5


def test_a_command(walled: Person) -> None:
    said = walled.ssh(f"echo ${walled.site.job_variable}; echo err >&2; exit 7")
    assert (said.code, said.stdout, said.stderr) == (7, f"{job_of(walled)}\n", "err\n")


def test_stdin_comes_to_its_end(walled: Person) -> None:
    text = "".join(f"line {number}\n" for number in range(10_000))
    done = walled.on_laptop("ssh", walled.target(), "tac", text=text)
    assert done.stdout.splitlines() == text.splitlines()[::-1]


def test_a_kernel(walled: Person) -> None:
    url = walled.open_forward()
    assert walled.evaluate(url) == "42"
    where = walled.evaluate(url, f"__import__('os').environ['{walled.site.job_variable}']")
    assert where == repr(job_of(walled)), "it is in the job"


@pytest.mark.parametrize("tool", ["scp", "rsync"])
def test_a_large_file_there_and_back(walled: Person, tool: str) -> None:
    target = walled.target()
    copy = {"scp": "scp -q", "rsync": "rsync -e ssh"}[tool]
    walled.on_laptop("sh", "-c", f"head -c {SIZE} /dev/urandom >large")
    try:
        there = f"{copy} large {target}:/tmp/u3.large"
        back = f"{copy} {target}:/tmp/u3.large back"
        sums = f"sha256sum <large; ssh {target} 'sha256sum </tmp/u3.large'; sha256sum <back"
        done = walled.on_laptop("sh", "-ec", f"{there}; {back}; {sums}")
        assert len(done.stdout.splitlines()) == 3, done.stderr
        assert len(set(done.stdout.splitlines())) == 1
    finally:
        walled.ssh("rm", "-f", "/tmp/u3.large")
        walled.on_laptop("rm", "-f", "large", "back")


def test_two_at_once(walled: Person) -> None:
    """They meet: each waits for what the other leaves."""
    meet = "touch /tmp/u3.{}; until [ -e /tmp/u3.{} ]; do sleep 0.1; done; echo met"
    both = [
        walled.start("ssh", walled.target(), meet.format(*names))
        for names in (("one", "two"), ("two", "one"))
    ]
    try:
        assert [each.communicate(timeout=120)[0] for each in both] == ["met\n", "met\n"]
    finally:
        walled.ssh("rm", "-f", "/tmp/u3.one", "/tmp/u3.two")


def test_a_firewall_that_says_nothing(person: Person) -> None:
    with dropped(person):
        said = person.ssh(f"echo ${person.site.job_variable}")
        assert (said.stdout, said.stderr) == (f"{job_of(person)}\n", "")
        assert person.is_soon(said)
        terminal = person.terminal("ssh", person.target())
        terminal.resize(24, 120)
        why = rf"trying {STEP[person.site.scheduler]} \(TCP to port 3230[0-9]: no answer\)"
        terminal.read_until(why)
        terminal.read_until(r"\$ $")


def test_every_way_is_closed(walled: Person) -> None:
    """Each is named, with what it said; and once the way is open again, nothing is left of it."""
    with no_step(walled) as why:
        said = walled.ssh("true")
        step, node = STEP[walled.site.scheduler], walled.site.nodes[0]
        assert said.code == 255
        assert f"session lab runs on {node}, but no way leads there: TCP to " in said.sentences
        ways = [
            r"TCP to port 3230[0-9]: Network is unreachable",
            rf"{step}: [^;]*{why}[^;]*",
            r"ssh: [^;]*(Permission denied|Host key verification failed)[^;]*",
        ]
        assert re.search("; ".join(ways), said.sentences), said.sentences
        _, advice = said.sentences.splitlines()
        assert advice.startswith("jlab-node: if the node is up, ask your site which ports pass ")
        assert f"{step}: {step}:" not in said.sentences
        assert walled.is_soon(said)
        connect = ["bash", "-c", ". ~/.bashrc; bash ~/.jlab/connect"]
        done = walled.login.run(connect, walled.user)
        assert done.returncode == 69
        assert done.stdout == "", "that is ssh's alone"
        assert done.stderr == said.sentences + "\n"
    assert walled.ssh("echo here").stdout == "here\n"


def theirs(host: Host, person: Person) -> set[str]:
    """What runs there for that person's connections or sessions."""
    # The user's connection to the login node stays for two minutes, and serves the next ssh.
    printed = host.run(["ps", "-eo", "user:20,args"]).stdout.splitlines()
    return {
        line
        for line in printed
        if (line.startswith(f"{person.user} ") and " sshd: " not in line)
        or "--inside=" in line  # oarsh and its ssh are the user oar's
    }


def test_the_job_ends_under_a_connection(walled: Person) -> None:
    job = walled.submit("--port-range", PORTS, name="short")
    walled.wait_for_session(job)
    hosts = [walled.login, walled.cluster.host(walled.site.nodes[0])]
    # The other session of this user stays, with its processes.
    before = [theirs(host, walled) for host in hosts]
    connected = walled.start("ssh", walled.target("short"), "echo here; exec sleep 1000")
    assert connected.stdout is not None
    assert connected.stdout.readline() == "here\n"
    assert any("--inside=" in line for line in theirs(hosts[0], walled) - before[0]), "it is a step"
    began = time.monotonic()
    walled.cancel(job)
    assert connected.wait(timeout=60) == 255
    assert time.monotonic() - began < 60
    wait_until(lambda: job not in walled.jobs(), "the job is gone", seconds=60)
    again = walled.ssh("true", session="short")
    assert again.code == 255
    assert walled.is_soon(again)
    assert "no session called short" in again.sentences
    assert job not in walled.records()

    def left() -> list[str]:
        return [
            line for host, old in zip(hosts, before) for line in sorted(theirs(host, walled) - old)
        ]

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not left(), "nothing is left", seconds=15)
    assert not left()
