"""What a scheduler's answers say of sessions: of one by its job, of many by a list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jlab_node.jobs import liveness
from jlab_node.jobs.liveness import JobEnded, JobSnapshot, JobSuspended, Remains
from jlab_node.registry.clock_tolerance import FAR
from jlab_node.schedulers.base import State, Status
from tests.jlab_node.conftest import JOB_12

NOW = 1_800_000_000
DAY = 86400
RECORD = replace(JOB_12, started=NOW - 5000)
SLURM = JobSnapshot("slurm", "cal1", frozenset({"11"}), NOW)
OAR = JobSnapshot("oar", "", frozenset({"11"}), NOW)
LOCAL = JobSnapshot("local", "n1", frozenset({"11"}), NOW)
PBS = JobSnapshot("pbs", "cal1", frozenset({"11", "12[]"}), NOW)


@pytest.mark.parametrize(
    ("snapshot", "changes", "contains", "has_ended"),
    [
        pytest.param(SLURM, {"job_id": "11"}, True, False, id="listed"),
        pytest.param(SLURM, {}, False, True, id="not listed"),
        pytest.param(SLURM, {"cluster": "cal2"}, None, False, id="another cluster"),
        pytest.param(SLURM, {"cluster": ""}, False, False, id="perhaps another cluster"),
        pytest.param(SLURM, {"scheduler": "oar"}, None, False, id="another scheduler"),
        pytest.param(SLURM, {"started": NOW - FAR + 1}, False, False, id="perhaps since"),
        pytest.param(SLURM, {"started": NOW - FAR}, False, True, id="not since"),
        pytest.param(SLURM, {"started": None}, False, False, id="who knows since when"),
        pytest.param(LOCAL, {"scheduler": "local"}, False, True, id="no such process"),
        pytest.param(
            LOCAL, {"scheduler": "local", "job_id": "11"}, True, False, id="such a process"
        ),
        pytest.param(
            LOCAL, {"scheduler": "local", "node": "n2"}, None, False, id="another machine"
        ),
        pytest.param(LOCAL, {"scheduler": "local", "cluster": ""}, False, True, id="nameless"),
        pytest.param(OAR, {"scheduler": "oar"}, False, False, id="this one has no name"),
        pytest.param(LOCAL, {"cluster": "n1"}, None, False, id="in a job"),
        pytest.param(replace(SLURM, is_complete=False), {}, None, False, id="cut short"),
        pytest.param(
            replace(SLURM, is_complete=False), {"job_id": "11"}, True, False, id="listed in half"
        ),
        pytest.param(
            PBS, {"scheduler": "pbs", "job_id": "12[4]"}, None, False, id="of a listed array"
        ),
        pytest.param(
            PBS, {"scheduler": "pbs", "job_id": "13[4]"}, False, True, id="of another array"
        ),
    ],
)
def test_snapshot_contains_and_job_has_ended(
    snapshot: JobSnapshot, changes: dict[str, object], *, contains: bool | None, has_ended: bool
) -> None:
    record = replace(RECORD, **changes)  # type: ignore[arg-type]
    assert snapshot.contains(record) is contains
    assert snapshot.job_has_ended(record) is has_ended


@pytest.mark.parametrize(
    ("queued", "runs"), [({"11"}, False), ({"12"}, True)], ids=["it waits again", "another waits"]
)
def test_session_of_a_job_that_is_queued_again_runs_no_more(
    queued: set[str], *, runs: bool
) -> None:
    record = replace(RECORD, job_id="11")
    snapshot = replace(SLURM, queued=frozenset(queued))
    assert snapshot.runs(record) is runs
    assert not snapshot.job_has_ended(record), "its record is the new session's to replace"
    assert snapshot.runs(replace(record, cluster="cal2")) is None


@pytest.mark.parametrize(
    ("ends_at", "is_over"),
    [
        pytest.param(NOW - DAY - 1, True, id="a day ago"),
        pytest.param(NOW - DAY + 1, False, id="today: it may have been made longer"),
        pytest.param(NOW + 1, False, id="to come"),
        pytest.param(None, False, id="not known"),
    ],
)
def test_a_cluster_without_a_name(ends_at: int | None, *, is_over: bool) -> None:
    """A job that it does not list may be that of another which has this home."""
    record = replace(RECORD, scheduler="oar", cluster="", ends_at=ends_at)
    assert OAR.contains(record) is False
    assert OAR.job_has_ended(record) is is_over
    assert not OAR.job_has_ended(replace(record, job_id="11"))


RUNS = Status("12", State.RUNNING, starts_at=NOW - 6000)
RESTARTED = Status("12", State.RUNNING, starts_at=NOW)
ENDED = Status("12", State.ENDED, reason="failed")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        pytest.param(None, None, id="nobody can tell"),
        pytest.param(RUNS, None, id="it runs"),
        pytest.param(ENDED, JobEnded("Slurm job 12 failed"), id="it has ended"),
        pytest.param(RESTARTED, JobEnded("Slurm job 12 was started again"), id="restarted"),
        pytest.param(
            replace(RUNS, reason="is suspended"),
            JobSuspended("Slurm job 12 is suspended"),
            id="suspended",
        ),
    ],
)
def test_verdict_by_the_jobs_state(
    status: Status | None, verdict: JobEnded | JobSuspended | None
) -> None:
    assert liveness.verdict_on_session(replace(RECORD, job_started=NOW - 6000), status) == verdict


@pytest.mark.parametrize(
    ("status", "job_started", "remains"),
    [
        pytest.param(None, None, Remains.NOTHING, id="nobody can tell"),
        pytest.param(ENDED, None, Remains.NOTHING, id="it has ended"),
        pytest.param(RUNS, None, Remains.TOMBSTONE, id="it goes on"),
        pytest.param(
            RESTARTED, NOW - 6000, Remains.TOMBSTONE, id="restarted, by the scheduler's clock"
        ),
        pytest.param(
            replace(RESTARTED, starts_at=NOW + FAR), None, Remains.RECORD, id="by two clocks"
        ),
    ],
)
def test_what_remains_by_the_jobs_state(
    status: Status | None, job_started: int | None, remains: Remains
) -> None:
    assert (
        liveness.what_remains_of_session(replace(RECORD, job_started=job_started), status)
        is remains
    )
