"""Which jobs are waited for: those in a list that a little program prints, beside the records."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node import home as homes
from jlab_node import jobs, sessions, submit
from jlab_node.home import Home
from jlab_node.record import Record
from jlab_node.upcoming import Upcoming

if TYPE_CHECKING:
    from tests.jlab_node.conftest import Commands

NOW = int(time.time())
USER = homes.user()
RECORD = Record(
    name="lab",
    node="n1",
    port=1,
    token="ab" * 32,
    scheduler="slurm",
    job_id="12",
    cluster="cal1",
    started=NOW - 100,
)


def job(job_id: str, word: str, *, name: str = "jlab", start: int = NOW - 200) -> str:
    return "\x1f".join([job_id, word, "None", str(start), "N/A", "n1", name, "(null)"])


@pytest.fixture
def home() -> Home:
    made = Home(Path.home() / ".jlab")
    made.sessions.mkdir(parents=True, mode=0o700)
    return made


def upcoming(home: Home, wanted: str | None = None) -> Upcoming:
    return Upcoming(home, jobs.site(), user=USER, wanted=wanted)


def test_the_jobs_that_are_ahead(home: Home, commands: Commands) -> None:
    """The nearest first; not those that have a session, had one, or will not be one."""
    commands.slurm(
        job("11", "PENDING", start=NOW + 9000),
        job("12", "RUNNING"),
        job("13", "RUNNING"),
        job("14", "RUNNING"),
        job("15", "PENDING", start=NOW + 100),
        job("16", "PENDING", name="other", start=NOW + 9999),
        job("17", "COMPLETING"),
        job("18", "RUNNING", start=NOW - 6000),
    )
    sessions.publish(home.sessions, RECORD)
    sessions.bury(sessions.publish(home.sessions, replace(RECORD, job_id="13")))
    ahead = upcoming(home)
    assert [each.job_id for each in ahead.jobs(max_age=0)] == ["14", "15", "11"]
    ahead.forget("14")
    assert [each.job_id for each in ahead.jobs(max_age=60)] == ["15", "11"]
    (home.path / "submitted").write_text("16")
    assert submit.last_job(home) == "16"
    assert [each.job_id for each in ahead.jobs(max_age=0)] == ["14", "15", "11", "16"]


def test_a_job_that_is_called_so_on_a_plain_server(home: Home, commands: Commands) -> None:
    ahead = upcoming(home)
    assert (ahead.jobs(max_age=0), ahead.is_known, ahead.problem) == ([], True, "")
    ahead.forget("12")
    assert "start one there with `jlab-node run`" in ahead.nothing(names=[])


@pytest.mark.parametrize(
    ("published", "hidden"),
    [
        pytest.param(NOW - 30, True, id="in this run of the job"),
        pytest.param(NOW - 230, True, id="by a clock that is a bit behind"),
        pytest.param(NOW - 4000, False, id="before it was started again"),
    ],
)
def test_a_dead_session_hides_its_job(
    home: Home, commands: Commands, published: int, *, hidden: bool
) -> None:
    commands.slurm(job("12", "RUNNING", start=NOW - 200))
    sessions.bury(sessions.publish(home.sessions, RECORD, as_of=published))
    assert (upcoming(home).jobs(max_age=0) == []) is hidden
