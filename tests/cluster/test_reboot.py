"""The login node loses its power while somebody waits for a job: the wait ends, and can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from tests.cluster.test_waiting import fill, is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.conftest import Person

# Nobody says goodbye.
_UNPLUG = 'for each in /sys/class/net/*; do ip link set "${each##*/}" down; done'


@pytest.fixture
def doomed(person: Person) -> Iterator[Person]:
    """Whose login node is up again afterwards."""
    yield person
    if not person.login.is_ready:
        power_on(person)


def is_written_down(person: Person) -> bool:
    """Whether the scheduler will remember the job: OAR does at once, Slurm in some seconds."""
    state = "/var/lib/slurm/slurmctld/job_state"
    return (
        person.site.scheduler == "oar"
        or not person.login.run(["grep", "-q", "jlab-reboot", state]).returncode
    )


def power_off(person: Person) -> None:
    person.login.run(["sh", "-c", _UNPLUG], check=True)
    person.login.kill()


def power_on(person: Person) -> None:
    person.cluster.start(person.site.login)
    person.cluster.wait(person.site.scheduler)


def test_the_login_node_is_rebooted_during_a_wait(doomed: Person) -> None:
    person = doomed
    filling = fill(person, seconds=600)
    wait_until(lambda: is_running(person, filling), "the node is taken", seconds=120)
    job = person.submit(node=1, name="reboot")
    waiting = person.start("ssh", person.target(), "hostname")
    assert waiting.stderr is not None
    assert f"job {job} (jlab-reboot) is queued, " in waiting.stderr.readline()
    wait_until(lambda: is_written_down(person), "the job is", seconds=120)
    power_off(person)
    waiting.communicate(timeout=180)
    assert waiting.returncode == 255
    power_on(person)
    again = person.start("ssh", person.target(), "hostname")
    assert again.stderr is not None
    assert f"job {job} (jlab-reboot) is queued, " in again.stderr.readline()
    person.cancel(filling)
    stdout, stderr = again.communicate(timeout=300)
    assert stdout == f"{person.site.nodes[1]}\n", stderr
