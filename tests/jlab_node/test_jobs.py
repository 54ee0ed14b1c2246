"""Asking the scheduler: little programs on PATH are its commands, and note what they are asked."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil
import pytest

from jlab_node.commands import machine_checks
from jlab_node.errors import JlabError
from jlab_node.jobs import detection, job_of_record, liveness, scheduler_client, snapshots
from jlab_node.jobs.site import Site
from jlab_node.registry import home
from jlab_node.registry.records import StoredRecord
from jlab_node.schedulers import TABLE
from jlab_node.schedulers.base import CommandResult, State, Status
from jlab_node.session import session_scheduler_client
from tests.jlab_node.conftest import FAILS, Job
from tests.jlab_node.conftest import JOB_12 as RECORD

if TYPE_CHECKING:
    import subprocess

    from jlab_node.registry.record import Record
    from jlab_node.session.child_processes import Children
    from tests.jlab_node.conftest import Commands, Unkillable

SQUEUE = "{}\x1f{}\x1fNone\x1f1800000000\x1f{}\x1fn1\x1fjlab\x1f/home/u/jlab.sh"


def squeue(job_id: str, word: str = "RUNNING", end: str = "1800007200") -> str:
    return SQUEUE.format(job_id, word, end)


def published(*records: Record) -> list[StoredRecord]:
    return [StoredRecord(Path("/sessions", record.id), record) for record in records]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("echo a; echo b >&2", CommandResult(0, "a\n", "b\n"), id="success"),
        pytest.param("echo a; exit 3", CommandResult(3, "a\n", ""), id="failure"),
        pytest.param("printf '\\377'", CommandResult(0, "\ufffd", ""), id="not text"),
        pytest.param("/bin/cat", CommandResult(0, "", ""), id="its stdin is empty"),
    ],
)
@pytest.mark.usefixtures("on_stdin")
def test_ask_returns_code_and_output(commands: Commands, text: str, answer: CommandResult) -> None:
    commands.put("squeue", text)
    assert scheduler_client.ask(["squeue"]) == answer


def test_ask_what_is_not_there(commands: Commands, tmp_path: Path) -> None:
    assert scheduler_client.ask(["squeue"]) == CommandResult(127, "", "squeue is not on PATH here")
    (tmp_path / "bin" / "squeue").touch(mode=0o600)
    assert scheduler_client.ask(["squeue"]) == CommandResult(126, "", "squeue: Permission denied")
    (tmp_path / "bin" / "squeue").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "bin" / "squeue").chmod(0o700)
    assert scheduler_client.ask(["squeue"]) == CommandResult(126, "", "squeue: Exec format error")


def test_ask_one_that_does_not_answer(commands: Commands) -> None:
    commands.put("squeue", "echo a; exec /bin/sleep 60")
    before = psutil.Process().children()
    began = time.monotonic()
    assert scheduler_client.ask(["squeue"], timeout=0.2) == CommandResult(
        124, "", "no answer within 0 s"
    )
    assert time.monotonic() - began < 20
    assert psutil.Process().children() == before


def test_ask_one_that_cannot_be_killed(unkillable: Unkillable) -> None:
    began = time.monotonic()
    assert scheduler_client.ask(unkillable.command, timeout=2) == CommandResult(
        124, "", "no answer within 2 s"
    )
    assert time.monotonic() - began < 30, "it takes a minute"
    (left,) = scheduler_client._given_up
    assert unkillable.is_it(left.pid), "it lives on"
    unkillable.end()
    left.wait()
    scheduler_client._given_up.clear()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(CommandResult(1, "out\n", "\n  a \nb\n"), "a", id="stderr first"),
        pytest.param(CommandResult(1, "out\n", ""), "out", id="stdout"),
        pytest.param(CommandResult(1, "out", "\n"), "out", id="an empty line is nothing"),
        pytest.param(CommandResult(3, "", " \n"), "exit code 3", id="silent"),
    ],
)
def test_error_message_is_the_first_line(answer: CommandResult, text: str) -> None:
    assert scheduler_client.error_message(answer) == text


def test_site_of_a_plain_server(commands: Commands) -> None:
    commands.put("ps", "exit 0")
    assert detection.site() is None
    assert commands.asked == []


def test_site_of_one_scheduler_is_believed_without_a_question(commands: Commands) -> None:
    commands.put("oarstat", FAILS)
    assert detection.site() == Site(TABLE["oar"], "")
    assert commands.asked == []


def test_site_knows_the_clusters_name_and_asks_once(commands: Commands) -> None:
    commands.slurm()
    assert [detection.site(), detection.site()] == [Site(TABLE["slurm"], "cal1")] * 2
    assert commands.asked == ["scontrol show config"]


def test_site_without_a_name(commands: Commands) -> None:
    commands.put("squeue", "exit 0")
    commands.put("scontrol", FAILS)
    assert detection.site() == Site(TABLE["slurm"], "")


@pytest.mark.parametrize(
    ("answers", "name", "asked"),
    [
        pytest.param({"squeue": False, "oarstat": True}, "oar", 2, id="the second answers"),
        pytest.param({"squeue": True, "oarstat": True}, "slurm", 1, id="both would"),
        pytest.param({"squeue": False, "oarstat": False}, "slurm", 2, id="neither"),
    ],
)
def test_site_with_the_programs_of_several(
    commands: Commands, answers: dict[str, bool], name: str, asked: int
) -> None:
    for program, does in answers.items():
        commands.put(program, "exit 0" if does else FAILS)
    site = detection.site()
    assert site is not None
    assert site.scheduler is TABLE[name]
    assert commands.names == ["squeue", "oarstat"][:asked]


def test_site_takes_the_first_that_really_answers(commands: Commands) -> None:
    """Another scheduler's oarstat in disguise prints no JSON."""
    commands.prints("oarstat", "Job id  Name  User")
    commands.prints("bjobs", '{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}')
    site = detection.site()
    assert site is not None
    assert site.scheduler.NAME == "lsf"


