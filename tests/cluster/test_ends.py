"""Every way to die: the next connection is told, soon, and the one after runs into nothing."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from jlab_node.registry.clock_tolerance import RESTART

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster.hosts import Host

    from tests.cluster.conftest import Person, Said

TITLES = {"slurm": "Slurm", "oar": "OAR"}
AT = r"at [0-9:]+"  # of a job that is ending it is not known yet
NOTHING = "no session to connect to, and you have no job there"
# The scheduler takes a moment to notice that the job's only process is gone.
LINGERS = "the session of your {title} job {job} .* is over, although the job still runs"


def kill(person: Person, job: str, pattern: str) -> None:
    """SIGKILL to a process of the job, by its command line."""
    node = person.cluster.host(person.records()[job]["node"])
    done = node.run(["pkill", "-KILL", f"--uid={person.user}", "--full", pattern])
    assert done.returncode == 0, f"nothing is called {pattern}"


def kill_jlab_node(person: Person, job: str) -> None:
    kill(person, job, "jlab-node run")


def kill_jupyterlab(person: Person, job: str) -> None:
    kill(person, job, "bin/jupyter-lab")


def cancel(person: Person, job: str) -> None:
    person.cancel(job)


# How it dies, and what the next connection reads: one of these, by what is left behind.
OVER = "session lab is over: {title} job {job} (%s)( " + AT + ")?; its record is removed"
LIVES_ON = "its jlab-node has ended, although (Slurm|OAR) job [0-9]+ still runs"
WAYS: dict[str, tuple[str, Callable[[Person, str], None], str]] = {
    "scancel": ("slurm", cancel, NOTHING),
    "oardel": ("oar", cancel, OVER % "was deleted"),
    "slurm, jlab-node killed": ("slurm", kill_jlab_node, f"{OVER % 'failed|is ending'}|{LIVES_ON}"),
    "oar, jlab-node killed": (
        "oar",
        kill_jlab_node,
        f"{OVER % 'failed|failed with exit code [0-9]+'}|{LIVES_ON}",
    ),
    "slurm, JupyterLab killed": ("slurm", kill_jupyterlab, f"{NOTHING}|{LINGERS}"),
    "oar, JupyterLab killed": ("oar", kill_jupyterlab, f"{NOTHING}|{LINGERS}"),
}


@pytest.mark.parametrize(("site", "end", "sentence"), WAYS.values(), ids=WAYS, indirect=["site"])
def test_a_session_dies(person: Person, end: Callable[[Person, str], None], sentence: str) -> None:
    job = person.submit()
    person.wait_for_session(job)
    assert person.ssh("true").code == 0
    end(person, job)
    attempts: list[Said] = []

    def fails() -> bool:
        attempts.append(person.ssh("true"))
        # One that was open at that moment is cut off, and nobody can tell it why.
        return attempts[-1].code != 0 and attempts[-1].sentences != ""

    wait_until(fails, "it is gone", seconds=60)
    check(person, attempts[-1], sentence.format(title=TITLES[person.site.scheduler], job=job))
    the_next_one_works(person)


def check(person: Person, said: Said, sentence: str) -> None:
    """The sentence is the right one, soon, and not said again."""
    assert said.code == 255
    assert re.search(sentence, said.sentences), said.stderr
    assert person.is_soon(said)
    assert person.records() == {}
    again = person.ssh("true")
    assert person.is_soon(again)
    assert "its record is removed" not in again.sentences
    assert "no session to connect to" in again.sentences


def the_next_one_works(person: Person) -> None:
    job = person.submit()
    said = person.ssh(f"echo ${person.site.job_variable}")
    assert said.stdout.strip() == job, said.stderr


def test_the_time_limit(person: Person) -> None:
    """Slurm's SIGTERM lets the session withdraw itself; OAR kills at once, and the record stays."""
    oar = person.site.scheduler == "oar"
    job = person.submit(seconds=60)
    person.wait_for_session(job)
    wait_until(lambda: not person.jobs(), "the time is over", seconds=180)
    sentence = OVER % "reached its walltime" if oar else NOTHING
    check(person, person.ssh("true"), sentence.format(title="OAR", job=job))
    the_next_one_works(person)


def test_the_session_dies_and_its_job_lives_on(person: Person) -> None:
    """Whoever connects must not wait for that job, whatever it looks like."""
    job = person.submit(body="jlab-node run --port-range 31000-31999; sleep 300")
    person.wait_for_session(job)
    kill_jlab_node(person, job)
    said = person.ssh("true")
    assert re.search(LIVES_ON, said.sentences), said.stderr
    assert person.is_soon(said)
    assert person.records() == {}
    again = person.ssh("true")
    assert again.code == 255
    assert f"job {job} (lab) is over, although the job still runs" in again.sentences
    assert person.is_soon(again)
    the_next_one_works(person)


def test_the_session_ends_and_its_job_goes_on(person: Person) -> None:
    """By itself, as when JupyterLab is shut down in the browser: the script may have more to do."""
    job = person.submit(body="jlab-node run --port-range 31000-31999; sleep 300")
    person.wait_for_session(job)
    kill_jupyterlab(person, job)
    wait_until(lambda: person.records() == {}, "the record is withdrawn", seconds=60)
    said = person.ssh("true")
    assert said.code == 255
    lingers = LINGERS.format(title=TITLES[person.site.scheduler], job=job)
    assert re.search(lingers, said.sentences), said.stderr
    assert person.is_soon(said)
    the_next_one_works(person)


@pytest.fixture
def doomed(person: Person) -> Iterator[Host]:
    """The second node; it is up again afterwards."""
    host = person.cluster.host(person.site.nodes[1])
    yield host
    if person.site.scheduler == "oar":  # it suspects the node when it has given the job up
        person.clean_up()
    person.cluster.start(host.name)


@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_the_node_dies_and_the_job_is_started_again(person: Person, doomed: Host) -> None:
    """Slurm does so by itself: the old record tells nothing of the new session."""
    job = person.submit(node=1)
    old = person.wait_for_session(job)
    time.sleep(RESTART)  # no cluster is so quick; here it may be
    doomed.kill()
    down = ["scontrol", "update", f"NodeName={doomed.name}", "State=DOWN", "Reason=no power"]
    person.login.run(down, check=True)  # Slurm would notice by itself, in its own time
    person.cluster.start(doomed.name)
    show = ("scontrol", "show", "job", job)
    wait_until(lambda: "Restarts=1" in person.on_login(*show), "Slurm notices", seconds=180)
    # Slurm would let it rest for two minutes, and needs some seconds: a node that is back at once
    # is told then to end the job that it had, and ends the new one, which has the same number.
    person.on_login("scontrol", "update", f"JobId={job}", "StartTime=now+15", check=False)
    said = person.ssh("echo $SLURM_JOB_ID; hostname", timeout=400)
    assert said.stdout.split() == [job, doomed.name], said.stderr
    assert "session lab is over: Slurm job" in said.sentences
    assert person.records()[job]["token"] != old["token"]


def test_the_node_dies(person: Person, doomed: Host) -> None:
    job = person.submit(node=1)
    person.wait_for_session(job)
    assert person.ssh("true").code == 0
    doomed.kill()
    said = person.ssh("true")
    assert said.code == 255
    assert person.is_soon(said)
    assert f"session lab runs on {doomed.name}, but no way leads there: TCP to port" in said.stderr
    assert {"slurm": "; srun: ", "oar": "; oarsh: "}[person.site.scheduler] in said.stderr
    assert "; ssh: " in said.stderr
    assert job in person.records(), "the scheduler may be right, and the node come back"
    person.cancel(job)
    the_next_one_works(person)
