"""LSF: bjobs -json as the tests of BatchEuphoria and of beagle quote it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers import lsf
from jlab_node.schedulers.job import Answer, Job, Request, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.job import Machine

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


def record(**fields: str) -> Answer:
    return Answer(0, json.dumps({"COMMAND": "bjobs", "JOBS": 1, "RECORDS": [fields]}))


@pytest.mark.parametrize(
    ("env", "host", "expected"),
    [
        (ENV, "n1", Job("lsf", "12", "prod", "n1")),
        (ENV, "n2", Job("lsf", "12", "prod", "n2")),
        ({**ENV, "LSB_HOSTS": ""}, "n2", Job("lsf", "12", "prod", "n2")),
        ({**ENV, "LSB_JOBINDEX": "4"}, "n1", Job("lsf", "12[4]", "prod", "n1")),
        (ENV, "login", None),
        ({}, "n1", None),
        ({"LSB_HOSTS": "n1"}, "n1", None),
        ({"LSB_JOBID": "12"}, "n1", None),
    ],
)
def test_detect(
    machine: Callable[..., Machine], env: dict[str, str], host: str, expected: Job | None
) -> None:
    assert lsf.detect(env, machine(host)) == expected


def test_done() -> None:
    status = lsf.parse_one("22005", Answer(0, DONE))
    assert status is not None
    assert (status.state, status.why, status.node) == (State.ENDED, "has finished", "tbi-cn019")
    assert (status.name, status.command) == ("ls -l", "ls -l")
    assert time.strftime("%m-%d %H:%M", time.localtime(status.ends_at)) == "12-28 19:56"
    assert abs(time.time() - (status.ends_at or 0)) < 190 * 86400


def test_cancelled_and_a_slow_daemon() -> None:
    expected = Status("12", State.ENDED, word="EXIT", why="was cancelled")
    assert lsf.parse_one("12", Answer(0, EXIT)) == expected
    assert lsf.parse_one("12", Answer(0, WAIT + EXIT)) == expected


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
        ("TERM_SOMETHING: new", "failed"),
        ("", "failed"),
    ],
)
def test_ended(reason: str, why: str) -> None:
    status = lsf.parse_one("12", record(JOBID="12", STAT="EXIT", EXIT_REASON=reason))
    assert status == Status("12", State.ENDED, word="EXIT", why=why)


def test_queued() -> None:
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
    assert lsf.parse_mine(answer) == [
        Status(
            "12[3]",
            State.QUEUED,
            word="PEND",
            why="New job is waiting for scheduling",
            name="jlab",
            starts_at=now + 3600,
        )
    ]


@pytest.mark.parametrize("word", ["RUN", "USUSP", "SSUSP", "UNKWN"])
def test_running(word: str) -> None:
    status = lsf.parse_one(
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
        word=word,
        why="is suspended" if "SUSP" in word else "",
        node="n1",
        starts_at=1790793135,
        ends_at=1791993120,
    )


def test_unknown() -> None:
    expected = Status("12", State.ENDED, why="has ended")
    assert lsf.parse_one("12", Answer(0, UNKNOWN)) == expected
    assert lsf.parse_one("12", Answer(255, "", "Job <12> is not found\n")) == expected
    assert lsf.parse_one("1", Answer(255, "", "Job <12> is not found\n")) is None


def test_none() -> None:
    assert lsf.parse_mine(Answer(255, "", "No unfinished job found\n")) == []
    assert lsf.parse_mine(Answer(0, '{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}')) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(255, "", "LSF is down. Please wait ...\n"),
        Answer(255, WAIT),
        Answer(255, "", "batch system daemon not responding ... still trying\n"),
    ],
)
def test_no_answer(answer: Answer) -> None:
    assert lsf.parse_mine(answer) is None
    assert lsf.parse_one("12", answer) is None


def test_cluster() -> None:
    printed = "IBM Spectrum LSF 10.1.0.0\n\nMy cluster name is prod\nMy master name is m1\n"
    assert lsf.parse_cluster(Answer(0, printed)) == "prod"
    assert lsf.parse_cluster(Answer(255, "", "lsid: ls_getentitlementinfo() failed")) == ""


def test_directives(everything: Request, least: Request) -> None:
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
    assert "#BSUB -W 1:30" in lsf.directives(least)
