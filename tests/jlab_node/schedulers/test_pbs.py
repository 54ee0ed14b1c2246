"""PBS: what buildtest's manual and a MetaCentrum user's notes quote of qstat -f -F json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jlab_node.jobs import scheduler_client
from jlab_node.schedulers import pbs
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status, is_complete

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

    from jlab_node.schedulers.base import Machine

HOME = "/storage/liberec3-tul/home/jan_brezina/_testing/swrap/testing/integrated/01_mpi4py"
# MetaCentrum, PBS 19.0.0
RUNNING = """{
    "timestamp":1664911414,
    "pbs_version":"19.0.0",
    "pbs_server":"meta-pbs.metacentrum.cz",
    "Jobs":{
        "12860476.meta-pbs.metacentrum.cz":{
            "Job_Name":"swrap_01",
            "Job_Owner":"jan_brezina@META",
            "job_state":"R",
            "queue":"charon_2h",
            "server":"meta-pbs.metacentrum.cz",
            "Checkpoint":"u",
            "ctime":"Tue Oct  4 21:23:20 2022",
            "exec_host":"charon24/0*2+charon21/0*2",
            "exec_host2":"charon24.nti.tul.cz:15002/0*2+charon21.nti.tul.cz:15002/0*2",
            "exec_vnode":"(charon24:ncpus=2:mem=4194304kb)+(charon21:ncpus=2:mem=4194304kb)",
            "Hold_Types":"n",
            "mtime":"Tue Oct  4 21:23:33 2022",
            "qtime":"Tue Oct  4 21:23:20 2022",
            "Resource_List":{
                "mem":"8gb",
                "ncpus":4,
                "nodect":2,
                "select":"2:ncpus=2:mem=4gb:mpiprocs=2:ompthreads=1",
                "soft_walltime":"00:01:00",
                "walltime":"00:01:00"
            },
            "stime":"Tue Oct  4 21:23:33 2022",
            "substate":41,
            "Variable_List":{
                "PBS_O_HOME":"/storage/liberec3-tul/home/jan_brezina",
                "PBS_O_WORKDIR":"%s",
                "PBS_NGPUS":0
            },
            "comment":"Job run at Tue Oct 04 at 21:23 on (charon24:ncpus=2:mem=4194304kb)",
            "etime":"Tue Oct  4 21:23:20 2022",
            "run_count":1,
            "Submit_arguments":"job.sh",
            "project":"_pbs_project_default"
        }
    }
}
""".replace("%s", HOME)
# buildtest's manual, PBS 19.0.0
FINISHED = """{
  "timestamp": 1616013438,
  "pbs_version": "19.0.0",
  "pbs_server": "pbs",
  "Jobs": {
    "40.pbs": {
      "Job_Name": "pbs_sleep",
      "Job_Owner": "pbsuser@pbs",
      "resources_used": {
        "cpupercent": 0,
        "cput": "00:00:00",
        "mem": "5620kb",
        "ncpus": 1,
        "vmem": "25632kb",
        "walltime": "00:00:10"
      },
      "job_state": "F",
      "queue": "workq",
      "server": "pbs",
      "ctime": "Wed Mar 17 20:36:48 2021",
      "exec_host": "pbs/0",
      "exec_vnode": "(pbs:ncpus=1)",
      "mtime": "Wed Mar 17 20:36:58 2021",
      "stime": "Wed Mar 17 20:36:48 2021",
      "Resource_List": {"ncpus": 1, "nodect": 1, "nodes": 1, "walltime": "00:02:00"},
      "comment": "Job run at Wed Mar 17 at 20:36 on (pbs:ncpus=1) and finished",
      "Exit_status": 0,
      "Submit_arguments": "-q workq /tmp/stage/generate.sh",
      "history_timestamp": 1616013418,
      "project": "_pbs_project_default"
    }
  }
}
"""
# In the form of the qstat(1B) manual of Torque, which wraps long values.
TORQUE = """Job Id: 1701.head.example.org
    Job_Name = jlab
    Job_Owner = u1@head.example.org
    resources_used.walltime = 00:10:00
    job_state = R
    queue = batch
    exec_host = n1.example.org/3+n1.example.org/2
    Resource_List.nodes = 1:ppn=2
    Resource_List.walltime = 01:00:00
    start_time = Fri Oct 12 07:41:12 2012
    Variable_List = PBS_O_QUEUE=batch,PBS_O_HOME=/home/u1,PBS_O_LANG=en_US.UTF-8,
