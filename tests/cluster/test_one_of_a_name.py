"""One session of a name in a job that runs on two nodes, by a real Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from tests.cluster.conftest import PORTS

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

REFUSAL = "session lab of this job runs on "


@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_of_the_tasks_of_a_job_on_two_nodes_one_is_the_session(person: Person) -> None:
    """The others refuse, as does one in its shell; when it is killed, another takes its place."""
    run = f"jlab-node run --port-range {PORTS[0]}-{PORTS[1]}"
    body = f"srun -N2 -n4 --overcommit {run}; echo and again; exec srun -N2 -n2 --overcommit {run}"
    job = person.submit(
        node=None,
        name="work",
        before="#SBATCH --nodes=2 --ntasks=2 --output=work.log",
        body=body,
    )
    record = person.wait_for_session(job)
    assert record["job_started"].isdecimal()
    assert record["node"] in person.site.nodes
    log = person.home / "work.log"
    wait_until(lambda: log.read_text().count(REFUSAL) == 3, "three of four refuse")
    assert (
        f"{REFUSAL}{record['node']} already: start a second one with --name NAME" in log.read_text()
    )
    nested = person.ssh("sh .jlab/jlab-node run")
    assert nested.code == 1
    assert f"{REFUSAL}{record['node']} already" in nested.stderr
    assert person.records()[job] == record
    pid = record["process"].split(".")[0]
    killed = person.cluster.host(record["node"]).run(["kill", "-9", pid], person.user)
    assert killed.returncode == 0, killed.stderr
    wait_until(
        lambda: person.records().get(job, record)["token"] != record["token"],
        "another session is there, on whichever node",
        seconds=120,
    )
    wait_until(lambda: log.read_text().count(REFUSAL) == 4, "and only one")