def remember(scheduler: str, cluster: str, *, age: float) -> Path:
    """As if that had been found out so many seconds ago."""
    here = home.state_dir()
    here.path.mkdir(exist_ok=True)
    home.remember_site(here, scheduler, cluster)
    (path,) = (here.path / "sites").iterdir()
    then = time.time() - age
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize(
    ("age", "cluster"),
    [
        pytest.param(0, "old", id="just now"),
        pytest.param(86000, "old", id="today"),
        pytest.param(86500, "cal1", id="yesterday"),
        pytest.param(-500, "cal1", id="tomorrow, by a clock that was wrong"),
    ],
)
def test_site_is_found_out_once_a_day(commands: Commands, age: float, cluster: str) -> None:
    commands.slurm()
    path = remember("slurm", "old", age=age)
    assert detection.site() == Site(TABLE["slurm"], cluster)
    assert commands.asked == ([] if cluster == "old" else ["scontrol show config"])
    assert path.read_text() == f"slurm:{cluster} slurm:\n"
    assert (path.stat().st_mtime > time.time() - 1000) is (age != 86000)


@pytest.mark.parametrize("scontrol", [FAILS, "exit 0"], ids=["it fails", "it prints nothing"])
def test_site_is_not_forgotten_while_the_scheduler_is_away(
    commands: Commands, scontrol: str
) -> None:
    commands.put("squeue", FAILS)
    commands.put("scontrol", scontrol)
    path = remember("slurm", "cal1", age=90000)
    before = path.stat()
    assert detection.site() == Site(TABLE["slurm"], "cal1")
    assert commands.names == ["scontrol"]
    assert path.read_text() == "slurm:cal1 slurm:\n"
    assert path.stat().st_mtime == before.st_mtime, "it is asked again next time"


def test_site_that_has_become_another(commands: Commands) -> None:
    """An old cluster's name says nothing of the new scheduler's."""
    commands.put("squeue", "exit 0")
    commands.put("scontrol", FAILS)
    path = remember("oar", "", age=10)
    assert detection.site() == Site(TABLE["slurm"], "")
    assert path.read_text() == "oar:\n"
    detection.site.cache_clear()
    commands.slurm()
    assert detection.site() == Site(TABLE["slurm"], "cal1")
    assert path.read_text() == "slurm:cal1 slurm:\n"


def test_site_with_the_programs_of_several_takes_the_remembered_one(commands: Commands) -> None:
    commands.slurm()
    commands.put("oarstat", "exit 0")
    remember("oar", "", age=100)
    assert detection.site() == Site(TABLE["oar"], "")
    assert commands.asked == []