\tPBS_O_WORKDIR=/home/u1,EVIL=1
    job_state = C
    submit_args = /home/u1/jl
\tab.sh

"""
FILE = {"/var/spool/pbs/aux/12": "n1.example.org\nn1.example.org\nn2.example.org\n"}
ENV = {"PBS_JOBID": "12.pbs-1.example.org", "PBS_NODEFILE": "/var/spool/pbs/aux/12"}


def as_json(job_id: str = "12.pbs", **job: Any) -> CommandResult:
    return CommandResult(0, json.dumps({"pbs_server": "pbs", "Jobs": {job_id: job}}))


def test_detect_in_a_job(machine: Callable[..., Machine]) -> None:
    assert pbs.detect(ENV, machine("n2", FILE)) == Job("pbs", "12", "pbs-1", "n2.example.org")
    array = {**ENV, "PBS_JOBID": "12[3].pbs-1.example.org"}
    assert pbs.detect(array, machine("n1", FILE)) == Job("pbs", "12[3]", "pbs-1", "n1.example.org")

    named = {**ENV, "PBS_JOBID": "12", "PBS_SERVER": "pbs-2.example.org"}
    assert pbs.detect(named, machine("n1", FILE)) == Job("pbs", "12", "pbs-2", "n1.example.org")
    unnamed = {**ENV, "PBS_JOBID": "12"}
    assert pbs.detect(unnamed, machine("n1", FILE)) == Job("pbs", "12", "", "n1.example.org")


@pytest.mark.parametrize(
    ("env", "host", "files"),
    [
        ({}, "n1", FILE),
        (ENV, "login", FILE),
        (ENV, "n1", {}),  # inherited: the file is on the job's node
        ({"PBS_JOBID": "12.pbs"}, "n1", FILE),
        ({**ENV, "PBS_JOBID": ""}, "n1", FILE),
    ],
)
def test_detect_outside_of_a_job_finds_none(
    machine: Callable[..., Machine], env: dict[str, str], host: str, files: dict[str, str]
) -> None:
    assert pbs.detect(env, machine(host, files)) is None


def test_parse_json_of_a_running_job() -> None:
    expected = Status(
        "12860476",
        State.RUNNING,
        raw_state="R",
        name="swrap_01",
        command=f"{HOME}/job.sh",
        node="charon24",
        starts_at=1664911413,
        ends_at=1664911473,
    )
    assert pbs.parse_job_list(CommandResult(0, RUNNING)) == [expected]
    assert pbs.parse_job_status("12860476", CommandResult(0, RUNNING)) == expected
    assert pbs.parse_job_status("12860477", CommandResult(0, RUNNING)) is None
    another_is_unknown = CommandResult(153, RUNNING, "qstat: Unknown Job Id 13.pbs\n")
    assert pbs.parse_job_status("12860476", another_is_unknown) == expected


def test_parse_json_of_a_finished_job() -> None:
    status = pbs.parse_job_status("40", CommandResult(0, FINISHED))
    assert status is not None
    assert (status.state, status.reason, status.ends_at) == (
        State.ENDED,
        "has finished",
        1616013418,
    )
    assert status.command == "/tmp/stage/generate.sh"
    assert pbs.parse_job_list(CommandResult(0, FINISHED)) == []


def test_parse_text_of_torque() -> None:
    assert pbs.parse_job_list(CommandResult(0, TORQUE)) == [
        Status(
            "1701",
            State.RUNNING,
            raw_state="R",
            name="jlab",
            command="/home/u1/jlab.sh",
            node="n1.example.org",
            starts_at=1350020472,
            ends_at=1350024072,
        )
    ]


def test_parse_text_of_torque_of_a_finished_job() -> None:
    done = TORQUE.replace(
        "job_state = R", "job_state = C\n    comp_time = Fri Oct 12 07:51:12 2012"
    )
    status = pbs.parse_job_status("1701", CommandResult(0, done))
    assert status is not None
    assert (status.state, status.ends_at) == (State.ENDED, 1350021072)


def test_parse_text_with_lines_that_only_look_like_fields() -> None:
    """Nothing outside of a job is of the job."""
    noise = "job_state = R\n    a note\n  Job_Name = x\n"
    status = pbs.parse_job_status(
        "12", CommandResult(0, f"Job Id: 12.head\n{noise}    job_state = Q\n")
    )
    assert status == Status("12", State.QUEUED, raw_state="Q")
    assert pbs.parse_job_list(CommandResult(0, f"a note\n{TORQUE}")) is None


@pytest.mark.parametrize(
    ("job", "status"),
    [
        ({"job_state": "R"}, Status("12", State.RUNNING, raw_state="R")),
        ({"job_state": "Q"}, Status("12", State.QUEUED, raw_state="Q")),
        ({"job_state": "F"}, Status("12", State.ENDED, raw_state="F", reason="has ended")),
        ({"job_state": "S"}, Status("12", State.RUNNING, raw_state="S", reason="is suspended")),
        (
            {"job_state": "R", "stime": "Tue Oct  4 21:23:33 2022"},
            Status("12", State.RUNNING, raw_state="R", starts_at=1664911413),
        ),
        (
            {"job_state": "R", "Resource_List": {"walltime": "01:00:00"}},
            Status("12", State.RUNNING, raw_state="R"),
        ),
        (
            {"job_state": "R", "Job_Name": "a\tb"},
            Status("12", State.RUNNING, raw_state="R", name="a\tb"),
        ),
    ],
)
def test_parse_job_status_with_fields_missing(job: dict[str, Any], status: Status) -> None:
    """PBS also writes control characters into strings, which JSON forbids."""
    printed = as_json(**job).stdout.replace("\\t", "\t")
    assert pbs.parse_job_status("12", CommandResult(0, printed)) == status


def test_a_job_that_qstat_could_not_ask_for() -> None:
    assert pbs.parse_job_list(as_json(Error="cannot connect")) == []


def test_parse_job_list_of_a_queued_job() -> None:
    comment = "Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0 T: 8)"
    start = {"exec_vnode": "(n1:ncpus=4)", "start_time": "Tue Oct  4 21:23:33 2022"}
    found = pbs.parse_job_list(as_json(job_state="Q", Job_Name=7, comment=comment, estimated=start))
    assert found == [
        Status(
            "12",
            State.QUEUED,
            raw_state="Q",
            reason="Insufficient amount of resource: ncpus (R: 4 A: 0 T: 8)",
            name="7",  # PBS writes what looks like a number as one
            starts_at=1664911413,
        )
    ]


def used(walltime: str, limit: str) -> dict[str, Any]:
    """A job that was killed after that time."""
    times = {"resources_used": {"walltime": walltime}, "Resource_List": {"walltime": limit}}
    return {"Exit_status": 271, **times}


@pytest.mark.parametrize(
    ("submitted", "command"),
    [
        ("-I -l walltime=1:00:00", "-I -l walltime=1:00:00"),
        ("-l ncpus=1 -- /bin/sleep 9", "-l ncpus=1 -- /bin/sleep 9"),
        ("-q workq job.sh", "/home/u1/job.sh"),
        ("-q workq /tmp/job.sh", "/tmp/job.sh"),
        ("", ""),
    ],
)
def test_parse_job_status_has_the_submitted_script(submitted: str, command: str) -> None:
    variables = {"PBS_O_WORKDIR": "/home/u1"}
    job = as_json(job_state="R", Submit_arguments=submitted, Variable_List=variables)
    status = pbs.parse_job_status("12", job)
    assert status is not None
    assert status.command == command


@pytest.mark.parametrize(
    ("job", "why"),
    [
        ({"Exit_status": 0}, "has finished"),
        ({"Exit_status": 1}, "failed"),
        ({"Exit_status": 271}, "was killed"),
        ({"Exit_status": 265}, "was killed"),
        ({"Exit_status": 257}, "was killed"),
        ({"Exit_status": 256}, "failed"),
        ({"Exit_status": -26}, "ran out of memory"),
        ({"Exit_status": -28}, "failed"),
        ({"Exit_status": -29}, "reached its walltime"),
        ({"Exit_status": -27}, "ran out of memory"),
        ({"exit_status": "1"}, "failed"),
        ({}, "has ended"),
        (used("01:00:07", "01:00:00"), "reached its walltime"),
        (used("01:00:00", "01:00:00"), "reached its walltime"),
        (used("00:59:59", "01:00:00"), "was killed"),
        (used("00:59:59", ""), "was killed"),
        (used("", "01:00:00"), "was killed"),
    ],
)
def test_parse_job_status_tells_how_a_job_ended(job: dict[str, Any], why: str) -> None:
    status = pbs.parse_job_status("12", as_json(job_state="F", **job))
    assert status is not None
    assert (status.state, status.reason) == (State.ENDED, why)


@pytest.mark.parametrize(
    "said",
    [
        "qstat: Unknown Job Id 12.pbs\n",
        "qstat: Unknown Job Id Error 12.head.example.org\n",
        "qstat: 12.pbs Job has finished, use -x or -H to obtain historical job information\n",
    ],
)
def test_parse_job_status_of_a_forgotten_job_has_ended(said: str) -> None:
    assert pbs.parse_job_status("12", CommandResult(153, "", said)) == Status(
        "12", State.ENDED, reason="has ended"
    )
    assert pbs.parse_job_list(CommandResult(153, "", said)) == []
    assert pbs.parse_job_list(CommandResult(153, RUNNING, said)) is not None


@pytest.mark.parametrize(
    "answer",
    [
        CommandResult(
            111, "", "Connection refused\nqstat: cannot connect to server pbs (errno=111)\n"
        ),
        CommandResult(
            2, "", "qstat: invalid option -- 'F'\nusage:\nqstat [-f] [-W site_specific]\n"
        ),
        CommandResult(0, '{"Jobs":{"12.pbs":{"job_state":"R","Job_Name":0123}}}'),  # a bug of PBS
    ],
)
def test_parse_of_a_failure_is_no_answer(answer: CommandResult) -> None:
    assert pbs.parse_job_list(answer) is None
    assert pbs.parse_job_status("12", answer) is None


@pytest.mark.parametrize(
    ("qselect", "qstat", "found"),
    [
        # What qselect names and qstat does not describe may run all the same.
        ("echo 1701.head; echo '12[].head'", 'test "$2" != -F && cat "$TORQUE"', ["1701", ""]),
        (
            "echo 1701.head; echo 9.head",
            'test "$2" = -F && echo "{" || cat "$TORQUE"',
            ["1701", ""],
        ),
        ("echo 12860476.meta-pbs", 'test "$2 $3" = "-F json" && cat "$RUNNING"', ["12860476"]),
        ("true", "echo nobody asked for all jobs", []),
        ("exit 111", "cat $RUNNING", None),
    ],
)
def test_list_is_asked_for_as_text_where_the_json_is_not_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qselect: str,
    qstat: str,
    found: list[str] | None,
) -> None:
    """Two programs, and on Torque a second try."""
    for name, does in (("qselect", qselect), ("qstat", qstat)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for name, printed in (("TORQUE", TORQUE), ("RUNNING", RUNNING)):
        (tmp_path / name).write_text(printed, encoding="utf-8")
        env[name] = str(tmp_path / name)
    monkeypatch.setattr("os.environ", env)
    jobs = scheduler_client.list_jobs(pbs, "u1")
    assert (None if jobs is None else [job.job_id for job in jobs]) == found


# What `qstat -f -F json` of some versions prints where a job's variable has odd characters.
BROKEN = [
    '{"Jobs":{"12.srv":{"Job_Name":"jlab","job_state":"R","Variable_List":{"N":005}}}}',
    '{"Jobs":{"12.srv":{"Job_Name":"jlab","job_state":"R","Variable_List":{"N":.5}}}}',
    '{"Jobs":{"12.srv":{"Job_Name":"jlab","job_state":"R","Variable_List":{"N":"a\\,b"}}}}',
    '{"Jobs":{"12.srv":{"Job_Name":"jlab","job_state":"R","Variable_List":{"N":"x "y" z"}}}}',
    '{"Jobs":{"12.srv":{"job_state":"R"},"Jobs":{"13.srv":{"job_state":"R"}}}}',
    '{"Jobs":{"12.srv":{"job_state":"R"}}}',  # the first of the two
    "",
]
TEXT = "Job Id: 12.srv\n    job_state = R\n\nJob Id: 13.srv\n    job_state = Q\n"


@pytest.mark.parametrize("broken", BROKEN)
def test_list_whose_json_is_broken_is_asked_for_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (tmp_path / "json").write_text(broken)
    (tmp_path / "text").write_text(TEXT)
    for name, does in (
        ("qselect", "echo 12.srv; echo 13.srv"),
        ("qstat", f'test "$2" = -F && exec cat {tmp_path}/json; cat {tmp_path}/text'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = scheduler_client.list_jobs(pbs, "u1")
    assert found is not None
    assert [(job.job_id, job.state) for job in found] == [
        ("12", State.RUNNING),
        ("13", State.QUEUED),
    ]
    assert is_complete(found)


def test_list_without_a_job_that_ended_meanwhile_is_complete() -> None:
    printed = "# selected: 12.srv 13.srv\nJob Id: 13.srv\n    job_state = R\n"
    gone = CommandResult(153, printed, "qstat: Unknown Job Id 12.srv\n")
    assert [job.job_id for job in pbs.parse_job_list(gone) or []] == ["13"]
    another = CommandResult(153, printed, "qstat: Unknown Job Id 112.srv\n")
    assert not is_complete(pbs.parse_job_list(another))


def test_parse_cluster_of_qstat() -> None:
    assert (
        pbs.parse_cluster(CommandResult(0, "Server: pbs-1\n    server_state = Active\n")) == "pbs-1"
    )
    assert pbs.parse_cluster(CommandResult(0, "Server: head.example.org\n")) == "head"
    assert pbs.parse_cluster(CommandResult(111, "", "Connection refused")) == ""


def test_directives_of_much_and_of_little(everything: JobRequest, least: JobRequest) -> None:
    assert pbs.directives(everything) == [
        "#PBS -N jlab-gpu",
        "#PBS -S /bin/bash",
        "#PBS -l select=1:ncpus=4:ngpus=1:mem=16384mb",
        "#PBS -l walltime=36:00:00",
        "#PBS -A ml",
        "#PBS -q long",
        "#PBS -j oe",
        "#PBS -o /home/u/jlab-logs/",
    ]
    assert pbs.directives(least) == [
        "#PBS -N jlab",
        "#PBS -S /bin/bash",
        "#PBS -l select=1:ncpus=1",
        "#PBS -l walltime=1:30:00",
        "#PBS -j oe",
        "#PBS -o /home/u/jlab-logs/",
    ]
