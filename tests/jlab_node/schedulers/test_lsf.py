"""LSF: bjobs -json as the tests of BatchEuphoria and of beagle quote it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers import lsf
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import Machine

# BatchEuphoria
DONE = r"""
{
  "COMMAND":"bjobs",
  "JOBS":1,
  "RECORDS":[
    {
      "JOBID":"22005",
      "JOB_NAME":"ls -l",
      "STAT":"DONE",
      "USER":"otptest",
      "EXIT_CODE":"",
      "EXEC_HOST":"tbi-cn019:tbi-cn019",
      "SUBMIT_TIME":"Dec 28 19:56",
      "START_TIME":"Dec 28 19:56",
      "FINISH_TIME":"Dec 28 19:56 L",
      "PEND_REASON":"",
      "EXEC_CWD":"\/home\/otptest",
      "COMMAND":"ls -l"
    }
  ]
}
"""
# beagle; the first lines are what bjobs prints while it waits for mbatchd
WAIT = "Cannot connect to LSF. Please wait ...\nCannot connect to LSF. Please wait ...\n"
EXIT = """
        {
          "COMMAND":"bjobs",
          "JOBS":1,
          "RECORDS":[
            {
              "JOBID":"12",
              "EXIT_CODE":"",
              "STAT":"EXIT",
              "EXIT_REASON":"TERM_OWNER: job killed by owner",
              "PEND_REASON":""
            }
          ]
        }
