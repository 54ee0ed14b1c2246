"""Records that come and go, as fast as they can, while connections look for a session."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, stop, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full

# Sessions begin and end, are killed and buried; and files come that are no records.
CHURN = """
import os, random, sys, time
from dataclasses import replace
from pathlib import Path
from jlab_node.registry import record, tombstones
from jlab_node.registry import records as sessions
directory = Path(sys.argv[1])
live = record.parse(next(directory.glob("[a-z]*")).read_text())
ended = replace(live, ssh_port=1, scheduler="future", node="nowhere")
(directory.parent / "churning").touch()
while True:
    time.sleep(0.001)  # faster than anybody can look, and the others have a turn
    number = random.randrange(20)
    other = replace(ended, job_id=str(number), name=f"s{number}", token=f"{number:064x}")
    path = directory / other.id
    if path.is_dir():
        path.rmdir()
    what = random.randrange(7)
    if what == 0:
        sessions.publish(directory, other)
    elif what == 1:
        sessions.remove(sessions.StoredRecord(path, other))
    elif what == 2:
        tombstones.mark_ended(sessions.publish(directory, other))
    elif what == 3:
        tombstones.remove(directory, other.scheduler, other.job_id)
    elif what == 4:
        text = record.render(other)
        path.write_text(text[: random.randrange(len(text))])
    elif what == 5:
        path.write_bytes(os.urandom(64))
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
"""
ROUNDS = 150


@pytest.fixture
def site() -> Iterator[Loopback]:
    """With a session, among records that come and go."""
    with Loopback() as made:
        made.wait_for_session(made.start_session())
        sessions = made.home / ".jlab" / "sessions"
        churn = subprocess.Popen([sys.executable, "-c", CHURN, str(sessions)])
        made.add_process(churn)
        wait_until((made.home / ".jlab" / "churning").exists, "it has begun")
        yield made
        assert churn.poll() is None
        stop(churn)


def greeting(site: Loopback, command: list[str]) -> tuple[bytes, bytes]:
    """The first bytes that come from the session by this command; and what is said."""
    with subprocess.Popen(
        command,
        env=site.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(8)
        _, said = process.communicate(timeout=60)  # closes its stdin: the laptop is gone
    return first, said


@pytest.mark.timeout(600)  # a slow machine is slow at this
def test_the_session_is_always_found(site: Loopback) -> None:
    """By bash alone, or by the Python that it calls when a file is no use."""
    connect = ["bash", str(site.home / ".jlab" / "connect")]
    commands = [connect, [*connect, "--session=lab"], site.node("connect")]

    def look(turn: int) -> None:
        command = commands[-1] if turn % 6 == 0 else commands[turn % 2]
        stdout, stderr = greeting(site, command)
        assert stdout == b"SSH-2.0-", (turn, stdout, stderr)
        assert b"Traceback" not in stderr
        for line in stderr.splitlines():
            assert line.startswith(b"jlab-node: "), (turn, stderr)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(look, range(ROUNDS)))


def test_nothing_is_found_that_is_not_there(site: Loopback) -> None:
    connect = ["bash", str(site.home / ".jlab" / "connect"), "--session=none"]
    for _ in range(5):
        stdout, stderr = greeting(site, connect)
        assert stdout == b""
        assert b"Traceback" not in stderr
        assert b"no session called none" in stderr
