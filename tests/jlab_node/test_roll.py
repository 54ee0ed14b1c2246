"""What one list of jobs says of records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jlab_node.jobs.liveness import Roll
from jlab_node.registry.clock_tolerance import FAR
from tests.jlab_node.conftest import JOB_12

NOW = 1_800_000_000
DAY = 86400
RECORD = replace(JOB_12, started=NOW - 5000)
SLURM = Roll("slurm", "cal1", frozenset({"11"}), NOW)
OAR = Roll("oar", "", frozenset({"11"}), NOW)
LOCAL = Roll("local", "n1", frozenset({"11"}), NOW)


@pytest.mark.parametrize(
    ("roll", "changes", "lists", "is_over"),
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
    ],
)
def test_what_it_says(
    roll: Roll, changes: dict[str, object], *, lists: bool | None, is_over: bool
) -> None:
    record = replace(RECORD, **changes)  # type: ignore[arg-type]
    assert roll.lists(record) is lists
    assert roll.is_over(record) is is_over


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
    assert OAR.lists(record) is False
    assert OAR.is_over(record) is is_over
    assert not OAR.is_over(replace(record, job_id="11"))
