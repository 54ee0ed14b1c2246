"""What children print, into a log that is slow, stuck, bounded, or a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from loopback import wait_until

from jlab_node.session import job_output

if TYPE_CHECKING:
    from pathlib import Path

# Starts `sh -c argv[1]` by a budget of so many bytes at once, and a second, and waits for its end.
PROGRAM = """
import subprocess, sys
from jlab_node.session import job_log
from jlab_node.session.job_output import Output
budget = tuple(map(float, sys.argv[2:4]))
with Output(budget) as output:
    code = subprocess.call(["sh", "-c", sys.argv[1]], stdout=output.stdout, stderr=output.stderr)
job_log.log(f"it ended with {code}")
job_log.flush()
"""
CUT = "jlab-node: JupyterLab and its kernels print more than this log takes: what follows is cut"
BUDGET = "100000", "0"


def command(script: str, budget: tuple[str, str] = BUDGET) -> list[str]:
    return [sys.executable, "-c", PROGRAM, script, *budget]


def log_of(place: Path, script: str, budget: tuple[str, str] = BUDGET) -> list[str]:
    """The lines of a job log, to which both streams go as a scheduler has it."""
    path = place / "job.log"
    with path.open("ab") as log:
        subprocess.run(command(script, budget), check=True, stdout=log, stderr=log, timeout=60)
    return path.read_text().splitlines()


def test_all_that_is_printed_gets_to_the_log_in_order(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo $i; echo $i >&2; i=$((i+1)); done; printf end"
    lines = log_of(tmp_path, script)
    both = [str(number) for number in range(500) for _ in range(2)]
    assert lines == [*both, "endjlab-node: it ended with 0"]


def test_the_streams_are_kept_apart_where_they_are_two(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        words = command("echo to one; echo to the other >&2")
        subprocess.run(words, check=True, stdout=out, stderr=err)
    assert (tmp_path / "out").read_text() == "to one\n"
    assert (tmp_path / "err").read_text().splitlines()[0] == "to the other"


def test_a_log_of_a_hundred_megabytes_is_taken_and_what_floods_it_is_not(tmp_path: Path) -> None:
    """By the budget that sessions have; jlab-node itself is always heard."""
    path = tmp_path / "job.log"
    budget = str(job_output.AT_ONCE), str(job_output.PER_SECOND)
    flood = f"yes {'x' * 99} | head -c {{}}"
    lines = log_of(tmp_path, flood.format(100_000_000), budget)
    assert lines == ["x" * 99] * 1_000_000 + ["jlab-node: it ended with 0"]
    path.unlink()
    lines = log_of(tmp_path, flood.format(300_000_000), budget)
    assert path.stat().st_size < 101 << 20
    assert lines[-3] == CUT
    assert lines[-2].startswith("jlab-node: 195")
    assert lines[-2].endswith(" KiB) were left out")
    assert lines[-1] == "jlab-node: it ended with 0"


def test_a_budget_is_refilled_and_how_much_was_left_out_is_told(tmp_path: Path) -> None:
    flood = "yes flood | head -c 300000; sleep 1; echo later"
    lines = log_of(tmp_path, flood, ("100000", "20000"))
    cut = lines.index(CUT)
    assert set(lines[: cut - 1]) == {"flood"}
    told = [line for line in lines if line.startswith("jlab-node: ")]
    assert "lines of JupyterLab and its kernels (" in told[1]
    assert lines.index(told[1]) == cut + 1, "nothing is between them"
    assert lines[-2:] == ["later", "jlab-node: it ended with 0"]


def test_a_terminal_gets_nothing_that_it_obeys() -> None:
    """Strangers can have JupyterLab log what they like."""
    ours, theirs = pty.openpty()
    tried = r"printf 'a\033]52;c;eA==\007b\302'; sleep 0.2; printf '\233x\tz\n'"
    shown = b"a?]52;c;eA==?b?x\tz\r\njlab-node: it ended with 0\r\n"
    with subprocess.Popen(command(tried), stdout=theirs, stderr=theirs) as done:
        os.close(theirs)
        found = b""
        while len(found) < len(shown):
            found += os.read(ours, 100)
    assert found == shown
    os.close(ours)
    assert done.returncode == 0


def test_a_log_that_is_stuck_stops_no_child(tmp_path: Path) -> None:
    """As one in a home that does not answer: here a pipe that nobody reads for a while."""
    budget = "1e9", "0"
    mark = tmp_path / "through"
    script = f"yes line | head -c 30000000; touch {mark}"
    reader, writer = os.pipe()
    with subprocess.Popen(command(script, budget), stdout=writer, stderr=writer) as process:
        os.close(writer)
        wait_until(mark.exists, "the child is through")
        with os.fdopen(reader, "rb") as log:
            lines = log.read().decode().splitlines()
        assert process.wait(timeout=30) == 0
    assert CUT in lines
    assert lines[0] == "line"
    assert lines.count("line") < 6_000_000 - 1_000_000, "not all of it was kept in memory"


def test_a_log_that_is_slow_gets_all_of_it() -> None:
    budget = "1e9", "0"
    reader, writer = os.pipe()
    with subprocess.Popen(
        command("yes line | head -c 20000000", budget), stdout=writer, stderr=writer
    ) as process:
        os.close(writer)
        size = 0
        while chunk := os.read(reader, 1 << 20):
            size += len(chunk)
            time.sleep(0.001)
        os.close(reader)
        assert process.wait(timeout=30) == 0
    assert size == 20_000_000 + len("jlab-node: it ended with 0\n")
