"""How it stands with a session: by records, and by little programs that are a scheduler's."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node.commands import status
from jlab_node.commands.status import SessionStatus
from jlab_node.jobs import detection
from jlab_node.jobs.pending import PendingSessions
from jlab_node.registry import home as homes
from jlab_node.registry import records
from jlab_node.runtime.session_directory import SessionDirectory
from tests.jlab_node.conftest import FAILS, Job

if TYPE_CHECKING:
    from jlab_node.registry.home import Home
    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands

USER = homes.user()


def pending(home: Home, wanted: str | None = None) -> PendingSessions:
    return PendingSessions(home, detection.site(), user=USER, wanted=wanted)


def look(
    home: Home, wanted: str | None = None, *, after: str | None = None, base: str = "/nowhere"
) -> SessionStatus:
    return status.session_status(
        home,
        pending(home, wanted),
        user=USER,
        wanted=wanted,
        after=after,
        runtime_dir=Path(base),
    )


@pytest.mark.parametrize(
    ("wanted", "job_id"),
    [
        pytest.param(None, "13", id="the newest"),
        pytest.param("lab", "12", id="by its name"),
        pytest.param("slurm-12-lab", "12", id="by its id"),
    ],
)
def test_status_of_a_session_that_runs(
    home: Home, commands: Commands, record: Record, wanted: str | None, job_id: str
) -> None:
    commands.slurm(Job("12", "RUNNING", start=-200), Job("13", "RUNNING", start=-200))
    records.publish(home.sessions, record, mtime=time.time() - 10)
    records.publish(home.sessions, replace(record, name="gpu", job_id="13"))
    found = look(home, wanted)
    assert (found.state, found.job_id) == ("running", None)
    assert found.record is not None
    assert found.record.job_id == job_id
    assert found.text == f"session {found.record.name} runs on n1 in Slurm job {job_id}"


def test_a_session_whose_job_has_ended_does_not_run(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm()
    path = records.publish(home.sessions, record).path
    assert look(home).state == "none"
    assert path.exists(), "connect tells how it ended"


def test_session_of_another_cluster_of_this_home_never_runs_here(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(Job("12", "RUNNING", start=-200))
    records.publish(home.sessions, record, mtime=time.time() - 10)
    other = replace(record, name="far", cluster="cal2")
    records.publish(home.sessions, other)
    found = look(home)
    assert found.record == record
    far = look(home, "far")
    assert (far.state, far.record) == (status.NONE, None)
    assert far.text.startswith(f"session far runs on {other.node} in Slurm job 12 of cluster cal2,")
    records.remove(*(each for each in records.read_all(home.sessions)[0] if each.record == record))
    commands.slurm(Job("13", "PENDING"))
    assert (look(home).state, look(home).job_id) == (status.QUEUED, "13"), "it hides no job of here"


@pytest.mark.parametrize(
    ("line", "wanted", "text"),
    [
        pytest.param(
            Job("14", "PENDING", start=-200),
            None,
            "job 14 (jlab) is queued, starts any moment: PENDING",
            id="queued",
        ),
        pytest.param(
            Job("14", "RUNNING", start=-200, name="my-jlab"),
            "gpu",
            "job 14 (my-jlab) runs on n1; JupyterLab is starting",
            id="its job runs, and is perhaps of that name",
        ),
    ],
)
def test_status_of_a_queued_job(
    home: Home, commands: Commands, line: Job, wanted: str | None, text: str
) -> None:
    commands.slurm(line)
    assert look(home, wanted) == SessionStatus("queued", text, job_id="14")


@pytest.mark.parametrize("wanted", [None, "lab"])
def test_status_of_a_starting_job_just_after_another_look_is_queued(
    home: Home, commands: Commands, wanted: str | None
) -> None:
    """A list that somebody else has just been given does not tell that a job still runs."""
    commands.slurm(Job("12", "RUNNING", start=-20))
    pending(home).refresh(max_age=0)
    found = look(home, wanted)
    assert (found.state, found.job_id) == (status.QUEUED, "12")


def test_status_of_a_job_submitted_just_after_another_look_is_queued(
    home: Home, commands: Commands
) -> None:
    commands.slurm()
    pending(home).refresh(max_age=0)
    commands.slurm(Job("12", "PENDING"))
    assert look(home).job_id == "12"


def test_status_of_a_session_that_is_starting(
    home: Home, commands: Commands, tmp_path: Path
) -> None:
    """Here, without a job."""
    base = tmp_path / "jlab-u"
    with SessionDirectory(base, "lab", "local-7-lab"):
        found = look(home, base=str(base))
        assert look(home, "gpu", base=str(base)).state == "none"
    assert found == SessionStatus(
        "starting", f"session local-7-lab runs on {socket.gethostname()}; JupyterLab is starting"
    )
    assert look(home, base=str(base)).state == "none", "it is over"


@pytest.mark.parametrize("after", [None, "slurm-12-lab"])
def test_status_without_an_answer_is_unknown(
    home: Home, commands: Commands, after: str | None
) -> None:
    commands.slurm()
    commands.put("squeue", FAILS)
    assert look(home, after=after) == SessionStatus("unknown", "Slurm does not answer (down)")


def test_status_without_session_or_job_is_none(
    home: Home, commands: Commands, record: Record
) -> None:
    commands.slurm(Job("12", "RUNNING", start=-200), Job("13", "PENDING", name="other"))
    records.publish(home.sessions, record)
    found = look(home, "gpu")
    assert found.state == "none"
    assert found.text.startswith(
        "no session called gpu to connect to (there are: lab), and none of your other Slurm jobs "
        "(1) looks like a session"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(
            Job("12", "TIMEOUT", start=-200), "Slurm job 12 reached its time limit", id="it ended"
        ),
        pytest.param(Job("13", "RUNNING", start=-200), None, id="it is not known"),
        pytest.param(
            Job("12", "RUNNING", start=-5000),
            "its jlab-node has ended, although Slurm job 12 still runs",
            id="the job lives on",
        ),
    ],
)
def test_status_of_a_session_that_has_ended(
    home: Home,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    line: Job,
    text: str | None,
) -> None:
    monkeypatch.setattr(status, "_JOB_END_TIMEOUT", 0)
    commands.slurm(replace(line, name="work"))
    why = f": {text}" if text else ""
    assert look(home, after="slurm-12-lab") == SessionStatus("over", f"session lab is over{why}")


def test_a_job_takes_a_moment_to_end_after_its_session(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(status, "_POLL", 0.01)
    monkeypatch.setattr(status, "_JOB_END_TIMEOUT", 60)
    asked = tmp_path / "asked"
    running, ended = Job("12", "RUNNING", start=-200), Job("12", "COMPLETED", start=-200, end=0)
    commands.put("squeue", f"[ -e '{asked}' ] && echo '{ended}' || echo '{running}'; >'{asked}'")
    assert status.what_became_of("slurm-12-lab").startswith(
        "session lab is over: Slurm job 12 has finished"
    )
    assert commands.names == ["squeue"] * 2


def test_nobody_waits_for_the_end_of_a_process(commands: Commands) -> None:
    assert status.what_became_of(f"local-{os.getpid()}-lab") == "session lab is over"
    assert status.what_became_of("future-12-lab") == "session lab is over"
