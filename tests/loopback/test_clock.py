"""The clock is set while sessions run: what is published has times of an hour ago, or to come."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from loopback import finished

from tests.loopback.light import light

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from loopback import Loopback

JUMPS = {"back": 3600, "forward": -3600}  # how much later than now is what was before


def date(record: Path, later: int, **changes: int | str) -> None:
    """Make the record one that was published so much later; with these values."""
    lines = [f"{key}={value}" for key, value in changes.items()]
    kept = [line for line in record.read_text().splitlines() if line.split("=")[0] not in changes]
    record.write_text("\n".join([*kept[:-1], *lines, kept[-1]]) + "\n")
    os.utime(record, (time.time() + later, time.time() + later))


def connect(site: Loopback) -> subprocess.CompletedProcess[str]:
    """What ssh starts on the login node; it ends when it has said who it is."""
    return finished(["bash", str(site.home / ".jlab" / "connect"), "--columns=80"], env=site.env)


@pytest.mark.parametrize("later", JUMPS.values(), ids=JUMPS)
def test_a_dead_session_of_another_time(site: Loopback, later: int) -> None:
    """It is no trap for whoever wants the one that lives, whichever looks newer."""
    dead = site.start_session("--name", "old", *light(site.root))
    record = site.wait_for_session(dead)
    dead.kill()
    dead.wait()
    date(record, later, started=int(time.time()) + later)
    living = site.start_session("--name", "new", *light(site.root))
    site.wait_for_session(living)
    said = connect(site)
    assert "jlab-node: session new on " in said.stderr
    assert ("session old is over" in said.stderr) == (later > 0)
    assert connect(site).stderr.startswith("jlab-node: session new on ")


@pytest.mark.parametrize("later", JUMPS.values(), ids=JUMPS)
def test_a_session_whose_end_seems_to_be_over(site: Loopback, later: int) -> None:
    """It is the session that knows whether it lives, not the clock."""
    session = site.start_session(*light(site.root))
    record = site.wait_for_session(session)
    now = int(time.time())
    date(record, later, started=now + later, ends_at=now - 3600)
    said = connect(site)
    assert "0 h 0 min left" in said.stderr
    listed = finished(site.node("status"), env=site.env)
    assert listed.returncode == 0
    assert "Traceback" not in listed.stderr
    assert listed.stdout.startswith("session lab ")
    session.terminate()
    assert session.wait(timeout=30) == 143
    assert site.records() == []
