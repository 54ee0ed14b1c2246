"""Slurm: what 22.05.8 of the test cluster printed, and what the manual of sacct prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node.errors import JlabError
from jlab_node.schedulers import slurm
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status, is_complete

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import Machine

# One of these jobs was submitted with --job-name='a|b\x1fc"d'e\nf...'.
MINE = (
    "\x0122\x1fPENDING\x1fBeginTime\x1f1795471862\x1f1795475462\x1f\x1f22\x1fN/A\x1fwrap\x1f(null)\n"
    "\x0121\x1fPENDING\x1fJobHeldUser\x1fN/A\x1fN/A\x1f\x1f21\x1fN/A\x1fa|b\x1fc\"d'e\n"
    "f\x1b[31m;\t\x1f\x1f g\x1f(null)\n"
    "\x0120\x1fPENDING\x1fJobHeldUser\x1fN/A\x1fN/A\x1f\x1f20\x1fN/A\x1fwrap\x1f(null)\n"
    "\x0119\x1fRUNNING\x1fNone\x1f1795468262\x1f1795468322\x1fn2\x1f19\x1fN/A\x1fwrap\x1f(null)\n"
    "\x0127\x1fRUNNING\x1fNone\x1f1795468262\x1f1795471862\x1fn2\x1f27\x1fN/A\x1fwrap\x1f(null)\n"
)
BATCH = {
    "SLURM_JOB_ID": "16",
    "SLURMD_NODENAME": "n1",
    "SLURM_CLUSTER_NAME": "cal1",
    "SLURM_JOB_START_TIME": "1795464506",
    "SLURM_JOB_END_TIME": "1795471706",
}


@pytest.mark.parametrize(
    ("env", "host", "expected"),
    [
        (BATCH, "n1", Job("slurm", "16", "cal1", "n1", 1795471706, 1795464506)),
        (
            {**BATCH, "SLURM_ARRAY_JOB_ID": "15", "SLURM_ARRAY_TASK_ID": "1"},
            "n1",
            Job("slurm", "16", "cal1", "n1", 1795471706, 1795464506),
        ),
        (BATCH, "login", None),
        ({}, "n1", None),
        ({**BATCH, "SLURM_JOB_ID": ""}, "n1", None),
        (
            {"SLURM_JOB_ID": "16", "SLURMD_NODENAME": "n1", "SLURM_JOB_END_TIME": "0"},
            "n1",
            Job("slurm", "16", "", "n1"),
        ),
        ({"SLURM_JOB_ID": "16", "SLURM_CLUSTER_NAME": "cal1"}, "login", None),  # salloc
    ],
)
def test_detect_by_variables_and_node(
    machine: Callable[..., Machine], env: dict[str, str], host: str, expected: Job | None
) -> None:
    assert slurm.detect(env, machine(host)) == expected


def test_parse_job_list_with_a_hostile_name() -> None:
    """A hostile name costs no job, and no other's fields: it is the last."""
    found = slurm.parse_job_list(CommandResult(0, MINE))
    assert found is not None
    states = {status.job_id: status for status in found}
    assert set(states) == {"22", "21", "20", "19", "27"}
    assert (states["21"].state, states["21"].reason) == (State.QUEUED, "JobHeldUser")
    assert states["22"].state is State.QUEUED
    assert (states["22"].raw_state, states["22"].reason) == ("PENDING", "BeginTime")
    assert states["22"].starts_at == 1795471862
    assert (states["20"].reason, states["20"].starts_at) == ("JobHeldUser", None)
    assert states["19"].state is State.RUNNING
    assert (states["19"].node, states["19"].name) == ("n2", "wrap")
    assert (states["19"].starts_at, states["19"].ends_at) == (1795468262, 1795468322)
    assert slurm.parse_job_list(CommandResult(0, "")) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("20\x1fCANCELLED\x1fJobHeldUser\x1f1795468275\x1f1795468275\x1f\x1fwrap", "was cancelled"),
        (
            "20\x1fTIMEOUT\x1fTimeLimit\x1f1795468262\x1f1795468275\x1fn2\x1fwrap",
            "reached its time",
        ),
        ("20\x1fCOMPLETING\x1fNone\x1f1795468262\x1f1795468275\x1fn2\x1fwrap", "is ending"),
        ("20\x1fFAILED\x1fNonZeroExitCode\x1f1795468262\x1f1795468275\x1fn2\x1fwrap", "failed"),
        ("20\x1fCOMPLETED\x1fNone\x1f1795468262\x1f1795468275\x1fn2\x1fwrap", "has finished"),
        ("20\x1fOUT_OF_MEMORY\x1fOutOfMemory\x1f1795468262\x1f1795468275\x1fn2\x1fwrap", "memory"),
        ("20\x1fNODE_FAIL\x1fNodeDown\x1f1795468262\x1f1795468275\x1fn2\x1fwrap", "lost its node"),
    ],
)
def test_parse_job_status_tells_how_a_job_ended(line: str, why: str) -> None:
    status = slurm.parse_job_status("20", CommandResult(0, f"{line}\x1f(null)\n"))
    assert status is not None
    assert status.state is State.ENDED
    assert status.ends_at == (None if why == "is ending" else 1795468275)
    assert why in status.reason


