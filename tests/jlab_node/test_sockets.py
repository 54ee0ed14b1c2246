"""The user's directory on the node, with many sessions in it: in real life the node's /tmp."""

from __future__ import annotations

import fcntl
import os
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
        links = list(base.glob("n*.sock"))
        everyone.wait(timeout=120)
        assert [each.result() for each in lives] == [None] * MANY
    assert len(starting) == len(links) == MANY
    assert [path.name for path in base.iterdir()] == ["lock"]


@pytest.fixture
def killed(base: Path) -> Path:
    return kill_one(base)


def kill_one(base: Path) -> Path:
    """A session's directory, and its links, after a SIGKILL: nobody holds its lock."""
    dead = base / "dead"
    dead.mkdir()
    for name in ("alive", "starting", "lab.sock"):
        (dead / name).write_text("local-1-lab")
    (base / "lab.sock").unlink(missing_ok=True)
    (base / "lab.sock").symlink_to("dead/lab.sock")
    return dead


def leads_to(base: Path, name: str) -> Path:
    return (base / f"{name}.sock").resolve().parent


def with_sockets(place: SessionDirectory, *names: str, made: int) -> None:
    for name in names:
        path = place.socket(name)
        path.touch()
        os.utime(path, (made, made))
    place.take_links()


def test_a_link_leads_to_the_newest_socket_of_its_name(base: Path) -> None:
    """Whoever takes the links last, and whichever session ends first."""
    with SessionDirectory(base, "old", "local-1-old") as old:
        with_sockets(old, "lab", "dask", made=100)
        with SessionDirectory(base, "newest", "local-2-newest") as newest:
            with_sockets(newest, "lab", "newest", made=300)
            with SessionDirectory(base, "new", "local-3-new") as new:
                with_sockets(new, "lab", "dask", made=200)
                assert leads_to(base, "lab") == leads_to(base, "newest") == newest.path
                assert leads_to(base, "dask") == new.path
                with_sockets(old, "dask", made=400)  # exposed anew
                assert leads_to(base, "dask") == old.path
                old.socket("dask").unlink()  # exposed no more
                old.take_links()
                assert leads_to(base, "dask") == new.path
            assert not (base / "dask.sock").is_symlink()
            assert leads_to(base, "lab") == newest.path
        assert not (base / "newest.sock").is_symlink()
        assert leads_to(base, "lab") == old.path


def test_what_a_killed_session_left_is_cleared_away(base: Path, killed: Path) -> None:
    with SessionDirectory(base, "a", "local-2-a") as place:
        assert not killed.exists()
        place.socket("lab").touch()
        kill_one(base)
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
