"""The four ways of starting a session in a job, each from the laptop to a running kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person


def use(person: Person, job: str, node: str) -> None:
    """A shell in the right job on the right node, and a kernel through the LocalForward."""
    variable = person.site.job_variable
    said = person.ssh(f"hostname; echo ${variable}")
    assert said.stdout.split() == [node, job], said.stderr
    url = person.open_forward()
    assert person.evaluate(url) == "42"
    where = person.evaluate(url, f"__import__('os').environ['{variable}']")
    assert where == repr(job), "the kernel is in the job"


def test_a_submitted_script(person: Person) -> None:
    """`sbatch jlab.sh`; `oarsub -S ./jlab.sh`, its options in #OAR lines."""
    job = person.submit(node=1)
    person.wait_for_session(job)
    use(person, job, person.site.nodes[1])


def test_the_script_that_jlab_node_prints(person: Person) -> None:
    scheduler = person.site.scheduler
    options = "--cpus 2 --time 30m --name gpu"
    person.on_login("sh", "-c", f"jlab-node script {scheduler} {options} > job.sh")
    submit = "sbatch job.sh" if scheduler == "slurm" else "chmod +x job.sh && oarsub -S ./job.sh"
    assert submit.replace("job.sh", "jlab.sh") in person.on_login("cat", "job.sh")
    said = person.on_login("sh", "-c", submit)
    job = re.findall("[0-9]+", said)[-1]
    record = person.wait_for_session(job)
    assert record["name"] == "gpu"
    assert person.ssh(f"echo ${person.site.job_variable}", session="gpu").stdout.strip() == job
    assert f"jlab-gpu-{job}.log" in record["log"], "its log is where it said"
    assert int(record["ends_at"]) - int(record["started"]) <= 30 * 60


@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_srun_with_a_terminal(person: Person) -> None:
    terminal = person.terminal(
        "srun", "--pty", "--nodelist=n1", "jlab-node", "run", host=person.login, user=person.user
    )
    terminal.read_until("published as")
    (job,) = person.jobs()
    use(person, job, "n1")
    terminal.type("\x03")
    terminal.read_until(r"is over \(exit code")
    wait_until(lambda: not person.jobs(), "the job ends with it")
    assert person.records() == {}


@pytest.mark.parametrize("site", ["oar"], indirect=True)
def test_oarsub_interactive_and_then_run(person: Person) -> None:
    terminal = person.terminal(
        "oarsub", "-I", "-l", "/core=1,walltime=0:20:00", host=person.login, user=person.user
    )
    terminal.read_until(r"Connect to OAR job")
    terminal.read_until(r"\$ $")
    terminal.type("jlab-node run\n")
    terminal.read_until("published as")
    (job,) = person.jobs()
    node = person.records()[job]["node"]
    use(person, job, node)
    terminal.type("\x03")
    terminal.read_until(r"is over \(exit code")
    terminal.type("exit\n")
    wait_until(lambda: not person.jobs(), "the job ends")


def test_the_head_node_is_refused(person: Person) -> None:
    """Sites kill such processes there."""
    done = person.login.run(["jlab-node", "run"], person.user)
    assert done.returncode == 1
    assert "is not in a job" in done.stderr
    assert "--here" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_the_shell_of_an_salloc_is_not_in_its_job(person: Person) -> None:
    done = person.login.run(["salloc", "--quiet", "jlab-node", "run"], person.user)
    assert done.returncode == 1
    assert re.search(r"SLURM_JOB_ID is set, but job [0-9]+ does not run here", done.stderr)
    assert "srun --pty jlab-node run" in done.stderr
