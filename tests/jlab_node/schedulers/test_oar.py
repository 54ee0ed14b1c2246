"""OAR: what 2.5 of the test cluster printed, without the keys that nobody reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jlab_node.errors import JlabError
from jlab_node.schedulers import oar
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import Machine

WAITING = r"""
{
  "10": {
    "Job_Id": 10,
    "walltime": 60,
    "command": "sleep 1000",
    "state": "Waiting",
    "stdout_file": "OAR.10.stdout",
    "exit_code": null,
    "launchingDirectory": "/home/u2",
    "submissionTime": 1795468077,
    "scheduledStart": 1795468972,
    "stopTime": 0,
    "message": "R=64,W=0:1:0,J=B (Karma=0.000,quota_ok)",
    "name": null,
    "startTime": 0,
    "job_user": "u2",
    "assigned_network_address": [],
    "events": []
  }
}
"""
RUNNING = r"""
{
  "8": {
    "name": "lab",
    "state": "Running",
    "stdout_file": "OAR.lab.8.stdout",
    "Job_Id": 8,
    "launchingDirectory": "/home/u2",
    "job_user": "u2",
    "command": "./job.sh",
    "events": [],
    "exit_code": null,
    "message": "R=2,W=0:10:0,J=B,N=lab (Karma=0.000,quota_ok)",
    "submissionTime": 1795468064,
    "walltime": 600,
    "startTime": 1795468066,
    "scheduledStart": 1795468066,
    "assigned_network_address": [
      "d1"
    ],
    "stopTime": 0
  }
}
"""
TERMINATED = r"""
{
  "5": {
    "name": "short",
    "Job_Id": 5,
    "job_user": "u2",
    "startTime": 1795468064,
    "state": "Terminated",
    "walltime": 300,
    "message": "R=1,W=0:5:0,J=B,N=short (Karma=0.000,quota_ok)",
    "stdout_file": "OAR.short.5.stdout",
    "command": "./short.sh",
    "submissionTime": 1795468062,
    "events": [
      {
        "date": 1795468066,
        "description": "[bipbip 5] Ask to change the job state",
        "job_id": 5,
        "type": "SWITCH_INTO_TERMINATE_STATE",
        "event_id": 31,
        "to_check": "NO"
      }
    ],
    "launchingDirectory": "/home/u2",
    "assigned_network_address": [
      "d1"
    ],
    "scheduledStart": null,
    "exit_code": 0,
    "stopTime": 1795468066
  }
}
"""
TERMINATED_EXIT3 = r"""
{
  "6": {
    "command": "./short.sh 3",
    "state": "Terminated",
    "exit_code": 768,
    "startTime": 1795468064,
    "assigned_network_address": [
      "d1"
    ],
    "message": "R=1,W=0:5:0,J=B,N=short (Karma=0.000,quota_ok)",
    "job_user": "u2",
    "stopTime": 1795468065,
    "submissionTime": 1795468063,
    "events": [
      {
        "event_id": 30,
        "description": "[bipbip 6] Ask to change the job state",
        "date": 1795468066,
        "type": "SWITCH_INTO_TERMINATE_STATE",
        "to_check": "NO",
        "job_id": 6
      }
    ],
    "stdout_file": "OAR.short.6.stdout",
    "walltime": 300,
    "scheduledStart": null,
    "name": "short",
    "launchingDirectory": "/home/u2",
    "Job_Id": 6
  }
}
"""
WALLTIME = r"""
{
  "7": {
    "name": null,
    "Job_Id": 7,
    "walltime": 20,
    "events": [
      {
        "description": "User root requested to frag the job 7",
        "event_id": 40,
        "job_id": 7,
        "date": 1795468095,
        "to_check": "NO",
        "type": "FRAG_JOB_REQUEST"
      },
      {
        "description": "[sarko] Job [7] from 1795468065 with 20; current time=1795468095 (Elapsed)",
        "event_id": 41,
        "job_id": 7,
        "date": 1795468095,
        "to_check": "NO",
        "type": "WALLTIME"
      },
      {
        "job_id": 7,
        "description": "[Leon] Send the kill signal to oarexec on d1 for job 7",
        "event_id": 42,
        "type": "SEND_KILL_JOB",
        "to_check": "NO",
        "date": 1795468095
      },
      {
        "job_id": 7,
        "event_id": 43,
        "description": "[bipbip 7] Ask to change the job state",
        "type": "SWITCH_INTO_ERROR_STATE",
        "to_check": "NO",
        "date": 1795468097
      }
    ],
    "launchingDirectory": "/home/u2",
    "state": "Error",
    "assigned_network_address": [
      "d1"
    ],
    "stdout_file": "OAR.7.stdout",
    "job_user": "u2",
    "stopTime": 1795468096,
    "startTime": 1795468065,
    "scheduledStart": null,
    "message": "R=1,W=0:0:20,J=B (Karma=0.000,quota_ok)",
    "submissionTime": 1795468063,
    "command": "./wall.sh",
    "exit_code": null
  }
}
"""
OARDEL = r"""
{
  "8": {
    "scheduledStart": null,
    "exit_code": null,
    "assigned_network_address": [
      "d1"
    ],
    "name": "lab",
    "events": [
      {
        "job_id": 8,
        "event_id": 32,
        "type": "WALLTIME",
        "description": " walltime changed: 0:15:0 (granted: +0:5:0/pending: 0:0:0)",
        "to_check": "NO",
        "date": 1795468072
      },
      {
        "date": 1795468083,
        "to_check": "NO",
        "description": "User u2 requested to frag the job 8",
        "type": "FRAG_JOB_REQUEST",
        "event_id": 34,
        "job_id": 8
      },
      {
        "type": "SEND_KILL_JOB",
        "description": "[Leon] Send the kill signal to oarexec on d1 for job 8",
        "job_id": 8,
        "event_id": 37,
        "to_check": "NO",
        "date": 1795468083
      },
      {
        "to_check": "NO",
        "date": 1795468085,
        "job_id": 8,
        "event_id": 38,
        "type": "SWITCH_INTO_ERROR_STATE",
        "description": "[bipbip 8] Ask to change the job state"
      }
    ],
    "startTime": 1795468066,
    "Job_Id": 8,
    "command": "./job.sh",
    "stdout_file": "OAR.lab.8.stdout",
    "stopTime": 1795468084,
    "submissionTime": 1795468064,
    "launchingDirectory": "/home/u2",
    "job_user": "u2",
    "state": "Error",
    "message": "R=2,W=0:10:0,J=B,N=lab (Karma=0.000,quota_ok)",
    "walltime": 900
  }
}
"""
JUST_AFTER_OARDEL = r"""
{
  "8": {
    "events": [
      {
        "date": 1795468072,
        "description": " walltime changed: 0:15:0 (granted: +0:5:0/pending: 0:0:0)",
        "job_id": 8,
        "event_id": 32,
        "type": "WALLTIME",
        "to_check": "NO"
      },
      {
        "type": "FRAG_JOB_REQUEST",
        "to_check": "NO",
        "event_id": 34,
        "job_id": 8,
        "description": "User u2 requested to frag the job 8",
        "date": 1795468083
      },
      {
        "date": 1795468083,
        "description": "[Leon] Send the kill signal to oarexec on d1 for job 8",
        "job_id": 8,
        "event_id": 37,
        "type": "SEND_KILL_JOB",
        "to_check": "YES"
      }
    ],
    "launchingDirectory": "/home/u2",
    "walltime": 900,
    "Job_Id": 8,
    "assigned_network_address": [
      "d1"
    ],
    "message": "R=2,W=0:10:0,J=B,N=lab (Karma=0.000,quota_ok)",
    "scheduledStart": 1795468066,
    "submissionTime": 1795468064,
    "job_user": "u2",
    "name": "lab",
    "exit_code": null,
    "stdout_file": "OAR.lab.8.stdout",
    "command": "./job.sh",
    "stopTime": 0,
    "state": "Running",
    "startTime": 1795468066
  }
}
"""
HOLD = r"""
{
  "12": {
    "scheduledStart": null,
    "state": "Hold",
    "command": "sleep 10",
    "assigned_network_address": [],
    "startTime": 0,
    "name": null,
    "exit_code": null,
    "Job_Id": 12,
    "stopTime": 0,
    "launchingDirectory": "/home/u2",
    "submissionTime": 1795468208,
    "message": "R=1,W=2:0:0,J=B",
    "events": [],
    "walltime": null,
    "stdout_file": "OAR.12.stdout",
    "job_user": "u2"
  }
}
"""

FILES = {"/var/lib/oar/5": "d1\nd1\nd2\n"}
ENV = {"OAR_JOB_ID": "5", "OAR_NODEFILE": "/var/lib/oar/5", "OAR_ARRAY_INDEX": "1"}


@pytest.mark.parametrize(
    ("env", "host", "files", "expected"),
    [
        (ENV, "d1", FILES, Job("oar", "5", "", "d1", nodes=("d1", "d2"))),
        (ENV, "d2", FILES, Job("oar", "5", "", "d2", nodes=("d1", "d2"))),
        (
            {**ENV, "OAR_ARRAY_ID": "4", "OAR_ARRAY_INDEX": "2"},
            "d1",
            FILES,
            Job("oar", "5", "", "d1", nodes=("d1", "d2")),
        ),
        (ENV, "gricad", FILES, None),  # the frontend, in a cosystem job or with inherited variables
        (ENV, "d1", {}, None),
        ({}, "d1", FILES, None),
        ({"OAR_JOB_ID": "5"}, "d1", FILES, None),
        ({**ENV, "OAR_JOB_ID": ""}, "d1", FILES, None),
    ],
)
def test_detect_by_the_list_of_nodes(
    machine: Callable[..., Machine],
    env: dict[str, str],
    host: str,
    files: dict[str, str],
    expected: Job | None,
) -> None:
    assert oar.detect(env, machine(host, files)) == expected


@pytest.mark.parametrize(
    ("printed", "job_id", "word", "state"),
    [
        (WAITING, "10", "Waiting", State.QUEUED),
        (HOLD, "12", "Hold", State.QUEUED),
        (RUNNING, "8", "Running", State.RUNNING),
        (JUST_AFTER_OARDEL, "8", "Running", State.ENDED),
        (TERMINATED, "5", "Terminated", State.ENDED),
        (TERMINATED_EXIT3, "6", "Terminated", State.ENDED),
        (WALLTIME, "7", "Error", State.ENDED),
        (OARDEL, "8", "Error", State.ENDED),
    ],
)
def test_parse_job_status_of_each_state(printed: str, job_id: str, word: str, state: State) -> None:
    status = oar.parse_job_status(job_id, CommandResult(0, printed))
    assert status is not None
    assert (status.job_id, status.raw_state, status.state) == (job_id, word, state)
    assert oar.parse_job_list(CommandResult(0, printed)) == [status]
    assert oar.parse_job_status("99999", CommandResult(0, printed)) is None


def test_parse_job_status_has_times_and_nodes() -> None:
    waiting = oar.parse_job_status("10", CommandResult(0, WAITING))
    assert waiting is not None
    assert (waiting.starts_at, waiting.node, waiting.command) == (1795468972, "", "sleep 1000")
    held = oar.parse_job_status("12", CommandResult(0, HOLD))
    assert held is not None
    assert (held.starts_at, held.name) == (None, "")
    running = oar.parse_job_status("8", CommandResult(0, RUNNING))
    assert running is not None
    assert (running.starts_at, running.ends_at) == (1795468066, 1795468666)
    assert (running.name, running.command) == ("lab", "/home/u2/job.sh")
    assert (running.node, running.nodes) == ("d1", ("d1",))


def test_parse_job_status_tells_how_a_job_ended() -> None:
    walltime = oar.parse_job_status("7", CommandResult(0, WALLTIME))
    assert walltime is not None
    assert (walltime.reason, walltime.ends_at) == ("reached its walltime", 1795468096)
    failed = oar.parse_job_status("6", CommandResult(0, TERMINATED_EXIT3))
    assert failed is not None
    assert failed.reason == "failed with exit code 3"
    short = oar.parse_job_status("5", CommandResult(0, TERMINATED))
    assert short is not None
    assert short.ends_at == 1795468066


def changed(**values: object) -> Status:
    """What is read of the running job if oarstat said these values."""
    jobs = json.loads(RUNNING)
    jobs["8"].update(values)
    status = oar.parse_job_status("8", CommandResult(0, json.dumps(jobs)))
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("word", "state", "why"),
    [
        ("toLaunch", State.QUEUED, "R=1"),
        ("Launching", State.QUEUED, "R=1"),
        ("toAckReservation", State.QUEUED, "R=1"),
        ("Suspended", State.RUNNING, "is suspended"),
        ("Resuming", State.RUNNING, "is suspended"),
        ("Finishing", State.ENDED, "has finished"),
        ("toError", State.ENDED, "failed"),
        ("OfTheFuture", State.RUNNING, ""),
    ],
)
def test_parse_job_status_of_rare_states(word: str, state: State, why: str) -> None:
    status = changed(state=word, message="R=1", exit_code=None)
    assert (status.raw_state, status.state, status.reason) == (word, state, why)


@pytest.mark.parametrize(
    ("word", "code", "why"),
    [
        ("Terminated", 0, "has finished"),
        ("Terminated", 3 * 256, "failed with exit code 3"),
        ("Terminated", 255 * 256, "failed with exit code 255"),
        ("Terminated", 9, "failed"),
        ("Error", None, "failed"),
        ("Error", 256, "failed with exit code 1"),
    ],
)
def test_parse_job_status_by_the_exit_code(word: str, code: int | None, why: str) -> None:
    assert changed(state=word, exit_code=code).reason == why


@pytest.mark.parametrize("word", ["Running", "Terminated", "Waiting"])
def test_parse_job_status_with_fields_missing(word: str) -> None:
    absent = ("message", "events", "exit_code", "stopTime", "scheduledStart", "walltime", "owner")
    others = ("name", "command", "launchingDirectory", "assigned_network_address", "startTime")
    status = changed(state=word, **dict.fromkeys((*absent, *others)))
    ended = word == "Terminated"
    expected = Status("8", status.state, raw_state=word, reason="has finished" if ended else "")
    assert status == expected
    assert changed(state=None).raw_state == ""


def test_parse_job_status_has_owner_and_nodes() -> None:
    status = changed(assigned_network_address=["d2", "d1"], owner="u2", events=[7, None])
    assert (status.owner, status.node, status.nodes) == ("u2", "d2", ("d2", "d1"))
    assert changed(walltime=0).ends_at is None
    assert changed(startTime=0).ends_at is None


def test_parse_job_status_of_a_deleted_job_that_was_extended() -> None:
    """Which leaves an event WALLTIME as well."""
    deleted = oar.parse_job_status("8", CommandResult(0, OARDEL))
    assert deleted is not None
    assert (deleted.reason, deleted.ends_at) == ("was deleted", 1795468084)


def test_parse_job_status_of_an_unknown_job_is_no_answer() -> None:
    """oarstat prints nothing, and its exit code is 0."""
    assert oar.parse_job_list(CommandResult(0, "")) == []
    assert oar.parse_job_status("99999", CommandResult(0, "")) is None


def test_parse_job_list_with_a_hostile_name() -> None:
    name = '"name": "a|b \\u001b[31m \\n\\" } , {"'
    status = oar.parse_job_status("8", CommandResult(0, RUNNING.replace('"name": "lab"', name)))
    assert status is not None
    assert (status.state, status.node) == (State.RUNNING, "d1")
    assert status.name == 'a|b \x1b[31m \n" } , {'


def test_directives_of_much_and_of_little(everything: JobRequest, least: JobRequest) -> None:
    assert oar.directives(replace(everything, memory=None)) == [
        "#OAR -n jlab-gpu",
        "#OAR -l /nodes=1/gpu=1,walltime=36:00:00",
        "#OAR --project ml",
        "#OAR -q long",
        "#OAR -O /home/u/jlab-logs/jlab-gpu-%jobid%.log",
        "#OAR -E /home/u/jlab-logs/jlab-gpu-%jobid%.log",
    ]
    assert oar.directives(least) == [
        "#OAR -n jlab",
        "#OAR -l /nodes=1/core=1,walltime=1:30:00",
        "#OAR -O /home/u/jlab-logs/jlab-%jobid%.log",
        "#OAR -E /home/u/jlab-logs/jlab-%jobid%.log",
    ]
    with pytest.raises(JlabError, match="leave out --mem"):
        oar.directives(everything)


def test_besteffort_job_that_made_room_was_preempted() -> None:
    """OAR deletes it as well."""
    events = [{"type": "BESTEFFORT_KILL", "description": "k"}]
    events += [{"type": "FRAG_JOB_REQUEST", "description": "f"}]
    answer = CommandResult(0, json.dumps({"12": {"state": "Error", "events": events}}))
    status = oar.parse_job_status("12", answer)
    assert status is not None
    assert (status.state, status.reason) == (State.ENDED, "was preempted")