def test_site_whose_commands_are_not_on_path_is_no_plain_server(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a shell that ssh starts, where an interactive one had them."""
    home.state_dir().path.mkdir()
    commands.slurm(Job())
    assert detection.site() == Site(TABLE["slurm"], "cal1")
    for _ in range(2):
        detection.site.cache_clear()
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        assert detection.site() == Site(TABLE["slurm"], "cal1")
        found = scheduler_client.list_jobs(TABLE["slurm"], "u1")
        assert [job.job_id for job in found or []] == ["12"], "they are found where they were"


@pytest.mark.parametrize(("age", "is_one"), [(86400 * 20, True), (86400 * 31, False)])
def test_site_whose_commands_are_gone_is_one_for_a_while(
    commands: Commands, age: int, *, is_one: bool
) -> None:
    remember("slurm", "cal1", age=age)
    assert detection.site() == (Site(TABLE["slurm"], "cal1") if is_one else None)
    check = machine_checks.scheduler(detection.site(), "u1")
    assert check.state == ("failure" if is_one else "ok")
    assert ("Slurm's commands are not on PATH" in check.found) is is_one


@pytest.mark.parametrize(
    ("remembered", "name"),
    [
        pytest.param("lsf", "lsf", id="the remembered one"),
        pytest.param("slurm", "oar", id="one that is not here any more"),
        pytest.param(None, "oar", id="the first"),
    ],
)
def test_site_of_several_of_which_none_answers(
    commands: Commands, remembered: str | None, name: str
) -> None:
    """Then that is not known for a day."""
    commands.put("oarstat", FAILS)
    commands.put("bjobs", FAILS)
    if remembered:
        remember(remembered, "cal1", age=90000)
    else:
        home.state_dir().path.mkdir()
    site = detection.site()
    assert site is not None
    assert (site.scheduler.NAME, site.cluster) == (name, "cal1" if name == remembered else "")
    assert commands.names == ["oarstat", "bjobs"]
    detection.site.cache_clear()
    commands.prints("bjobs", '{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}')
    commands.prints("lsid", "My cluster name is big")
    assert detection.site() == Site(TABLE["lsf"], "big")


@pytest.mark.parametrize(
    ("site", "record", "has"),
    [
        pytest.param(Site(TABLE["slurm"], "cal1"), RECORD, True, id="the same"),
        pytest.param(Site(TABLE["slurm"], "cal2"), RECORD, False, id="another cluster"),
        pytest.param(Site(TABLE["slurm"], ""), RECORD, True, id="this one has no name"),
        pytest.param(
            Site(TABLE["slurm"], "cal1"), replace(RECORD, cluster=""), True, id="it has no name"
        ),
        pytest.param(Site(TABLE["oar"], ""), RECORD, False, id="another scheduler"),
    ],
)
def test_site_has_records_of_its_cluster(site: Site, record: Record, *, has: bool) -> None:
    assert site.has(record) is has


HERE = socket.gethostname().partition(".")[0]


@pytest.mark.parametrize(
    ("node", "here"),
    [
        pytest.param(socket.gethostname(), True, id="its name"),
        pytest.param(HERE, True, id="its short name"),
        pytest.param(f"{HERE}.example.org", True, id="with a domain"),
        pytest.param("127.0.0.1", True, id="an address of its own"),
        pytest.param(f"{HERE}x", False, id="a longer name"),
        pytest.param("192.0.2.1", False, id="another's address"),
        pytest.param("a" * 64, False, id="no name at all"),
        pytest.param("a..b", False, id="nor this"),
    ],
)
def test_is_here_by_name_and_address(node: str, *, here: bool) -> None:
    assert detection.is_here(node) is here


def test_times_asks_for_what_the_environment_does_not_tell(commands: Commands) -> None:
    commands.slurm(squeue("12"))
    env = {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": HERE}
    found = detection.detect(env)
    assert (found.scheduler, found.job_id, found.node) == ("slurm", "12", HERE)
    assert commands.asked == []
    assert job_of_record.times(found) == (1800000000, 1800007200)
    assert commands.names == ["squeue"]
    ends = {"SLURM_JOB_START_TIME": "1799999999", "SLURM_JOB_END_TIME": "1800000001"}
    assert job_of_record.times(detection.detect({**env, **ends})) == (
        1799999999,
        1800000001,
    )
    assert commands.names == ["squeue"]


def test_times_where_the_scheduler_does_not_answer(commands: Commands) -> None:
    found = detection.detect({"SLURM_JOB_ID": "12", "SLURMD_NODENAME": HERE})
    assert (found.job_id, *job_of_record.times(found)) == ("12", None, None)


def test_detect_outside_of_a_job(commands: Commands) -> None:
    """Also where the variables are inherited from one that runs elsewhere."""
    for env in ({}, {"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "192.0.2.1"}):
        found = detection.detect(env)
        assert (found.scheduler, found.job_id) == ("local", str(os.getpid()))
        assert job_of_record.times(found) == (None, None)
    assert commands.asked == []


def test_detect_reads_the_list_of_nodes(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text(f"192.0.2.1\n{HERE}\n{HERE}\n")
    commands.oar("7", state="Running", startTime=1800000000, walltime=3600)
    found = detection.detect({"OAR_JOB_ID": "7", "OAR_NODEFILE": str(tmp_path / "nodes")})
    assert (found.scheduler, found.node) == ("oar", HERE)
    assert job_of_record.times(found) == (1800000000, 1800003600)


def test_query_job_asks_on_only_where_it_knows_too_little(commands: Commands) -> None:
    slurm = TABLE["slurm"]
    commands.slurm(squeue("12"))
    commands.prints("sacct", "12|TIMEOUT|1800000009")
    assert scheduler_client.query_job(slurm, "12") == slurm.parse_job_status(
        "12", CommandResult(0, squeue("12") + "\n")
    )
    assert commands.names == ["squeue"]
    commands.put("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    status = scheduler_client.query_job(slurm, "12")
    assert status == Status(
        "12", State.ENDED, raw_state="TIMEOUT", reason="reached its time limit", ends_at=1800000009
    )
    assert commands.names == ["squeue", "squeue", "sacct"]
    commands.put("sacct", FAILS)
    assert scheduler_client.query_job(slurm, "12") == Status("12", State.ENDED, reason="has ended")
    commands.put("squeue", FAILS)
    assert scheduler_client.query_job(slurm, "12") is None, "no answer is no end"


def test_of_a_job_that_runs(commands: Commands) -> None:
    commands.slurm(squeue("12"))
    status = job_of_record.job_status_of(RECORD)
    assert status is not None
    assert status.state is State.RUNNING


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(replace(RECORD, cluster="cal2"), id="another cluster"),
        pytest.param(replace(RECORD, scheduler="oar"), id="another scheduler"),
        pytest.param(replace(RECORD, scheduler="flux"), id="one of the future"),
        pytest.param(replace(RECORD, scheduler="local", node="n1.invalid"), id="another machine"),
    ],
)
def test_of_a_job_elsewhere_nobody_can_tell(commands: Commands, record: Record) -> None:
    commands.slurm(squeue("12", "COMPLETED"))
    assert job_of_record.job_status_of(record) is None
    assert not job_of_record.is_on_this_cluster(record)
    assert "squeue" not in commands.names, "another's job of that number is none of its business"


@pytest.mark.parametrize(
    ("nodes", "state"),
    [
        pytest.param(["d1"], State.RUNNING, id="on its node"),
        pytest.param(["d2", "d1"], State.RUNNING, id="on several"),
        pytest.param(["d2"], None, id="on others: a job of another cluster"),
        pytest.param([], State.RUNNING, id="nowhere that is known"),
    ],
)
def test_of_a_job_of_the_same_number(
    commands: Commands, nodes: list[str], state: State | None
) -> None:
    commands.oar("12", state="Running", assigned_network_address=nodes)
    status = job_of_record.job_status_of(replace(RECORD, scheduler="oar", cluster="", node="d1"))
    assert (status.state if status else None) is state


ME = home.user()


@pytest.mark.parametrize(
    ("job", "known"),
    [
        pytest.param({"state": "Terminated", "startTime": 9, "owner": ME}, True, id="mine"),
        pytest.param({"state": "Terminated", "startTime": 9, "owner": "u9"}, False, id="another's"),
        pytest.param({"state": "Terminated", "startTime": 0, "owner": ME}, False, id="never ran"),
        pytest.param({"state": "Waiting", "owner": ME}, False, id="has not run yet"),
        pytest.param({"state": "Running", "startTime": 0, "owner": ME}, True, id="runs"),
        pytest.param({"state": "Running", "startTime": 9, "owner": "u9"}, False, id="his runs"),
        pytest.param({"state": "Terminated", "startTime": 0}, True, id="nobody's"),
        pytest.param(
            {"state": "Terminated", "owner": "u9", "assigned_network_address": ["d1"]},
            True,
            id="on its node",
        ),
    ],
)
def test_of_a_job_that_is_another_clusters(
    commands: Commands, job: dict[str, object], *, known: bool
) -> None:
    """OAR numbers jobs from 1 on each, and has no name for itself."""
    commands.oar("12", **job)
    status = job_of_record.job_status_of(replace(RECORD, scheduler="oar", cluster="", node="d1"))
    assert (status is not None) is known


@pytest.mark.parametrize(
    ("started", "status", "anew"),
    [
        pytest.param(1000, Status("1", State.RUNNING, starts_at=990), False, id="a session"),
        pytest.param(1000, Status("1", State.RUNNING, starts_at=1700), False, id="two clocks"),
        pytest.param(1000, Status("1", State.RUNNING, starts_at=4601), True, id="surely again"),
        pytest.param(1000, Status("1", State.QUEUED, starts_at=2000), False, id="it will be"),
        pytest.param(1000, Status("1", State.ENDED, starts_at=2000), False, id="it is over"),
        pytest.param(1000, Status("1", State.RUNNING), False, id="nobody knows when"),
        pytest.param(None, Status("1", State.RUNNING, starts_at=9), False, id="an old record"),
        pytest.param(1000, None, False, id="nobody knows"),
    ],
)
def test_was_restarted(started: int | None, status: Status | None, *, anew: bool) -> None:
    assert liveness.was_restarted(replace(RECORD, started=started), status) is anew


@pytest.mark.parametrize("skew", [-600, 0, 600, 100_000], ids="the node's clock is {} s off".format)
def test_was_restarted_is_told_by_the_schedulers_clock_alone(skew: int) -> None:
    record = replace(RECORD, job_started=50_000, started=50_030 + skew)
    for starts_at, anew in ((50_000, False), (50_005, False), (50_020, True)):
        assert (
            liveness.was_restarted(record, Status("1", State.RUNNING, starts_at=starts_at)) is anew
        )


def test_of_a_local_session(session: subprocess.Popen[bytes]) -> None:
    record = replace(
        RECORD, scheduler="local", node=socket.gethostname(), job_id=str(session.pid), cluster=""
    )
    status = job_of_record.job_status_of(record)
    assert status is not None
    assert status.state is State.RUNNING
    session.kill()
    session.wait()
    assert liveness.has_ended(job_of_record.job_status_of(record))


def test_alive_asks_once_for_all(commands: Commands) -> None:
    commands.slurm(squeue("12"), squeue("14", "PENDING"), squeue("15", "COMPLETING"))
    detection.site()
    before = len(commands.asked)
    records = [replace(RECORD, job_id=str(number)) for number in range(11, 17)]
    found = snapshots.alive_sessions(published(*records), "u1")
    assert [each.record.job_id for each in found] == ["12"], "that of 14 is over: it waits again"
    assert [line.split()[0] for line in commands.asked[before:]] == ["squeue"]
    assert "--user=u1" in commands.asked[-1]


def test_alive_where_the_scheduler_does_not_answer(commands: Commands) -> None:
    commands.slurm()
    commands.put("squeue", FAILS)
    mine = published(RECORD)
    assert snapshots.alive_sessions(mine, "u1") == mine


def test_alive_elsewhere_cannot_be_told(commands: Commands) -> None:
    """What nobody can tell stays; and no question is asked for it."""
    commands.slurm()
    mine = published(
        replace(RECORD, cluster="cal2"),
        replace(RECORD, scheduler="oar"),
        replace(RECORD, scheduler="flux"),
        replace(RECORD, scheduler="local", node="n1.invalid"),
    )
    assert snapshots.alive_sessions(mine, "u1") == mine
    assert "squeue" not in commands.names


def test_alive_on_a_plain_server(session: subprocess.Popen[bytes]) -> None:
    here = replace(RECORD, scheduler="local", node=socket.gethostname())
    alive = replace(here, job_id=str(session.pid))
    dead = replace(here, job_id=str(os.getpid()), name="dead")  # no `jlab-node run`
    mine = published(alive, dead)
    assert snapshots.alive_sessions(mine, home.user()) == mine[:1]


@pytest.mark.parametrize(
    ("job", "scancel"),
    [
        (Job(word="RUNNING"), "scancel 12"),
        (Job(word="RUNNING", cancel_id="12_3"), "scancel 12_3"),
        (Job(word="RUNNING", cancel_id="10_1"), "scancel 10_1"),
    ],
)
def test_cancel_ends_that_job_alone(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, job: Job, scancel: str
) -> None:
    monkeypatch.setenv("SCANCEL_NAME", "zzz")
    commands.slurm(job)
    commands.put("scancel", 'test -z "$SCANCEL_NAME"')
    job_of_record.cancel(RECORD)
    assert commands.asked[-1] == scancel


def test_cancel_of_a_job_that_slurm_does_not_tell_about_is_refused(commands: Commands) -> None:
    commands.slurm()
    commands.put("squeue", "exit 1")
    commands.put("sacct", "exit 1")
    commands.put("scancel", "exit 0")
    with pytest.raises(JlabError, match="does not say whether job 12 is one of an array"):
        job_of_record.cancel(RECORD)
    assert "scancel" not in commands.names


@pytest.mark.parametrize(
    ("record", "scancel", "text"),
    [
        pytest.param(
            RECORD,
            "echo 'scancel: error: Access denied' >&2; exit 1",
            "Slurm job 12 cannot be cancelled: scancel: error: Access denied",
            id="refused",
        ),
        pytest.param(
            RECORD, "exit 5", "Slurm job 12 cannot be cancelled: exit code 5", id="silent"
        ),
        pytest.param(
            RECORD,
            None,
            "Slurm job 12 cannot be cancelled: scancel is not on PATH here",
            id="no such command",
        ),
        pytest.param(
            replace(RECORD, cluster="cal2"),
            "exit 0",
            "session slurm-12-lab runs on n1: type this there",
            id="another cluster",
        ),
        pytest.param(
            replace(RECORD, scheduler="local", node="n9", cluster=""),
            "exit 0",
            "session local-12-lab runs on n9: type this there",
            id="another machine",
        ),
        pytest.param(
            replace(RECORD, scheduler="flux"),
            "exit 0",
            "session flux-12-lab is a flux job, which this jlab-node does not know: upgrade "
            "jlab-remote on this cluster",
            id="a scheduler of the future",
        ),
    ],
)
def test_cancel_that_fails_raises(
    commands: Commands, record: Record, scancel: str | None, text: str
) -> None:
    commands.slurm(Job(word="RUNNING"))
    for name in ("scancel", "kill"):
        if scancel is not None:
            commands.put(name, scancel)
    with pytest.raises(JlabError) as caught:
        job_of_record.cancel(record)
    assert str(caught.value) == text
    elsewhere = "cannot be cancelled" not in text
    assert not (elsewhere and {"scancel", "kill"} & set(commands.names)), "it ends no other job"


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        pytest.param(None, False, id="nobody knows"),
        pytest.param(Status("1", State.QUEUED), False, id="queued"),
        pytest.param(Status("1", State.RUNNING), False, id="running"),
        pytest.param(Status("1", State.ENDED), True, id="ended"),
    ],
)
def test_has_ended_by_state(status: Status | None, *, ended: bool) -> None:
    assert liveness.has_ended(status) is ended


def test_read_text_of_long_odd_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_bytes(b"a\xffb\n")
    assert scheduler_client.read_text(str(path)) == "a\ufffdb\n"
    path.write_text("x" * (2 << 20))
    assert len(scheduler_client.read_text(str(path))) == 1 << 20
    assert scheduler_client.read_text(str(tmp_path)) == ""
    assert scheduler_client.read_text(str(tmp_path / "gone")) == ""
    assert scheduler_client.read_text("") == ""


def test_read_text_of_a_pipe_that_nobody_writes_to_is_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "script")
    assert scheduler_client.read_text(str(tmp_path / "script")) == ""
    assert scheduler_client.read_text(str(tmp_path)) == ""


def test_list_of_a_session_without_any_job_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> CommandResult:
        return CommandResult(0, "")

    monkeypatch.setattr(session_scheduler_client, "ask", ask)
    for name in ("slurm", "pbs"):
        found = session_scheduler_client.list_jobs(cast("Children", None), TABLE[name], "u1")
        assert asyncio.run(found) == []
