"""Figures: medians, spreads, ratios, goals; as a table, as JSON and as docs/performance.md."""

from __future__ import annotations

import platform
import re
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEGIN, _END = "<!-- figures: scripts/bench --write -->", "<!-- end of the figures -->"


@dataclass(frozen=True)
class Row:
    """One line of the table: `ours` beside `theirs`; without those, a figure by itself."""

    what: str
    against: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    goal: float | None = None
    at_least: bool = False  # the goal is a lower limit
    note: str = ""

    @property
    def value(self) -> float:
        """What the goal is about: the ratio of the medians, or the median."""
        middle = statistics.median(self.ours)
        return middle / statistics.median(self.theirs) if self.theirs else middle

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        met = self.value >= self.goal if self.at_least else self.value <= self.goal
        return "met" if met else "MISSED"

    def cells(self) -> list[str]:
        """What the table has in its columns."""
        limit = "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:g}"
        ratio = f"{self.value:.2f}" if self.theirs else ""
        ours, theirs = (spread(each, self.unit) for each in (self.ours, self.theirs))
        return [self.what, ours, self.against, theirs, ratio, limit, self.verdict, self.note]


@dataclass(frozen=True)
class NotMeasured:
    """A row that could not be had here, and why."""

    what: str
    why: str

    def cells(self) -> list[str]:
        return [self.what, "not measured", "", "", "", "", "", self.why]


HEAD = ["what", "ours", "against", "theirs", "ratio", "goal", "", "remark"]


def spread(values: Sequence[float], unit: str) -> str:
    """Median, and in brackets minimum and maximum where there are several."""
    if not values:
        return ""
    middle = f"{_short(statistics.median(values))} {unit}".rstrip()
    if len(values) == 1:
        return middle
    return f"{middle} ({_short(min(values))}-{_short(max(values))}, n={len(values)})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Report:
    """All rows of one run, and where and when that was."""

    place: str
    rows: Sequence[Row | NotMeasured]
    machine: str
    date: str

    def table(self) -> str:
        """For a terminal."""
        lines = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
            for line in lines
        ]
        return "\n".join([f"{self.place}; {self.machine}; {self.date}", *text])

    def as_json(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            more = {"value": row.value, "verdict": row.verdict} if isinstance(row, Row) else {}
            rows.append({**asdict(row), **more})
        return {"place": self.place, "machine": self.machine, "date": self.date, "rows": rows}

    def markdown(self) -> str:
        lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"On the {self.place}; {self.machine}; {self.date}.\n\n{table}"

    def write(self, path: Path) -> None:
        """Put the figures where `path` has those of another run."""
        before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
        _, mark, after = rest.partition(_END)
        if not mark:
            raise ValueError(f"{path} has no place for figures: {_BEGIN} ... {_END}")
        text = f"{before}{_BEGIN}\n\n{self.markdown()}\n\n{_END}{after}"
        path.write_text(text, encoding="utf-8")


def today() -> str:
    return time.strftime("%Y-%m-%d")


def machine() -> str:
    """Processor and versions, as far as they make a difference."""
    cpus = [line for line in _text("/proc/cpuinfo").splitlines() if line.startswith("processor")]
    model = re.search(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="(.*)"$', _text("/etc/os-release"), re.MULTILINE)
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    return ", ".join(
        [
            f"{len(cpus)} x {model[1] if model else platform.machine()}",
            system[1] if system else platform.platform(),
            said.split(" ", 1)[0].split(",")[0].replace("_", " "),
            f"Python {platform.python_version()}",
        ]
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