def squeue(
    word: str = "RUNNING", node: str = "n2", end: str = "N/A", command: str = ""
) -> CommandResult:
    """It knows job 20; job 19 is another of the user's."""
    fields = ["20", word, "None", "1795468262", end, node, "wrap", command]
    other = ["19", "RUNNING", *fields[2:]]
    return CommandResult(0, "".join("\x1f".join(each) + "\n" for each in (other, fields)))


@pytest.mark.parametrize(
    ("word", "state", "why"),
    [
        ("BOOT_FAIL", State.ENDED, "could not start its node"),
        ("DEADLINE", State.ENDED, "reached its deadline"),
        ("PREEMPTED", State.ENDED, "was preempted"),
        ("REVOKED", State.ENDED, "was revoked"),
        ("SPECIAL_EXIT", State.QUEUED, ""),
        ("CONFIGURING", State.QUEUED, ""),
        ("REQUEUED", State.QUEUED, ""),
        ("REQUEUE_HOLD", State.QUEUED, ""),
        ("REQUEUE_FED", State.QUEUED, ""),
        ("RESV_DEL_HOLD", State.QUEUED, ""),
        ("OF_THE_FUTURE", State.RUNNING, ""),
    ],
)
def test_parse_job_status_of_rare_states(word: str, state: State, why: str) -> None:
    status = slurm.parse_job_status("20", squeue(word))
    assert status is not None
    assert (status.job_id, status.state, status.reason) == ("20", state, why)


@pytest.mark.parametrize("nothing", ["n/a", "N/A", "(null)", ""])
def test_parse_job_status_with_fields_missing(nothing: str) -> None:
    status = slurm.parse_job_status("20", squeue(node=nothing, command="(null)"))
    assert status is not None
    assert (status.node, status.command, status.ends_at) == ("", "", None)
    queued = CommandResult(0, squeue("PENDING").stdout.replace("None", "(null)"))
    assert [each.reason for each in slurm.parse_job_list(queued) or []] == ["", ""]
    known = slurm.parse_job_status("20", squeue(command="/home/u1/jlab.sh"))
    assert known is not None
    assert known.command == "/home/u1/jlab.sh"


@pytest.mark.parametrize(
    ("printed", "moment"),
    [("1795475462", 1795475462), ("2026-11-24T20:51:02", 1795549862), ("0", None), ("NONE", None)],
)
def test_parse_times_of_old_and_new_versions(printed: str, moment: int | None) -> None:
    """Old ones print local dates, whatever they are asked for."""
    status = slurm.parse_job_status("20", squeue(end=printed))
    assert status is not None
    assert status.ends_at == moment


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("NonZeroExitCode", "failed"),
        ("TimeLimit", "reached its time limit"),
        ("OutOfMemory", "ran out of memory"),
        ("Resources", "is ending"),
    ],
)
def test_parse_job_list_of_a_job_that_is_ending_tells_how(reason: str, why: str) -> None:
    """What it will have ended by is known already."""
    line = f"20\x1fCOMPLETING\x1f{reason}\x1f1795468262\x1f1795468275\x1fn2\x1fwrap\x1f(null)\n"
    found = slurm.parse_job_list(CommandResult(0, line))
    assert found is not None
    assert [(each.state, each.reason) for each in found] == [(State.ENDED, why)]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("RUNNING", ""),
        ("SUSPENDED", "is suspended"),
        ("STOPPED", "is suspended"),
        ("SIGNALING", ""),
    ],
)
def test_parse_job_status_of_a_running_job(word: str, why: str) -> None:
    line = f"20\x1f{word}\x1fNone\x1f1795468262\x1f1795468275\x1fn2\x1fwrap\x1f(null)\n"
    status = slurm.parse_job_status("20", CommandResult(0, line))
    assert status is not None
    assert (status.state, status.reason) == (State.RUNNING, why)


