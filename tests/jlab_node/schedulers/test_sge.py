"""Grid Engine: qstat -xml as the tests of VM-MAD and of grid-control quote it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers import sge
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import Machine

# VM-MAD, 2011; and another site's, with the elements that -r adds
MINE = """<?xml version='1.0'?>
  <job_info  xmlns:xsd="http://www.w3.org/2001/XMLSchema">
    <queue_info>
      <job_list state="running">
        <JB_job_number>389524</JB_job_number>
        <JAT_prio>0.50500</JAT_prio>
        <JB_name>QRLOGIN</JB_name>
        <JB_owner>cpanse</JB_owner>
        <state>r</state>
        <JAT_start_time>2011-11-23T17:20:34</JAT_start_time>
        <queue_name>cloud@fgcz-cloud-002</queue_name>
        <slots>1</slots>
      </job_list>
      <job_list state="running">
        <JB_job_number>610584</JB_job_number>
        <JAT_prio>0.60500</JAT_prio>
        <JB_name>Test</JB_name>
        <JB_owner>jreilly</JB_owner>
        <state>r</state>
        <JAT_start_time>2012-07-06T14:48:01.123</JAT_start_time>
        <queue_name>all.q@compute-0-6.local</queue_name>
        <slots>8</slots>
        <tasks>4</tasks>
        <full_job_name>Test with a long name</full_job_name>
        <requested_pe name="pthreads">8</requested_pe>
        <granted_pe name="pthreads">8</granted_pe>
        <hard_request name="mem_free" resource_contribution="0.000000">4G</hard_request>
        <hard_request name="h_rt" resource_contribution="0.000000">14400</hard_request>
        <hard_req_queue>all.q</hard_req_queue>
      </job_list>
    </queue_info>
    <job_info>
      <job_list state="pending">
        <JB_job_number>1337</JB_job_number>
        <JAT_prio>0.00000</JAT_prio>
        <JB_name>q2019-06-23T13:24:83#00001</JB_name>
        <JB_owner>corona</JB_owner>
        <state>qw</state>
        <JB_submission_time>2019-06-23T13:28:09</JB_submission_time>
        <queue_name></queue_name>
        <slots>1</slots>
        <tasks>1-10:1</tasks>
      </job_list>
    </job_info>
  </job_info>
"""
NONE = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://www.w3.org/2001/XMLSchema">
  <queue_info>
  </queue_info>
  <job_info>
  </job_info>
</job_info>
"""
ENV = {
    "SGE_ROOT": "/opt/sge",
    "SGE_CELL": "prod",
    "JOB_ID": "12",
    "SGE_TASK_ID": "undefined",
    "HOSTNAME": "n1.local",
}
NAME = {"/opt/sge/prod/common/cluster_name": "p6444\n"}
HOSTS = {
    **NAME,
    "/opt/sge/default/common/cluster_name": "p6444d\n",
    "/spool/12.1/pe_hostfile": "n2.local 4 all.q@n2.local <NULL>\nn3 4 a UNDEFINED\n",
    "/spool/blank": "\n \nn3 4 a UNDEFINED\n",
}
PARALLEL = {**ENV, "PE_HOSTFILE": "/spool/12.1/pe_hostfile"}


def job(state: str, name: str = "lab") -> CommandResult:
    return CommandResult(
        0,
        "<job_info><job_info><job_list><JB_job_number>12</JB_job_number>"
        f"<JB_name>{name}</JB_name><state>{state}</state></job_list></job_info></job_info>",
    )


