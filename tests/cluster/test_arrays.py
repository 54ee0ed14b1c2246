"""Sessions in the elements of a job array, and jobs with odd names, on the real schedulers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

SCRIPT = """#!/bin/bash
[ "${SLURM_ARRAY_TASK_ID:-$OAR_ARRAY_INDEX}" = ELEMENT ] && exec jlab-node run
sleep 600
"""


@pytest.fixture
def account() -> str:
    return "2"


def submit_array(person: Person, element: int) -> None:
    """Three elements, of which one runs a session."""
    person.write("array.sh", SCRIPT.replace("ELEMENT", str(element)))
    if person.site.scheduler == "slurm":
        person.on_login("sbatch", "--array=1-3", "--ntasks=1", "--time=20", "array.sh")
    else:
        limits = "/nodes=1/core=1,walltime=0:20:0"
        person.on_login("oarsub", "-S", "./array.sh", "--array", "3", "-l", limits)


def running(person: Person) -> list[str]:
    """The ids of the elements that run, each by its own number."""
    if person.site.scheduler == "slurm":
        command = ["squeue", "-h", f"--user={person.user}", "--states=RUNNING", "-o", "%A"]
        return person.on_login(*command).split()
    return person.jobs()


@pytest.mark.parametrize("element", [1, 3])
def test_stop_ends_the_session_s_element_of_an_array_alone(person: Person, element: int) -> None:
    """In Slurm the last one has the number of the whole array."""
    submit_array(person, element)
    wait_until(lambda: len(person.records()) == 1, "its session is published", seconds=180)
    wait_until(lambda: len(running(person)) == 3, "all elements run", seconds=60)
    (job,) = person.records()
    person.on_login("env", "SCANCEL_NAME=zzz", "jlab-node", "stop", "lab")
    left = running(person)
    assert job not in left
    assert len(left) == 2, "the others go on"
    assert person.records() == {}


def test_session_of_a_job_with_an_odd_name_is_found(person: Person) -> None:
    """The scheduler's list has it on two lines."""
    if person.site.scheduler != "slurm":
        pytest.skip("OAR takes no such name")
    person.write("odd.sh", "#!/bin/bash\nexec jlab-node run\n")
    said = person.on_login("sbatch", "--job-name=jlab\nday 2", "--ntasks=1", "--time=20", "odd.sh")
    job = re.findall("[0-9]+", said)[-1]
    person.wait_for_session(job)
    assert f" slurm {job} " in person.on_login("jlab-node", "ls")
    assert "session lab runs on" in person.on_login("jlab-node", "status")
    assert f"session slurm-{job}-lab is stopped" in person.on_login("jlab-node", "stop", "lab")
    assert job not in running(person)
