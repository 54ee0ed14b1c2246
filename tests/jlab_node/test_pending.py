"""Which jobs are waited for: those in a list that a little program prints, beside the records."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jlab_node.jobs import detection, messages, submission
from jlab_node.jobs.pending import PendingSessions, pending
from jlab_node.registry import home as homes
from jlab_node.registry import records, tombstones
from jlab_node.schedulers.base import State, Status
from tests.jlab_node.conftest import Job

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from jlab_node.registry.home import Home
    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands

USER = homes.user()


def pending_sessions(home: Home, wanted: str | None = None) -> PendingSessions:
    return PendingSessions(home, detection.site(), user=USER, wanted=wanted)


def pending_jobs(sessions: PendingSessions, *, max_age: float) -> list[Status]:
    """Those jobs, by a list that is at most so old."""
    sessions.refresh(max_age=max_age)
    return sessions.jobs()


def test_jobs_worth_waiting_for(home: Home, commands: Commands, record: Record) -> None:
    """The nearest first; not those that have a session, had one, or will not be one."""
    commands.slurm(
        Job("11", "PENDING", start=9000),
        Job("12", "RUNNING", start=-200),
        Job("13", "RUNNING", start=-200),
        Job("14", "RUNNING", start=-200),
        Job("15", "PENDING", start=100),
        Job("16", "PENDING", name="other", start=9999),
        Job("17", "COMPLETING", start=-200),
        Job("18", "RUNNING", start=-6000),
    )
    records.publish(home.sessions, record)
    tombstones.mark_ended(records.publish(home.sessions, replace(record, job_id="13")))
    (home.sessions / "slurm-14-lab").write_text("no record")
    os.mkfifo(home.sessions / "slurm-19-lab")  # whoever opened that would wait for ever
    sessions = pending_sessions(home)
    assert [each.job_id for each in pending_jobs(sessions, max_age=0)] == ["14", "15", "11"]
    sessions.drop("14")
    assert [each.job_id for each in pending_jobs(sessions, max_age=60)] == ["15", "11"]
    (home.path / "submitted").write_text("16")
    assert submission.last_job(home) == "16"
    assert [each.job_id for each in pending_jobs(sessions, max_age=0)] == ["14", "15", "11", "16"]


def test_a_job_that_is_called_so_on_a_plain_server(home: Home, commands: Commands) -> None:
    sessions = pending_sessions(home)
    assert (pending_jobs(sessions, max_age=0), sessions.is_fresh, sessions.problem) == (
        [],
        True,
        "",
    )
    sessions.drop("12")
    assert "start one there with `jlab-node run`" in messages.no_session(
        sessions.no_session(names=[])
    )


def test_one_that_ran_a_moment_ago_may_have_been_cancelled_since(
    home: Home, commands: Commands
) -> None:
    """So an answer that another connection was given does for what is queued alone."""
    commands.slurm(Job("11", "PENDING"), Job("12", "RUNNING", start=-200))
    pending_jobs(pending_sessions(home), max_age=0)
    sessions = pending_sessions(home)
    assert [each.job_id for each in pending_jobs(sessions, max_age=3600)] == ["11"]
    assert not sessions.is_fresh
    assert [each.job_id for each in pending_jobs(sessions, max_age=0)] == ["12", "11"]
    assert sessions.is_fresh


def test_a_job_that_was_pending_has_or_had_a_session(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(*(Job(job_id, "RUNNING", start=-200) for job_id in ("11", "12", "13")))
    sessions = pending_sessions(home)
    found = pending_jobs(sessions, max_age=0)
    records.publish(home.sessions, replace(record, job_id="12"))
    tombstones.mark_ended(records.publish(home.sessions, replace(record, job_id="13")))
    assert [each.job_id for each in found if sessions.has_or_had_session(each)] == ["12", "13"]


def test_refresh_without_an_answer_leaves_tombstones(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm()
    commands.put("squeue", "echo down >&2; exit 1")
    tombstones.mark_ended(records.publish(home.sessions, record))
    sessions = pending_sessions(home)
    assert (pending_jobs(sessions, max_age=0), sessions.problem) == (
        [],
        "Slurm does not answer (down)",
    )
    assert tombstones.exists(home.sessions, "slurm", "12")
    commands.slurm()
    assert (pending_jobs(sessions, max_age=0), sessions.problem) == ([], "")
    assert not tombstones.exists(home.sessions, "slurm", "12")


def test_a_dead_session_hides_its_job_whenever_that_was_started(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(Job("12", "RUNNING"))
    tombstones.mark_ended(records.publish(home.sessions, record))
    assert pending_jobs(pending_sessions(home), max_age=0) == []


def test_a_session_of_this_machine_that_is_over(
    home: Home, commands: Commands, record: Record, session: subprocess.Popen[bytes]
) -> None:
    """What ps lists tells."""
    commands.link("ps")
    record = replace(record, started=int(time.time()) - 4000)
    alive = replace(record, scheduler="local", node=socket.gethostname(), job_id=str(session.pid))
    over = replace(alive, job_id=str(os.getpid()))
    sessions = pending_sessions(home)
    assert [sessions.job_has_ended(each) for each in (alive, over)] == [False, True]


@pytest.mark.parametrize(
    ("age", "hidden"),
    [
        pytest.param(30, True, id="in this run of the job"),
        pytest.param(230, True, id="by a clock that is a bit behind"),
        pytest.param(4000, False, id="before it was started again"),
    ],
)
def test_a_dead_session_hides_its_job(
    home: Home, commands: Commands, record: Record, age: int, *, hidden: bool
) -> None:
    commands.slurm(Job("12", "RUNNING", start=-200))
    tombstones.mark_ended(records.publish(home.sessions, record, mtime=time.time() - age))
    assert (pending_jobs(pending_sessions(home), max_age=0) == []) is hidden


def test_what_the_list_says_of_records(home: Home, commands: Commands, record: Record) -> None:
    """Without another question; a job that has ended since is told as such."""
    commands.slurm(Job("11", "RUNNING", start=-200), Job("12", "COMPLETING", start=-200))
    sessions = pending_sessions(home)
    record = replace(record, started=int(time.time()) - 4000)
    alive = replace(record, job_id="11")
    assert not sessions.job_has_ended(record), "nobody was asked yet"
    pending_jobs(sessions, max_age=0)
    asked = len(commands.asked)
    assert [sessions.job_has_ended(each) for each in (alive, record)] == [False, True]
    assert not sessions.job_has_ended(replace(record, scheduler="local", node="n9"))
    assert len(commands.asked) == asked
    commands.put("squeue", "exit 1")
    pending_jobs(sessions, max_age=0)
    assert not sessions.job_has_ended(record), "no answer is never the end"


@pytest.mark.parametrize("jump", [-3600, 3600], ids=["back", "forward"])
def test_the_clock_is_set_while_one_waits(
    home: Home, commands: Commands, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Otherwise nothing is known of the queue until the clock is where it was before."""
    commands.slurm()
    sessions = pending_sessions(home)
    now = time.time() + jump
    monkeypatch.setattr(time, "time", lambda: now)
    assert pending_jobs(sessions, max_age=15) == []
    assert sessions.is_fresh


