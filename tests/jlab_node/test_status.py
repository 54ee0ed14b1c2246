"""How it stands with a session: by records, and by little programs that are a scheduler's."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from jlab_node import home as homes
from jlab_node import jobs, sessions, status
from jlab_node.home import Home
from jlab_node.record import Record
from jlab_node.status import Standing
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
FAILS = "echo down >&2; exit 1"


def job(job_id: str, word: str, *, name: str = "jlab", start: int = NOW - 200) -> str:
    return "\x1f".join([job_id, word, "None", str(start), "N/A", "n1", name, "(null)"])


@pytest.fixture
def home() -> Home:
    made = Home(Path.home() / ".jlab")
    made.sessions.mkdir(parents=True, mode=0o700)
    return made


def upcoming(home: Home, wanted: str | None = None) -> Upcoming:
    return Upcoming(home, jobs.site(), user=USER, wanted=wanted)


def look(
    home: Home, wanted: str | None = None, *, after: str | None = None, base: str = "/nowhere"
) -> Standing:
    return status.look(
        home,
        upcoming(home, wanted),
        user=USER,
        wanted=wanted,
        after=after,
        base=Path(base),
    )


@pytest.mark.parametrize(
    ("wanted", "job_id"),
    [
        pytest.param(None, "13", id="the newest"),
        pytest.param("lab", "12", id="by its name"),
        pytest.param("slurm-12-lab", "12", id="by its id"),
    ],
)
def test_running(home: Home, commands: Commands, wanted: str | None, job_id: str) -> None:
    commands.slurm(job("12", "RUNNING"), job("13", "RUNNING"))
    sessions.publish(home.sessions, RECORD, as_of=NOW - 10)
    sessions.publish(home.sessions, replace(RECORD, name="gpu", job_id="13"))
    found = look(home, wanted)
    assert (found.state, found.job_id) == ("running", None)
    assert found.record is not None
    assert found.record.job_id == job_id
    assert found.text == f"session {found.record.name} runs on n1 in Slurm job {job_id}"


def test_a_session_whose_job_has_ended_does_not_run(home: Home, commands: Commands) -> None:
    commands.slurm()
    path = sessions.publish(home.sessions, RECORD).path
    assert look(home).state == "none"
    assert path.exists(), "connect tells how it ended"


def test_one_of_this_cluster_comes_before_a_newer_one_of_another(
    home: Home, commands: Commands
) -> None:
    commands.slurm(job("12", "RUNNING"))
    sessions.publish(home.sessions, RECORD, as_of=NOW - 10)
    other = replace(RECORD, name="far", cluster="cal2")
    sessions.publish(home.sessions, other)
    found = look(home)
    assert found.record == RECORD
    assert look(home, "far").record == other


@pytest.mark.parametrize(
    ("line", "wanted", "text"),
    [
        pytest.param(
            job("14", "PENDING"),
            None,
            "job 14 (jlab) is queued, starts any moment: PENDING",
            id="queued",
        ),
        pytest.param(
            job("14", "RUNNING"),
            "gpu",
            "job 14 (jlab) runs on n1; JupyterLab is starting",
            id="its job runs, and is perhaps of that name",
        ),
    ],
)
def test_queued(home: Home, commands: Commands, line: str, wanted: str | None, text: str) -> None:
    commands.slurm(line)
    assert look(home, wanted) == Standing("queued", text, job_id="14")


def test_starting(home: Home, commands: Commands, tmp_path: Path) -> None:
    """Here, without a job."""
    place = tmp_path / "jlab-u" / "x7k2"
    place.parent.mkdir(mode=0o700)
    place.mkdir(mode=0o700)
    (place / "starting").write_text("local-7-lab")
    with FileLock(place / "alive"):
        found = look(home, base=str(place.parent))
        assert look(home, "gpu", base=str(place.parent)).state == "none"
    assert found == Standing(
        "starting", f"session local-7-lab runs on {socket.gethostname()}; JupyterLab is starting"
    )
    assert look(home, base=str(place.parent)).state == "none", "it is dead"


@pytest.mark.parametrize("after", [None, "slurm-12-lab"])
def test_unknown(home: Home, commands: Commands, after: str | None) -> None:
    commands.slurm()
    commands.put("squeue", FAILS)
    assert look(home, after=after) == Standing("unknown", "Slurm does not answer (down)")


def test_none(home: Home, commands: Commands) -> None:
    commands.slurm(job("12", "RUNNING"), job("13", "PENDING", name="other"))
    sessions.publish(home.sessions, RECORD)
    found = look(home, "gpu")
    assert found.state == "none"
    assert found.text.startswith(
        "no session called gpu to connect to (there are: lab), and none of your other Slurm jobs "
        "(1) looks like one"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(job("12", "TIMEOUT"), "Slurm job 12 reached its time limit", id="it ended"),
        pytest.param(job("13", "RUNNING"), None, id="it is not known"),
        pytest.param(
            job("12", "RUNNING", start=NOW - 5000),
            "its jlab-node has ended, although Slurm job 12 still runs",
            id="the job lives on",
        ),
    ],
)
def test_over(
    home: Home,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    text: str | None,
) -> None:
    monkeypatch.setattr(status, "_PATIENCE", 0)
    commands.slurm(line.replace("jlab", "work"))
    why = f": {text}" if text else ""
    assert look(home, after="slurm-12-lab") == Standing("over", f"session lab is over{why}")


def test_a_job_takes_a_moment_to_end_after_its_session(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(status, "_POLL", 0.01)
    monkeypatch.setattr(status, "_PATIENCE", 60)
    asked = tmp_path / "asked"
    running, ended = job("12", "RUNNING"), job("12", "COMPLETED").replace("N/A", "1795468275")
    commands.put("squeue", f"[ -e '{asked}' ] && echo '{ended}' || echo '{running}'; >'{asked}'")
    assert status.fate("slurm-12-lab").startswith("session lab is over: Slurm job 12 has finished")
    assert commands.names == ["squeue"] * 2


def test_nobody_waits_for_the_end_of_a_process(commands: Commands) -> None:
    assert status.fate(f"local-{os.getpid()}-lab") == "session lab is over"
    assert status.fate("future-12-lab") == "session lab is over"
