"""The user's directory on the node, with many sessions in it: in real life the node's /tmp."""

from __future__ import annotations

import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from jlab_node import sockets
from jlab_node.sockets import SessionDirectory

if TYPE_CHECKING:
    from pathlib import Path

MANY = 30


def live(base: Path, number: int, everyone: threading.Barrier) -> None:
    """The directory's part of a session's life, beside others that do the same."""
    with SessionDirectory(base, f"n{number}", f"local-{number + 1}-n{number}") as place:
        place.reserve_port()
        for name in ("lab", f"n{number}"):
            place.socket(name).touch()
        place.take_links()
        for _ in ("all are there", "all have been looked at"):
            everyone.wait(timeout=120)


def test_many_sessions_begin_and_end_at_once(base: Path) -> None:
    """None waits for the others so long that it gives up; locks hold between threads as well."""
    everyone = threading.Barrier(MANY + 1)
    with ThreadPoolExecutor(MANY) as pool:
        lives = [pool.submit(live, base, number, everyone) for number in range(MANY)]
        everyone.wait(timeout=120)
        starting = sockets.starting(base)
        ports = [path.read_text() for path in base.glob("*/port")]
        links = list(base.glob("n*.sock"))
        everyone.wait(timeout=120)
        assert [each.result() for each in lives] == [None] * MANY
    assert len(starting) == len(set(ports)) == len(ports) == len(links) == MANY
    assert [path.name for path in base.iterdir()] == ["lock"]


@pytest.fixture
def killed(base: Path) -> Path:
    """A session's directory, and its links, after a SIGKILL: nobody holds its lock."""
    dead = base / "dead"
    dead.mkdir()
    for name in ("alive", "starting", "lab.sock"):
        (dead / name).write_text("local-1-lab")
    (base / "lab.sock").symlink_to("dead/lab.sock")
    return dead


def test_what_a_killed_session_left_is_cleared_away(base: Path, killed: Path) -> None:
    with SessionDirectory(base, "a", "local-2-a") as place:
        assert not killed.exists()
        killed.mkdir()
        place.socket("lab").touch()
        place.tend()
        assert not killed.exists()
        assert (base / "lab.sock").resolve() == place.socket("lab")


def test_nothing_is_cleared_away_while_another_is_at_it(base: Path, killed: Path) -> None:
    place = SessionDirectory(base, "a", "local-2-a")
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.tend()
    assert killed.exists()
    place.tend()
    assert not killed.exists()


def test_who_looks_keeps_nobody_from_looking(base: Path, killed: Path) -> None:
    with (killed / "alive").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert sockets.starting(base) == []
        fcntl.flock(other, fcntl.LOCK_EX)
        assert sockets.starting(base) == ["local-1-lab"], "that is how its own session holds it"


def test_a_lock_that_is_a_link_is_none(base: Path, killed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    (killed / "alive").unlink()
    (killed / "alive").symlink_to(other)
    with other.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sockets.starting(base) == []
