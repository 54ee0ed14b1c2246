"""`jlab-proxy open` and what goes with it, on the real schedulers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

SUBMIT = {"slurm": "sbatch jlab.sh", "oar": "oarsub -S ./jlab.sh"}
ADDRESS = r"http://127.0.0.1:[0-9]+/lab\?token=[0-9a-f]{64}"


@pytest.fixture
def account() -> str:
    return "2"


@pytest.fixture
def script(person: Person) -> str:
    """What submits a session, half an hour long."""
    scheduler = person.site.scheduler
    text = f"jlab-node script {scheduler} --time 30m > jlab.sh && chmod +x jlab.sh"
    person.on_login("sh", "-c", text)
    return SUBMIT[scheduler]


@pytest.mark.quick
def test_open_submits_waits_and_tells_the_end(person: Person, script: str) -> None:
    terminal = person.terminal("jlab-proxy", "open", person.alias, "--submit", script)
    terminal.resize(30, 120)
    text = terminal.read_until(ADDRESS, seconds=180)
    (job,) = person.jobs()
    assert f"submitted {'Slurm' if job and person.site.scheduler == 'slurm' else 'OAR'} job" in text
    url = re.findall(ADDRESS, text)[-1]
    assert person.evaluate(url) == "42"
    terminal.read_until(rf"session lab on \w+, {person.site.scheduler} job {job}, 0 h 2[0-9] min")
    listed = person.on_laptop("jlab-proxy", "ls").stdout
    assert re.search(rf"{person.alias} +lab +\w+ +{person.site.scheduler} {job} +0 h 2", listed)
    assert "JupyterLab answers" in person.on_laptop("jlab-proxy", "logs", person.alias).stdout
    # Cancelled: that is the end, and no new job is submitted by a tunnel that comes back.
    person.cancel(job)
    assert terminal.wait(seconds=120) == 0
    assert "session lab is over" in terminal.text.split(ADDRESS)[-1]
    assert person.jobs() in ([], [job])


def test_open_follows_to_a_new_job(person: Person) -> None:
    first = person.submit()
    person.wait_for_session(first)
    terminal = person.terminal("jlab-proxy", "open", person.alias)
    terminal.read_until(ADDRESS)
    second = person.submit(node=1)
    person.wait_for_session(second)
    person.cancel(first)
    terminal.read_until(rf"session lab on {person.site.nodes[1]}, \w+ job {second}", seconds=120)
    text = terminal.read_until(rf"(?s){ADDRESS}.*{ADDRESS}")
    first_url, url = re.findall(ADDRESS, text)
    assert first_url != url
    wait_until(lambda: person.evaluate(url) == "42", "JupyterLab answers")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert second in person.jobs(), "the tunnel ends, the job does not"


def test_stop_a_job_that_waits(person: Person) -> None:
    """By the person who has looked at what it is."""
    cores = {"slurm": 64, "oar": 32}[person.site.scheduler]
    person.submit(name="work", node=1, cores=cores, body="sleep 600")
    wait_until(lambda: len(person.jobs()) == 1, "it is there")
    job = person.submit(node=1)

    def is_listed() -> bool:
        listed = person.on_laptop("jlab-proxy", "ls", person.alias).stdout
        return f"{person.alias}: job {job} (jlab-lab) is queued" in listed

    wait_until(is_listed, "it waits", seconds=60)
    done = person.on_laptop("jlab-proxy", "stop", person.alias, text="y\n")
    assert done.returncode == 0, done.stderr
    assert f"job {job} (jlab-lab) is queued" in done.stdout
    wait_until(lambda: job not in person.jobs(), "it is gone", seconds=60)


def test_doctor(person: Person) -> None:
    person.wait_for_session(person.submit())
    done = person.on_laptop("jlab-proxy", "doctor", person.alias)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failure" not in done.stdout
    assert {"slurm": "Slurm", "oar": "OAR"}[person.site.scheduler] in done.stdout
    assert person.site.nodes[0] in done.stdout
    for record in person.records().values():
        assert record["token"] not in done.stdout