def test_parse_job_status_of_a_forgotten_job_asks_accounting() -> None:
    """What squeue forgets is over; accounts, where there are any, know how."""
    squeue = CommandResult(1, "", "slurm_load_jobs error: Invalid job id specified\n")
    assert slurm.parse_job_status("7", squeue) == Status("7", State.ENDED, reason="has ended")
    assert (
        slurm.parse_job_status("7", CommandResult(1, "", "Slurm accounting storage is disabled\n"))
        is None
    )
    sacct = slurm.parse_job_status("7", CommandResult(0, "7|CANCELLED by 5002|1795468275\n"))
    assert sacct == Status(
        "7", State.ENDED, raw_state="CANCELLED", reason="was cancelled", ends_at=1795468275
    )
    noise = CommandResult(0, "sacct: a note\n8|FAILED|1795468275\n7|RUNNING|Unknown\n")
    assert slurm.parse_job_status("7", noise) == Status("7", State.RUNNING, raw_state="RUNNING")
    assert slurm.parse_job_status("9", noise) is None


@pytest.mark.parametrize(
    "said",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "squeue: error: ClusterName needs to be specified\n"
        "squeue: fatal: Unable to process configuration file\n",
    ],
)
def test_parse_of_a_failure_is_no_answer(said: str) -> None:
    assert slurm.parse_job_list(CommandResult(1, "", said)) is None
    assert slurm.parse_job_status("7", CommandResult(1, "", said)) is None


def test_parse_cluster_of_scontrol() -> None:
    printed = CommandResult(0, "ClusterName             = cal1\nCommunicationParameters = (null)\n")
    assert slurm.parse_cluster(printed) == "cal1"
    assert slurm.parse_cluster(CommandResult(1, "", "connect failure")) == ""


def test_directives_of_much_and_of_little(everything: JobRequest, least: JobRequest) -> None:
    assert slurm.directives(everything) == [
        "#SBATCH --job-name=jlab-gpu",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gpus=1",
        "#SBATCH --mem=16384M",
        "#SBATCH --time=36:00:00",
        "#SBATCH --account=ml",
        "#SBATCH --partition=long",
        "#SBATCH --output=/home/u/jlab-logs/jlab-gpu-%j.log",
    ]
    assert slurm.directives(least) == [
        "#SBATCH --job-name=jlab",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --time=1:30:00",
        "#SBATCH --output=/home/u/jlab-logs/jlab-%j.log",
    ]


def listed(*jobs: tuple[str, ...]) -> CommandResult:
    """What squeue prints of these: id, state, the array's id, the task in it, the job's name."""
    lines = []
    for job_id, word, array, task, name in jobs:
        fields = [job_id, word, "None", "1795468262", "1795468322", "n2", array, task, name, "x"]
        lines.append("\x01" + "\x1f".join(fields) + "\n")
    return CommandResult(0, "".join(lines))


# As squeue 22.05 lists `sbatch --array=1-3`, and one whose last tasks wait.
ARRAY = listed(
    ("31", "RUNNING", "30", "1", "work"),
    ("32", "RUNNING", "30", "2", "work"),
    ("30", "RUNNING", "30", "3", "work"),
    ("33", "PENDING", "33", "4-9%2", "work"),
    ("40", "RUNNING", "40", "N/A", "work"),
)


@pytest.mark.parametrize(
    ("job_id", "scancel"),
    [("31", "30_1"), ("30", "30_3"), ("33", "33_[4-9]"), ("40", "40")],
)
def test_cancel_of_a_task_of_an_array_is_of_that_task_alone(job_id: str, scancel: str) -> None:
    """The last one has the array's own number, which would end all of them."""
    status = slurm.parse_job_status(job_id, ARRAY)
    assert status is not None
    assert slurm.cancel_command(status) == ["scancel", scancel]


def test_cancel_of_a_job_that_may_be_an_arrays_is_refused() -> None:
    """Where squeue does not answer, or an older version's answer was kept."""
    with pytest.raises(JlabError, match="does not say whether job 30 is one of an array"):
        slurm.cancel_command(Status("30", State.RUNNING))
    kept = slurm.parse_job_status("20", squeue())
    assert kept is not None
    assert kept.cancel_id is None


@pytest.mark.parametrize("name", ["jlab\nday 2", "jlab\r\nx", "a\x1fb", "a\n30\x1fRUNNING"])
def test_list_with_an_odd_name_has_all_jobs(name: str) -> None:
    found = slurm.parse_job_list(
        listed(("21", "RUNNING", "21", "N/A", name), ("22", "RUNNING", "22", "N/A", "b"))
    )
    assert found is not None
    assert [job.job_id for job in found] == ["21", "22"]
    assert is_complete(found)


def test_list_with_a_job_that_cannot_be_read_is_not_complete() -> None:
    found = slurm.parse_job_list(
        CommandResult(0, listed(("1", "RUNNING", "1", "N/A", "a")).stdout[:9])
    )
    assert found is not None
    assert not is_complete(found)
