"""Which jobs are waited for: those in a list that a little program prints, beside the records."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node.jobs import scheduler_client, submission
from jlab_node.jobs.pending import Upcoming
from jlab_node.registry import home as homes
from jlab_node.registry import records
from jlab_node.registry.home import Home
from tests.jlab_node.conftest import Job

if TYPE_CHECKING:
    import subprocess

    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands

USER = homes.user()


@pytest.fixture
def home() -> Home:
    made = Home(Path.home() / ".jlab")
    made.sessions.mkdir(parents=True, mode=0o700)
    return made


def upcoming(home: Home, wanted: str | None = None) -> Upcoming:
    return Upcoming(home, scheduler_client.site(), user=USER, wanted=wanted)


def test_the_jobs_that_are_ahead(home: Home, commands: Commands, record: Record) -> None:
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
    records.bury(records.publish(home.sessions, replace(record, job_id="13")))
    (home.sessions / "slurm-14-lab").write_text("no record")
    os.mkfifo(home.sessions / "slurm-19-lab")  # whoever opened that would wait for ever
    ahead = upcoming(home)
    assert [each.job_id for each in ahead.jobs(max_age=0)] == ["14", "15", "11"]
    ahead.forget("14")
    assert [each.job_id for each in ahead.jobs(max_age=60)] == ["15", "11"]
    (home.path / "submitted").write_text("16")
    assert submission.last_job(home) == "16"
    assert [each.job_id for each in ahead.jobs(max_age=0)] == ["14", "15", "11", "16"]


def test_a_job_that_is_called_so_on_a_plain_server(home: Home, commands: Commands) -> None:
    ahead = upcoming(home)
    assert (ahead.jobs(max_age=0), ahead.is_known, ahead.problem) == ([], True, "")
    ahead.forget("12")
    assert "start one there with `jlab-node run`" in ahead.nothing(names=[])


def test_one_that_ran_a_moment_ago_may_have_been_cancelled_since(
    home: Home, commands: Commands
) -> None:
    """So an answer that another connection was given does for what is queued alone."""
    commands.slurm(Job("11", "PENDING"), Job("12", "RUNNING", start=-200))
    upcoming(home).jobs(max_age=0)
    ahead = upcoming(home)
    assert [each.job_id for each in ahead.jobs(max_age=3600)] == ["11"]
    assert not ahead.is_known
    assert [each.job_id for each in ahead.jobs(max_age=0)] == ["12", "11"]
    assert ahead.is_known


def test_a_job_that_was_waited_for_has_or_had_a_session(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(*(Job(job_id, "RUNNING", start=-200) for job_id in ("11", "12", "13")))
    ahead = upcoming(home)
    found = ahead.jobs(max_age=0)
    records.publish(home.sessions, replace(record, job_id="12"))
    records.bury(records.publish(home.sessions, replace(record, job_id="13")))
    assert [each.job_id for each in found if ahead.has_session(each)] == ["12", "13"]


def test_no_answer_leaves_the_graves(home: Home, commands: Commands, record: Record) -> None:
    commands.slurm()
    commands.put("squeue", "echo down >&2; exit 1")
    records.bury(records.publish(home.sessions, record))
    ahead = upcoming(home)
    assert (ahead.jobs(max_age=0), ahead.problem) == ([], "Slurm does not answer (down)")
    assert records.is_buried(home.sessions, "slurm", "12")
    commands.slurm()
    assert (ahead.jobs(max_age=0), ahead.problem) == ([], "")
    assert not records.is_buried(home.sessions, "slurm", "12")


def test_a_dead_session_hides_its_job_whenever_that_was_started(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(Job("12", "RUNNING"))
    records.bury(records.publish(home.sessions, record))
    assert upcoming(home).jobs(max_age=0) == []


def test_a_session_of_this_machine_that_is_over(
    home: Home, commands: Commands, record: Record, session: subprocess.Popen[bytes]
) -> None:
    """What ps lists tells."""
    commands.link("ps")
    record = replace(record, started=int(time.time()) - 4000)
    alive = replace(record, scheduler="local", node=socket.gethostname(), job_id=str(session.pid))
    over = replace(alive, job_id=str(os.getpid()))
    ahead = upcoming(home)
    assert [ahead.is_over(each) for each in (alive, over)] == [False, True]


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
    records.bury(records.publish(home.sessions, record, as_of=time.time() - age))
    assert (upcoming(home).jobs(max_age=0) == []) is hidden


def test_what_the_list_says_of_records(home: Home, commands: Commands, record: Record) -> None:
    """Without another question; a job that has ended since is told as such."""
    commands.slurm(Job("11", "RUNNING", start=-200), Job("12", "COMPLETING", start=-200))
    ahead = upcoming(home)
    record = replace(record, started=int(time.time()) - 4000)
    alive = replace(record, job_id="11")
    assert not ahead.is_over(record), "nobody was asked yet"
    ahead.jobs(max_age=0)
    asked = len(commands.asked)
    assert [ahead.is_over(each) for each in (alive, record)] == [False, True]
    assert not ahead.is_over(replace(record, scheduler="local", node="n9"))
    assert len(commands.asked) == asked
    commands.put("squeue", "exit 1")
    ahead.jobs(max_age=0)
    assert not ahead.is_over(record), "no answer is never the end"


@pytest.mark.parametrize("jump", [-3600, 3600], ids=["back", "forward"])
def test_the_clock_is_set_while_one_waits(
    home: Home, commands: Commands, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Otherwise nothing is known of the queue until the clock is where it was before."""
    commands.slurm()
    waited_for = upcoming(home)
    now = time.time() + jump
    monkeypatch.setattr(time, "time", lambda: now)
    assert waited_for.jobs(max_age=15) == []
    assert waited_for.is_known
