"""`setup --submit`: ssh submits the job when there is none, once, and not in a loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

SUBMIT = {"slurm": "sbatch jlab.sh", "oar": "oarsub -S ./jlab.sh"}


@pytest.fixture
def account() -> str:
    return "2"


def test_submit_when_there_is_no_job(person: Person) -> None:
    scheduler, variable = person.site.scheduler, person.site.job_variable
    person.on_login(
        *("sh", "-c"),
        f"jlab-node script {scheduler} --time 30m > jlab.sh && chmod +x jlab.sh",
    )
    person.set_up("--submit", SUBMIT[scheduler])
    host = f"jlab+{person.alias}"
    # Four at once: one job, and all land in it.
    people = [person.terminal("ssh", host) for _ in range(2)]
    programs = [person.start("ssh", host, f"echo ${variable}") for _ in range(2)]
    ended = [process.communicate(timeout=180) for process in programs]
    (job,) = person.jobs()
    assert [stdout.strip() for stdout, _ in ended] == [job, job], ended
    for terminal in people:
        terminal.read_until(r"(?s)jlab-node: session lab on .*\$ $", seconds=180)
        terminal.type(f'echo "in ${variable}."\n')
        terminal.read_until(f"in {job}[.]")
        terminal.type("exit\n")
        assert terminal.wait() == 0
    title = {"slurm": "Slurm", "oar": "OAR"}[scheduler]
    texts = [*(stderr for _, stderr in ended), *(terminal.text for terminal in people)]
    assert sum(f"submitted {title} job {job} by" in text for text in texts) == 1, texts
    # It is lost: whoever comes back by itself gets no new one, nor does a person right away.
    person.cancel(job)
    wait_until(lambda: not person.jobs(), "the job is gone")
    for _ in range(2):
        said = person.ssh("true")
        assert said.code == 255
        assert "submits no job without a terminal" in said.sentences
        assert f"type `{SUBMIT[scheduler]}`" in said.sentences
        assert "use ssh in a terminal" in said.sentences
    terminal = person.terminal("ssh", host)
    assert terminal.wait() == 255
    assert "submits no job so soon after the last one" in terminal.text
    assert "connect again in 10 minutes" in terminal.text
    assert person.jobs() == []
    # As it says, by hand; and that is waited for.
    person.on_login("sh", "-c", SUBMIT[scheduler])
    (job,) = person.jobs()
    assert person.ssh(f"echo ${variable}").stdout.strip() == job
    # Ended on purpose, it is not lost.
    person.on_login("jlab-node", "stop", "lab")
    wait_until(lambda: not person.jobs(), "the job is gone")
    said = person.ssh(f"echo ${variable}")
    (job,) = person.jobs()
    assert said.stdout.strip() == job, said.stderr
    # No longer wanted.
    person.set_up("--submit", "")
    person.on_login("jlab-node", "stop", "lab")
    wait_until(lambda: not person.jobs(), "the job is gone")
    said = person.ssh("true")
    assert said.code == 255
    assert "no session to connect to" in said.sentences
    assert person.jobs() == []


def test_a_command_that_fails_is_told_once(person: Person) -> None:
    person.set_up("--submit", "echo no such partition >&2; false")
    said = person.ssh("true")
    assert said.code == 255
    assert re.fullmatch(
        "jlab-node: `echo no such partition >&2; false` failed: no such partition", said.sentences
    )
    assert person.is_soon(said)