@pytest.mark.parametrize(
    ("is_fresh", "ids"),
    [pytest.param(True, ["11", "14"], id="fresh"), pytest.param(False, ["14"], id="kept")],
)
def test_pending_leaves_out_jobs_with_a_session(ids: list[str], *, is_fresh: bool) -> None:
    """Of a list that is not fresh, only what is queued counts."""
    running = [Status(job_id, State.RUNNING) for job_id in ("11", "12", "13")]
    found = pending(
        [*running, Status("14", State.QUEUED)],
        recorded={"12"},
        ended_early={"13"},
        is_fresh=is_fresh,
    )
    assert [job.job_id for job in found] == ids


@pytest.mark.parametrize(
    ("scontrol", "names"),
    [
        ("printf '#!/bin/sh\\nexec jlab-node run --name gpu\\n'", ["gpu"]),
        ("printf '#!/bin/sh\\nsleep 9\\n'", []),
        ("echo 'job script is not available' >&2; exit 1", []),
    ],
    ids=["a session", "something else", "no answer"],
)
def test_script_that_has_no_path_is_asked_for_once(
    home: Home, commands: Commands, scontrol: str, names: list[str]
) -> None:
    """That of `sbatch <<EOF`, --wrap and `sbatch < file`."""
    commands.slurm(Job("12", "PENDING", name="wrap"))
    commands.put("scontrol", scontrol)
    sessions = pending_sessions(home, "gpu")
    found = [job.job_id for job in pending_jobs(sessions, max_age=0)]
    assert found == (["12"] if names else [])
    pending_jobs(sessions, max_age=0)
    asked = [line for line in commands.asked if line.startswith("scontrol write")]
    assert asked == ["scontrol write batch_script 12 -"]


def test_script_whose_path_has_a_blank_is_read(
    home: Home, commands: Commands, tmp_path: Path
) -> None:
    script = tmp_path / "my work.sh"
    script.write_text("exec jlab-node run --name gpu\n")
    commands.slurm(Job("12", "PENDING", name="work", command=f"{script} --fast"))
    assert [job.job_id for job in pending_jobs(pending_sessions(home, "gpu"), max_age=0)] == ["12"]
