"""scripts/bench measures: here only that it does, and that its verdicts follow from its figures."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from benchmarks.report import NotMeasured, Report, Row, spread
from loopback import finished

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.full
def test_a_quick_run_on_loopback(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = [
        "--loopback",
        "--quick",
        "--json",
        str(figures),
        "--only",
        "throughput",
        "login-node",
    ]
    done = finished(
        [sys.executable, "-m", "benchmarks", *options],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    rows = {row["what"]: row for row in found["rows"]}
    upload = rows["0.01 GB to the job"]
    assert len(upload["ours"]) == len(upload["theirs"]) == 2
    assert min(upload["ours"]) > 0
    assert rows["login node: processes per open connection"]["value"] == 3
    assert all(what in done.stdout for what in rows)
    assert "there is no scheduler here" in done.stdout


@pytest.mark.parametrize(
    ("ours", "theirs", "more", "value", "verdict"),
    [
        pytest.param([1.0, 2, 9], [2.0], {"goal": 1.0}, 1.0, "met", id="a ratio of medians"),
        pytest.param([2.1], [2.0], {"goal": 1.0}, 1.05, "MISSED", id="a little too slow"),
        pytest.param([9.0], [10.0], {"goal": 0.95, "at_least": True}, 0.9, "MISSED", id="too few"),
        pytest.param([10.0], [10.0], {"goal": 0.95, "at_least": True}, 1.0, "met", id="enough"),
        pytest.param([26.0], [], {"goal": 25.0}, 26.0, "MISSED", id="a figure by itself"),
        pytest.param([3.0], [], {}, 3.0, "", id="no goal"),
    ],
)
def test_verdict(
    ours: Sequence[float], theirs: Sequence[float], more: Any, value: float, verdict: str
) -> None:
    row = Row("x", "y", "s", ours, theirs, **more)
    assert row.value == pytest.approx(value)
    assert row.verdict == verdict


def test_spread() -> None:
    assert spread([3.0, 1.0, 250.0], "ms") == "3 ms (1-250, n=3)"
    assert spread([0.12345], "s") == "0.123 s"
    assert spread([], "s") == ""


def test_write_replaces_the_figures_alone(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text((SCRIPTS.parent / "docs/performance.md").read_text())
    for value in (1.0, 2.0):
        first = Row("first", "ssh -J", "s", [value], [1.0], 1.5)
        second = NotMeasured("second", "because")
        Report("here", [first, second], "a machine", "2026-11-25").write(path)
    text = path.read_text()
    assert "| first | 2 s | ssh -J | 1 s | 2.00 | <= 1.5 | MISSED |  |" in text
    assert "| second | not measured |" in text
    assert "| first | 1 s" not in text
    assert text.startswith("# ")
    assert "srun --overlap" in text


def test_write_where_there_is_no_place_for_figures(tmp_path: Path) -> None:
    path = tmp_path / "other.md"
    path.write_text("nothing\n")
    with pytest.raises(ValueError, match="no place for figures"):
        Report("here", [], "a machine", "2026-11-25").write(path)
    assert path.read_text() == "nothing\n"