@pytest.mark.parametrize(
    ("env", "host", "expected"),
    [
        (ENV, "n1", Job("sge", "12", "p6444", "n1.local")),
        ({**ENV, "SGE_TASK_ID": "3"}, "n1", Job("sge", "12.3", "p6444", "n1.local")),
        (PARALLEL, "n2", Job("sge", "12", "p6444", "n2.local")),
        (PARALLEL, "n3", Job("sge", "12", "p6444", "n3")),
        (PARALLEL, "n1", None),  # HOSTNAME does not count where there is a list
        ({**PARALLEL, "PE_HOSTFILE": "/spool/blank"}, "n3", Job("sge", "12", "p6444", "n3")),
        (
            {key: value for key, value in ENV.items() if key != "SGE_CELL"},
            "n1",
            Job("sge", "12", "p6444d", "n1.local"),
        ),
        ({**ENV, "SGE_ROOT": ""}, "n1", None),
        ({key: value for key, value in ENV.items() if key != "HOSTNAME"}, "", None),
        (ENV, "login", None),
        ({}, "n1", None),
        ({"JOB_ID": "12", "HOSTNAME": "n1"}, "n1", None),  # somebody's own variable
        ({"JOB_ID": "12", "HOSTNAME": "n1", "SGE_ROOT": "/opt/sge"}, "n1", None),
        ({**ENV, "JOB_ID": "twelve"}, "n1", None),
        ({**ENV, "HOSTNAME": ""}, "n1", None),
    ],
)
def test_detect_by_variables_and_hosts(
    machine: Callable[..., Machine], env: dict[str, str], host: str, expected: Job | None
) -> None:
    assert sge.detect(env, machine(host, HOSTS)) == expected


def test_parse_job_list_of_qstat() -> None:
    assert sge.parse_job_list(CommandResult(0, MINE)) == [
        Status(
            "389524",
            State.RUNNING,
            raw_state="r",
            name="QRLOGIN",
            node="fgcz-cloud-002",
            starts_at=1322065234,
        ),
        Status(
            "610584.4",
            State.RUNNING,
            raw_state="r",
            name="Test with a long name",
            node="compute-0-6.local",
            starts_at=1341578881,
            ends_at=1341593281,
        ),
        Status("1337", State.QUEUED, raw_state="qw", name="q2019-06-23T13:24:83#00001"),
    ]
    assert sge.parse_job_list(CommandResult(0, NONE)) == []
    assert sge.parse_job_list(job("z")) == []
    assert sge.parse_job_list(job("dr")) == []


@pytest.mark.parametrize(
    "printed",
    [
        "<job_list></job_list>",
        job("r").stdout.replace("<job_info>", "<!DOCTYPE a><job_info>", 1),
        "error: no such thing\n",
    ],
)
def test_parse_of_other_text_is_no_answer(printed: str) -> None:
    assert sge.parse_job_list(CommandResult(0, printed)) is None


def test_parse_with_control_characters() -> None:
    (status,) = sge.parse_job_list(job("r", "a\x00b\x1bc")) or []
    assert status.name == "a?b?c"


def test_parse_cluster_of_its_file() -> None:
    assert sge.parse_cluster(CommandResult(0, "p6444\n")) == "p6444"
    assert sge.parse_cluster(CommandResult(1, "p6444\n", "cat: No such file or directory")) == ""


@pytest.mark.parametrize(
    ("letters", "state", "why"),
    [
        ("qw", State.QUEUED, ""),
        ("hqw", State.QUEUED, "on hold"),
        ("Eqw", State.QUEUED, "it could not be started, `qstat -j` says why"),
        ("r", State.RUNNING, ""),
        ("t", State.RUNNING, ""),
        ("Rr", State.RUNNING, ""),
        ("s", State.RUNNING, "is suspended"),
        ("dr", State.ENDED, "was deleted"),
        ("z", State.ENDED, "has finished"),
    ],
)
def test_parse_job_status_of_each_state(letters: str, state: State, why: str) -> None:
    status = sge.parse_job_status("12", job(letters))
    assert status == Status("12", state, raw_state=letters, reason=why, name="lab")


