"""Durations as schedulers write them."""

from __future__ import annotations

import pytest

from jlab_node.schedulers import parsing


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [(0, "0:00:00"), (59, "0:00:59"), (3599, "0:59:59"), (3600, "1:00:00"), (360061, "100:01:01")],
)
def test_clock_renders_a_duration(seconds: int, clock: str) -> None:
    assert parsing.clock(seconds) == clock
    assert parsing.seconds(clock) == seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("05:30", 330),
        ("1-00:00:00", 86400),
        ("2-12:30:05", 217805),
        ("0-0:0:1", 1),
        ("1-00:00", None),
        ("5", None),
        ("", None),
        ("infinite", None),
        ("-1:00:00", None),
    ],
)
def test_seconds_parses_a_duration(written: str, seconds: int | None) -> None:
    assert parsing.seconds(written) == seconds
