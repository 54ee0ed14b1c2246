"""Each scheduler's commands, word for word: on most sites these are all that is ever run."""

from __future__ import annotations

import shlex

import pytest

from jlab_node.schedulers import TABLE, without_options
from jlab_node.schedulers.base import State, Status

SLURM = "env SLURM_TIME_FORMAT=%s"
SQUEUE = "'--format=>%A|%T|%r|%S|%e|%N|%F|%K|%j|%o'"
BJOBS = (
    "bjobs -json -o 'jobid jobindex stat job_name exec_host pend_reason exit_reason exit_code "
    "start_time estimated_start_time finish_time command'"
)


def typed(commands: list[list[str]]) -> list[str]:
    """As one would type them; what separates squeue's fields is no character to type."""
    return [shlex.join(words).replace("\x1f", "|").replace("\x01", ">") for words in commands]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("slurm", f"{SLURM} squeue --all --noheader --user=u1 {SQUEUE}"),
        ("oar", "oarstat --full --json --user u1"),
        ("sge", "qstat -xml -r -u u1"),
        ("lsf", f"{BJOBS} -u u1"),
        ("local", "ps -ww -u u1 -o pid=,stat=,args="),
    ],
)
def test_list_jobs_commands_word_for_word(name: str, command: str) -> None:
    assert typed(TABLE[name].list_jobs_commands("u1")) == [command]


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        (
            "slurm",
            [
                f"{SLURM} squeue --noheader --states=all --jobs=12 {SQUEUE}",
                f"{SLURM} sacct --noheader --allocations --parsable2 --jobs=12 "
                "--format=JobIDRaw,State,End",
            ],
        ),
        ("oar", ["oarstat --full --json --job 12"]),
        ("pbs", ["qstat -x -f -F json 12", "qstat -f 12"]),
        ("sge", ["qstat -xml -r", "qstat -j 12"]),
        ("lsf", [f"{BJOBS} -a 12"]),
        ("local", ["ps -ww -p 12 -o stat=,args="]),
    ],
)
def test_job_status_commands_word_for_word(name: str, commands: list[str]) -> None:
    assert typed(TABLE[name].job_status_commands("12")) == commands


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("slurm", "scontrol show config"),
        ("oar", ""),
        ("pbs", "qstat -B -f"),
        ("sge", """sh -c 'cat "$SGE_ROOT/${SGE_CELL:-default}/common/cluster_name"'"""),
        ("lsf", "lsid"),
        ("local", ""),
    ],
)
def test_cluster_command_word_for_word(name: str, command: str) -> None:
    assert typed([TABLE[name].cluster_command()]) == [command]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("slurm", "scancel 12"),
        ("oar", "oardel 12"),
        ("pbs", "qdel 12"),
        ("sge", "qdel 12"),
        ("lsf", "bkill 12"),
        ("local", "kill 12"),
    ],
)
def test_cancel_command_word_for_word(name: str, command: str) -> None:
    assert typed([TABLE[name].cancel_command(Status("12", State.RUNNING, cancel_id="12"))]) == [
        command
    ]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (
            "slurm",
            "srun --overlap --mem=0 --unbuffered --quiet --ntasks=1 --input=all --chdir=/ "
            "--jobid=12 --nodelist=n1 sh -c 'exec bash /x --y=z'",
        ),
        ("oar", "env OAR_JOB_ID=12 oarsh n1 bash /x --y=z"),
        *[(name, "") for name in ("pbs", "sge", "lsf", "local")],
    ],
)
def test_run_in_job_word_for_word(name: str, command: str) -> None:
    assert typed([TABLE[name].run_in_job("12", "n1", ["bash", "/x", "--y=z"])]) == [command]


@pytest.mark.parametrize(
    ("name", "title", "program", "job_id", "submit", "inside"),
    [
        ("slurm", "Slurm", "squeue", "SLURM_JOB_ID", "sbatch jlab.sh", "srun --pty jlab-node run"),
        (
            "oar",
            "OAR",
            "oarstat",
            "OAR_JOB_ID",
            "chmod +x jlab.sh && oarsub -S ./jlab.sh",
            "oarsub -I, then jlab-node run",
        ),
        ("pbs", "PBS", "pbsnodes", "PBS_JOBID", "qsub jlab.sh", "qsub -I, then jlab-node run"),
        ("sge", "Grid Engine", "qconf", "JOB_ID", "qsub jlab.sh", "qrsh jlab-node run"),
        ("lsf", "LSF", "bjobs", "LSB_JOBID", "bsub < jlab.sh", "bsub -Is jlab-node run"),
        ("local", "local", "ps", "", "nohup jlab.sh &", "jlab-node run"),
    ],
)
def test_constants_word_for_word(
    name: str, *, title: str, program: str, job_id: str, submit: str, inside: str
) -> None:
    each = TABLE[name]
    assert (title, program, job_id) == (each.DISPLAY_NAME, each.PROBE_PROGRAM, each.JOB_ID)
    assert (each.SUBMIT_COMMAND.format("jlab.sh"), each.INTERACTIVE_COMMAND) == (submit, inside)
    assert each.LOG_ONLY_AT_END is (name in ("pbs", "lsf"))
    assert each.extend_command("12") == ("oarwalltime 12 +1:00" if name == "oar" else "")


@pytest.mark.parametrize(
    "name",
    [
        *("SQUEUE_STATES", "SQUEUE_FORMAT2", "SCANCEL_NAME", "SCANCEL_PARTITION", "SCANCEL_USER"),
        *("SLURM_LABELIO", "SLURM_EXPORT_ENV", "SLURM_STDOUTMODE", "SLURM_EXCLUSIVE", "SLURM_GRES"),
        *("SLURM_JOB_ID", "SLURM_NTASKS", "SRUN_CONTAINER", "SACCT_FORMAT", "SLURM_MPI_TYPE"),
        "SCANCEL_OF_THE_FUTURE",
    ],
)
def test_options_of_the_user_and_of_a_job_change_no_command_of_ours(name: str) -> None:
    assert without_options({name: "1", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name", ["SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "PBS_DEFAULT", "SGE_ROOT", "LSF_ENVDIR"]
)
def test_what_leads_to_the_scheduler_is_kept(name: str) -> None:
    assert without_options({name: "1"}) == {name: "1"}