@pytest.mark.parametrize(
    "answer",
    [
        CommandResult(1, "", "Following jobs do not exist: \n12\n"),
        CommandResult(1, "Following jobs do not exist: \n12\n", ""),
    ],
)
def test_parse_job_status_of_an_unknown_job_has_ended(answer: CommandResult) -> None:
    assert sge.parse_job_status("12", answer) == Status("12", State.ENDED, reason="has ended")


@pytest.mark.parametrize(
    "answer",
    [
        CommandResult(
            1,
            "",
            "error: commlib error: got select error (Connection refused)\n"
            'error: unable to send message to qmaster using port 6444 on host "master": got send '
            "error\n",
        ),
        CommandResult(0, MINE),  # it speaks of others only
        CommandResult(0, '<!DOCTYPE a [<!ENTITY a "aaaa">]>' + MINE),
    ],
)
def test_parse_job_status_of_other_output_is_no_answer(answer: CommandResult) -> None:
    assert sge.parse_job_status("12", answer) is None


@pytest.mark.parametrize("name", ["a & b < c", "\x1b[31m&amp;", "</JB_name>", "<job_list>", "a\nb"])
def test_parse_job_list_with_a_broken_name_has_the_other_jobs(name: str) -> None:
    """Whether or not qstat escapes them."""
    hostile = job("r", name).stdout.replace(">12<", ">666<")
    found = sge.parse_job_list(CommandResult(0, hostile + MINE))
    assert found is not None
    assert {"610584.4", "1337"} <= {status.job_id for status in found}
    assert {"666", "389524", "610584.4", "1337"} >= {job.job_id for job in found if job.job_id}
    assert any(job.job_id in ("666", "") for job in found), "it is there, or known to be missing"


def test_array_task_has_an_id_of_its_own() -> None:
    assert sge.cancel_command(Status("12.3", State.RUNNING)) == ["qdel", "12", "-t", "3"]
    assert sge.job_status_commands("12.3")[1] == ["qstat", "-j", "12"]


def test_directives_of_much_and_of_little(everything: JobRequest, least: JobRequest) -> None:
    assert sge.directives(everything) == [
        "#$ -N jlab-gpu",
        "#$ -S /bin/bash",
        "#$ -pe smp 4",
        "#$ -l gpu=1",
        "#$ -l h_vmem=4096M",
        "#$ -l h_rt=36:00:00",
        "#$ -P ml",
        "#$ -q long",
        "#$ -j y",
        "#$ -o /home/u/jlab-logs/jlab-gpu-$JOB_ID.log",
    ]
    assert "#$ -l h_rt=1:30:00" in sge.directives(least)
    assert not any("-pe" in line or "h_vmem" in line for line in sge.directives(least))


@pytest.mark.parametrize("letters", ["s", "S", "T", "Rs", "ts", "N", "P"])
def test_job_that_is_suspended_runs_and_says_so(letters: str) -> None:
    (status,) = sge.parse_job_list(job(letters)) or []
    assert (status.state, status.reason) == (State.RUNNING, "is suspended")


@pytest.mark.parametrize(
    ("printed", "script"),
    [
        (
            "sge_o_workdir:              /home/u\nscript_file:                jlab.sh\n",
            "/home/u/jlab.sh",
        ),
        ("script_file:                /home/u/my jlab.sh\n", "/home/u/my jlab.sh"),
        ("script_file:                jlab.sh\n", ""),
        ("Following jobs do not exist: \n12\n", ""),
    ],
)
def test_script_is_where_qstat_says(printed: str, script: str) -> None:
    assert sge.parse_script(CommandResult(0, printed)) == script


@pytest.mark.parametrize("query", [0, 1])
def test_job_that_is_called_like_an_error_ends_no_other(query: int) -> None:
    named = job("r", "Following jobs do not exist").stdout
    details = "job_number: 12\njob_name: Following jobs do not exist\n"
    answer = CommandResult(0, [named, details][query])
    assert sge.parse_job_status("77", answer) is None
