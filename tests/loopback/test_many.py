"""Ten thousand records, twenty sessions, twenty connections at once."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loopback import ANCESTORS, Loopback, finished, free_port, wait_until

from jlab_node.registry.record import Record, render

from .light import light

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

RECORDS = 10_000
MANY = 20
LONG_AGO = 1_000_000_000

OLD = Record(
    name="lab",
    node=socket.gethostname(),
    port=1,
    token="f" * 64,
    ssh_port=1,  # where nothing listens
    nonce="0123456789abcdef" * 2,
    user="x",
    started=1,
)


@pytest.fixture
def crowd() -> Iterator[Loopback]:
    """A login node that takes many connections at the same moment; the laptop is set up for it."""
    with Loopback(sshd_options=["MaxStartups 1000"]) as site:
        subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
        setup = site.proxy("setup", "demo", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        yield site


def start(site: Loopback, name: str = "lab") -> subprocess.Popen[bytes]:
    """A session of a server that is quickly there."""
    return site.start_session("--name", name, *light(site.root))


def start_among_none(site: Loopback) -> Path:
    """The record of a session that has cleared away what was there, and looks no more."""
    leave_behind(site, 1, since=LONG_AGO)
    path = site.wait_for_session(start(site))
    wait_until(lambda: site.records() == [path], "the other record is cleared away")
    return path


def leave_behind(site: Loopback, count: int, *, since: int, name: str = "lab") -> None:
    """Records of sessions that were killed without a warning, published in that second."""
    sessions = site.home / ".jlab" / "sessions"
    for number in range(count):
        record = replace(OLD, name=name, job_id=f"9999{number}", token=f"{number:064x}")
        path = sessions / record.id
        path.write_text(render(record))
        os.utime(path, (since, since))


def ssh(site: Loopback, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(site.ssh(*arguments), timeout=250)


def test_below_ten_thousand_newer_records_is_one_that_lives(crowd: Loopback) -> None:
    """That is told in two lines, and the next one finds it at once."""
    path = start_among_none(crowd)
    leave_behind(crowd, RECORDS, since=2 * LONG_AGO)
    done = ssh(crowd, "jlab+demo", "echo here")
    assert done.stdout == "here\n", done.stderr
    first, second = done.stderr.splitlines()
    assert first.endswith("has ended; its record is removed")
    assert second.endswith(
        f"{RECORDS - 1} other sessions are over as well; their records are removed"
    )
    assert crowd.records() == [path]


def test_the_newest_is_found_above_ten_thousand_records(crowd: Loopback) -> None:
    """By a little bash alone: the way is quick."""
    path = start_among_none(crowd)
    leave_behind(crowd, RECORDS, since=LONG_AGO)
    (crowd.home / ".jlab" / "jlab-node").write_text("echo the slow way >&2; exit 1\n")
    for host in ("jlab+demo", "jlab+demo+lab"):
        done = ssh(crowd, host, "echo here")
        assert (done.stdout, done.stderr) == ("here\n", "")
    assert len(crowd.records()) == RECORDS + 1
    assert path.exists()


def test_a_session_clears_away_what_others_left(crowd: Loopback) -> None:
    """But for one of each name: whoever connects to that is told how it ended."""
    leave_behind(crowd, 5, since=LONG_AGO)
    leave_behind(crowd, 5, since=LONG_AGO, name="gpu")
    living = crowd.wait_for_session(start(crowd))

    def are_gone() -> bool:
        return [each.name.endswith("-gpu") for each in crowd.records() if each != living] == [True]

    wait_until(are_gone, "all but one are removed")
    assert living.exists()
    done = ssh(crowd, "jlab+demo+gpu", "true")
    assert "session gpu is over: its process" in done.stderr


def test_many_sessions_on_one_node(crowd: Loopback) -> None:
    """Each is reached by its name; none is mixed up with another; all leave nothing behind."""
    sessions = {f"n{number}": start(crowd, f"n{number}") for number in range(MANY)}
    for session in sessions.values():
        crowd.wait_for_session(session)
    for name in ("n0", f"n{MANY // 2}", f"n{MANY - 1}"):
        done = ssh(crowd, f"jlab+demo+{name}", ANCESTORS)
        assert str(sessions[name].pid) in done.stdout.split(), done.stderr
    for session in sessions.values():
        session.terminate()
    assert [session.wait(timeout=200) for session in sessions.values()] == [143] * MANY
    assert crowd.records() == []
    wait_until(lambda: [each.name for each in crowd.tmp.iterdir()] == ["lock"], "all is gone")


def test_many_connections_to_one_session(crowd: Loopback) -> None:
    crowd.wait_for_session(start(crowd))
    connections = [
        subprocess.Popen(
            crowd.ssh("jlab+demo", "echo here; cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(MANY)
    ]
    said = [each.stdout.readline() for each in connections if each.stdout]
    assert said == ["here\n"] * MANY, "all are there at the same time"
    for number, each in enumerate(connections):
        assert each.communicate(f"{number}\n", timeout=200)[0] == f"{number}\n"
    assert [each.returncode for each in connections] == [0] * MANY