"""
# In the form that PSI/J expects.
UNKNOWN = """{
  "COMMAND":"bjobs",
  "JOBS":1,
  "RECORDS":[
    {
      "JOBID":"12",
      "ERROR":"Job <12> is not found"
    }
  ]
}
"""
ENV = {
    "LSB_JOBID": "12",
    "LSB_JOBINDEX": "0",
    "LSB_HOSTS": "n1 n1 n2",
    "LSB_MCPU_HOSTS": "n1 2 n2 1",
    "LSB_EXEC_CLUSTER": "prod",
}


def record(**fields: str) -> CommandResult:
    return CommandResult(0, json.dumps({"COMMAND": "bjobs", "JOBS": 1, "RECORDS": [fields]}))


@pytest.mark.parametrize(
    ("env", "host", "expected"),
    [
        (ENV, "n1", Job("lsf", "12", "prod", "n1")),
        (ENV, "n2", Job("lsf", "12", "prod", "n2")),
        ({**ENV, "LSB_HOSTS": ""}, "n2", Job("lsf", "12", "prod", "n2")),
        ({**ENV, "LSB_JOBINDEX": "4"}, "n1", Job("lsf", "12[4]", "prod", "n1")),
        (
            {**ENV, "LSB_JOBID": "12[4]", "LSB_JOBINDEX": "4"},
            "n1",
            Job("lsf", "12[4]", "prod", "n1"),
        ),
        ({**ENV, "LSB_JOBINDEX": "four"}, "n1", Job("lsf", "12", "prod", "n1")),
        ({"LSB_JOBID": "12", "LSB_HOSTS": "n1"}, "n1", Job("lsf", "12", "", "n1")),
        ({"LSB_JOBID": "12", "LSB_MCPU_HOSTS": "n1 2"}, "2", None),  # that is no host
        (ENV, "login", None),
        ({}, "n1", None),
        ({"LSB_HOSTS": "n1"}, "n1", None),
        ({"LSB_JOBID": "12"}, "n1", None),
    ],
)
def test_detect_by_variables_and_hosts(
    machine: Callable[..., Machine], env: dict[str, str], host: str, expected: Job | None
) -> None:
    assert lsf.detect(env, machine(host)) == expected


def test_parse_job_status_of_a_job_that_finished() -> None:
    status = lsf.parse_job_status("22005", CommandResult(0, DONE))
    assert status is not None
    assert (status.state, status.reason, status.node) == (State.ENDED, "has finished", "tbi-cn019")
    assert (status.name, status.command) == ("ls -l", "ls -l")
    assert time.strftime("%m-%d %H:%M", time.localtime(status.ends_at)) == "12-28 19:56"
    assert abs(time.time() - (status.ends_at or 0)) < 190 * 86400


def test_parse_job_status_after_a_note_of_a_slow_daemon() -> None:
    expected = Status("12", State.ENDED, raw_state="EXIT", reason="was cancelled")
    assert lsf.parse_job_status("12", CommandResult(0, EXIT)) == expected
    assert lsf.parse_job_status("12", CommandResult(0, WAIT + EXIT)) == expected


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (
            "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
            "reached its time limit",
        ),
        ("TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "ran out of memory"),
        (
            "TERM_ADMIN: job killed by root or LSF administrator",
            "was cancelled by an administrator",
        ),
        ("TERM_DEADLINE: job killed after deadline expires", "reached its deadline"),
        ("TERM_SWAP: job killed after reaching LSF swap usage limit", "ran out of memory"),
        ("TERM_PREEMPT: job killed after preemption", "was preempted"),
        ("TERM_FORCE_OWNER: job killed by owner without time for cleanup", "was cancelled"),
        ("TERM_FORCE_ADMIN: job killed by root", "was cancelled by an administrator"),
        (" TERM_OWNER ", "was cancelled"),
        ("TERM_SOMETHING: new", "failed"),
        ("", "failed"),
    ],
)
def test_parse_job_status_tells_how_a_job_ended(reason: str, why: str) -> None:
    status = lsf.parse_job_status("12", record(JOBID="12", STAT="EXIT", EXIT_REASON=reason))
    assert status == Status("12", State.ENDED, raw_state="EXIT", reason=why)


def test_parse_job_status_of_a_queued_job() -> None:
    now = int(time.time()) // 60 * 60
    start = time.strftime("%b %d %H:%M", time.localtime(now + 3600))
    answer = record(
        JOBID="12",
        JOBINDEX="3",
        STAT="PEND",
        JOB_NAME="jlab",
        PEND_REASON="New job is waiting for scheduling;",
        ESTIMATED_START_TIME=start,
        EXEC_HOST="",
        FINISH_TIME="",
    )
    assert lsf.parse_job_list(answer) == [
        Status(
            "12[3]",
            State.QUEUED,
            raw_state="PEND",
            reason="New job is waiting for scheduling",
            name="jlab",
            starts_at=now + 3600,
        )
    ]


@pytest.mark.parametrize(
    ("word", "state", "why"),
    [
        ("PSUSP", State.QUEUED, ""),
        ("PROV", State.QUEUED, ""),
        ("WAIT", State.QUEUED, ""),
        ("RUN", State.RUNNING, ""),
        ("DONE", State.ENDED, "has finished"),
        ("ZOMBI", State.ENDED, "failed"),
    ],
)
def test_parse_job_status_with_fields_missing(word: str, state: State, why: str) -> None:
    expected = Status("12", state, raw_state=word, reason=why)
    assert lsf.parse_job_status("12", record(JOBID="12", STAT=word)) == expected
    assert lsf.parse_job_status("12", record(JOBID="12", STAT=word, EXEC_HOST="")) == expected
    assert lsf.parse_job_status("13", record(JOBID="12", STAT=word)) is None


def test_parse_with_control_characters() -> None:
    """bjobs writes them as they are, which JSON forbids."""
    printed = record(JOBID="12", STAT="RUN", JOB_NAME="a|b").stdout.replace("|", "\t")
    status = lsf.parse_job_status("12", CommandResult(0, printed))
    assert status is not None
    assert status.name == "a\tb"


@pytest.mark.parametrize(
    ("printed", "moment"),
    [
        ("Sep 30 20:32:15 2026", 1790793135),
        ("Oct  4 17:52 2026 E", 1791129120),
        ("Oct 14 17:52 2026 X", 1791993120),
        (" Oct 14 17:52 2026 L ", 1791993120),
        ("Oct 14 17:52 2026 Q", None),
        ("Oct 14 17:52 2026 L, or so", None),
        ("Feb 30 17:52 2026", None),
        ("Foo 14 17:52", None),
        ("-", None),
    ],
)
def test_parse_times_with_a_year(printed: str, moment: int | None) -> None:
    status = lsf.parse_job_status("12", record(JOBID="12", STAT="RUN", FINISH_TIME=printed))
    assert status is not None
    assert status.ends_at == moment


@pytest.mark.parametrize("days", [-150, -1, 0, 1, 150])
def test_parse_times_without_a_year_takes_the_nearest(days: int) -> None:
    """The nearest: at the turn of the year that is another."""
    then = (int(time.time()) // 86400 + days) * 86400 + 43200  # no clock is set back at noon
    printed = time.strftime("%b %d %H:%M L", time.localtime(then))
    status = lsf.parse_job_status("12", record(JOBID="12", STAT="RUN", FINISH_TIME=printed))
    assert status is not None
    assert status.ends_at == then


@pytest.mark.parametrize("word", ["RUN", "USUSP", "SSUSP", "UNKWN"])
def test_parse_job_status_of_a_running_job(word: str) -> None:
    status = lsf.parse_job_status(
        "12",
        record(
            JOBID="12",
            JOBINDEX="0",
            STAT=word,
            EXEC_HOST="4*n1:2*n2",
            START_TIME="Sep 30 20:32:15 2026",
            FINISH_TIME="Oct 14 17:52 2026 L",
        ),
    )
    assert status == Status(
        "12",
        State.RUNNING,
        raw_state=word,
        reason="is suspended" if "SUSP" in word else "",
        node="n1",
        starts_at=1790793135,
        ends_at=1791993120,
    )


def test_parse_job_status_of_an_unknown_job_has_ended() -> None:
    expected = Status("12", State.ENDED, reason="has ended")
    assert lsf.parse_job_status("12", CommandResult(0, UNKNOWN)) == expected
    assert lsf.parse_job_list(CommandResult(0, UNKNOWN)) == []
    assert lsf.parse_job_status("12", CommandResult(255, "Job <12> is not found\n")) == expected
    assert lsf.parse_job_status("12", CommandResult(255, "", "Job <12> is not found\n")) == expected
    assert lsf.parse_job_status("1", CommandResult(255, "", "Job <12> is not found\n")) is None


def test_parse_job_list_without_jobs_is_empty() -> None:
    assert lsf.parse_job_list(CommandResult(255, "", "No unfinished job found\n")) == []
    assert lsf.parse_job_list(CommandResult(255, "No job found\n", "")) == []
    assert lsf.parse_job_list(CommandResult(0, '{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}')) == []


@pytest.mark.parametrize(
    "answer",
    [
        CommandResult(255, "", "LSF is down. Please wait ...\n"),
        CommandResult(255, WAIT),
        CommandResult(255, "", "batch system daemon not responding ... still trying\n"),
    ],
)
def test_parse_of_a_failure_is_no_answer(answer: CommandResult) -> None:
    assert lsf.parse_job_list(answer) is None
    assert lsf.parse_job_status("12", answer) is None


def test_parse_cluster_of_lsid() -> None:
    printed = "IBM Spectrum LSF 10.1.0.0\n\nMy cluster name is prod\nMy master name is m1\n"
    assert lsf.parse_cluster(CommandResult(0, printed)) == "prod"
    assert lsf.parse_cluster(CommandResult(255, "", "lsid: ls_getentitlementinfo() failed")) == ""


def test_directives_of_much_and_of_little(everything: JobRequest, least: JobRequest) -> None:
    assert lsf.directives(everything) == [
        "#BSUB -J jlab-gpu",
        "#BSUB -n 4",
        '#BSUB -R "span[hosts=1]"',
        "#BSUB -gpu num=1",
        '#BSUB -R "rusage[mem=16384MB]"',
        "#BSUB -W 36:00",
        "#BSUB -P ml",
        "#BSUB -q long",
        "#BSUB -o /home/u/jlab-logs/jlab-gpu-%J.log",
    ]
    assert lsf.directives(least) == [
        "#BSUB -J jlab",
        "#BSUB -n 1",
        '#BSUB -R "span[hosts=1]"',
        "#BSUB -W 1:30",
        "#BSUB -o /home/u/jlab-logs/jlab-%J.log",
    ]
    assert "#BSUB -W 1:31" in lsf.directives(replace(least, walltime=5401))
