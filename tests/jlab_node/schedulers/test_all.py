"""What holds for every scheduler."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from jlab_node.identifiers import is_id
from jlab_node.schedulers import TABLE
from jlab_node.schedulers.base import CommandResult, Scheduler, State

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import JobRequest, Machine

NOT_RUN = [
    CommandResult(127, "", "it is not on PATH here"),
    CommandResult(126, "", "it: Permission denied"),
    CommandResult(124, "", "no answer within 20 s"),
    CommandResult(1, "", "munge: error: something is down\n"),
]
GARBAGE = [
    *["", "\n", "{", "[]", "{}", '"', "null", "7", "a|b|c", "<html>", "<job_info", "\x00\x1b[31m"],
    *['{"Jobs":[]}', '{"Jobs":{"12":7}}', '{"RECORDS":7}', '{"RECORDS":[7]}', '{"12":7}'],
    *["<job_info><job_list></job_list></job_info>", "\x1f" * 7, "Job Id: \n    = \n", "é" * 5000],
    '{"Jobs":{"12.pbs":{"job_state":[],"estimated":7}}}',
    '{"12":{"state":{},"events":[7],"assigned_network_address":7}}',
    json.dumps({"RECORDS": [{"STAT": ["RUN"], "EXEC_HOST": 7, "FINISH_TIME": "Feb 31 25:61 L"}]}),
]
BATCH = [scheduler for scheduler in TABLE.values() if scheduler.NAME != "local"]
each = pytest.mark.parametrize("scheduler", TABLE.values(), ids=str)
each_batch = pytest.mark.parametrize("scheduler", BATCH, ids=lambda scheduler: scheduler.NAME)


@each_batch
@pytest.mark.parametrize("answer", NOT_RUN, ids=lambda answer: answer.stderr.strip())
def test_no_answer_is_never_an_end(scheduler: Scheduler, answer: CommandResult) -> None:
    assert scheduler.parse_job_list(answer) is None
    assert scheduler.parse_job_status("12", answer) is None
    assert scheduler.parse_cluster(answer) == ""


@each_batch
def test_parse_garbage_ends_no_job(scheduler: Scheduler) -> None:
    for answer in (CommandResult(code, text, text) for text in GARBAGE for code in (0, 1)):
        listed = [job.job_id for job in scheduler.parse_job_list(answer) or []]
        assert "999" not in listed, answer
        status = scheduler.parse_job_status("999", answer)
        assert status is None or status.state is not State.ENDED, answer
        scheduler.parse_cluster(answer)


@each_batch
def test_detect_without_variables_finds_no_job(
    scheduler: Scheduler, machine: Callable[..., Machine]
) -> None:
    assert scheduler.detect({}, machine("n1")) is None
    assert scheduler.detect({scheduler.JOB_ID: ""}, machine("n1")) is None
    assert scheduler.detect({scheduler.JOB_ID: "12"}, machine("n1")) is None


@pytest.mark.parametrize(
    ("name", "printed", "job_id"),
    [
        ("slurm", "Submitted batch job 12\n", "12"),
        ("oar", "[ADMISSION RULE] ok\nOAR_JOB_ID=12\n", "12"),
        ("pbs", "12.pbs-1.example.org\n", "12"),
        ("pbs", "welcome 7.5\n12[].pbs-1\n", "12[]"),
        ("sge", 'Your job 12 ("jlab") has been submitted\n', "12"),
        ("sge", 'Your job-array 12.1-10:1 ("jlab") has been submitted\n', "12"),
        ("lsf", "Job <12> is submitted to default queue <normal>.\n", "12"),
    ],
)
def test_submit_output_has_the_job_id(name: str, printed: str, job_id: str) -> None:
    found = re.search(TABLE[name].SUBMIT_OUTPUT_RE, printed)
    assert found is not None
    assert found[1] == job_id


@each_batch
def test_names_can_stand_in_session_ids(scheduler: Scheduler) -> None:
    assert is_id(f"{scheduler.NAME}-12-lab")


def test_probe_programs_are_distinct() -> None:
    """Otherwise the first in the table would take the other's clusters."""
    assert len({scheduler.PROBE_PROGRAM for scheduler in TABLE.values()}) == len(TABLE)
    assert list(TABLE)[-1] == "local"


@each
def test_directives_are_comments(scheduler: Scheduler, least: JobRequest) -> None:
    lines = scheduler.directives(least)
    assert all("\n" not in line and line.startswith("#") for line in lines)
    assert bool(lines) is (scheduler.NAME != "local")
