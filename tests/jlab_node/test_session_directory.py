"""The user's directory on the node, with many sessions in it: in real life the node's /tmp."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from jlab_node import process_id
from jlab_node.errors import JlabError
from jlab_node.runtime import leftovers, runtime_directory, session_lookup
from jlab_node.runtime.session_directory import SessionDirectory

if TYPE_CHECKING:
    from pathlib import Path

MANY = 30
HERE = os.uname().nodename, process_id.own_namespace()
GONE = f"jlab-node:{HERE[0]}:99999999.1.{HERE[1]}"  # there are no such numbers


def live(base: Path, number: int, everyone: threading.Barrier) -> None:
    """The directory's part of a session's life, beside others that do the same."""
    with SessionDirectory(base, f"n{number}", f"local-{number + 1}-n{number}") as place:
        for name in ("lab", f"n{number}"):
            place.paths.socket(name).touch()
        place.claim_links()
        for _ in ("all are there", "all have been looked at"):
            everyone.wait(timeout=120)


def test_many_sessions_begin_and_end_at_once(base: Path) -> None:
    """None waits for the others so long that it gives up; locks hold between threads as well."""
    everyone = threading.Barrier(MANY + 1)
    with ThreadPoolExecutor(MANY) as pool:
        lives = [pool.submit(live, base, number, everyone) for number in range(MANY)]
        everyone.wait(timeout=120)
        starting = session_lookup.starting(base)
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
    dead = base / "s-dead00"
    dead.mkdir()
    (dead / "owner").symlink_to(GONE)
    for name in ("alive", "starting", "lab.sock"):
        (dead / name).write_text("local-1-lab")
    (base / "lab.sock").unlink(missing_ok=True)
    (base / "lab.sock").symlink_to("s-dead00/lab.sock")
    return dead


def leads_to(base: Path, name: str) -> Path:
    return (base / f"{name}.sock").resolve().parent


def with_sockets(place: SessionDirectory, *names: str, made: int) -> None:
    for name in names:
        path = place.paths.socket(name)
        path.touch()
        os.utime(path, (made, made))
    place.claim_links()


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
                old.paths.socket("dask").unlink()  # exposed no more
                old.claim_links()
                assert leads_to(base, "dask") == new.path
            assert not (base / "dask.sock").is_symlink()
            assert leads_to(base, "lab") == newest.path
        assert not (base / "newest.sock").is_symlink()
        assert leads_to(base, "lab") == old.path


def test_remove_stale_removes_what_a_killed_session_left(base: Path, killed: Path) -> None:
    with SessionDirectory(base, "a", "local-2-a") as place:
        assert not killed.exists()
        place.paths.socket("lab").touch()
        kill_one(base)
        place.remove_stale()
        assert not killed.exists()
        assert (base / "lab.sock").resolve() == place.paths.direct, "past the relay: it is alone"


def test_remove_stale_does_nothing_while_the_lock_is_held(base: Path, killed: Path) -> None:
    place = SessionDirectory(base, "a", "local-2-a")
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.remove_stale()
    assert killed.exists()
    place.remove_stale()
    assert not killed.exists()


def test_directory_of_who_was_killed_before_its_mark_is_removed(base: Path, killed: Path) -> None:
    """Its name says whose it is; that of a process that lives stays."""
    _, dead = leftovers.owner(killed) or ("", "")
    unfinished = base / f".jlab-node-{dead}"
    unfinished.mkdir(mode=0o700)
    beginning = base / f".jlab-node-{process_id.identity(os.getppid())}"
    beginning.mkdir(mode=0o700)
    with SessionDirectory(base, "lab", "local-1-lab"):
        assert not unfinished.exists()
        assert beginning.exists()


def test_directory_without_a_mark_is_left_even_if_it_is_empty(base: Path, killed: Path) -> None:
    """It is called like a session's, and may be the user's own."""
    own = base / "s-backup"
    own.mkdir(mode=0o700)
    with SessionDirectory(base, "lab", "local-1-lab"):
        assert not killed.exists()
        assert own.exists()
    assert own.exists()


def held(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_locked_directory_is_not_stale(base: Path, killed: Path) -> None:
    """Its process may be one of another container, which is not to be seen from here."""
    descriptor = held(killed)
    with SessionDirectory(base, "a", "local-2-a") as place:
        place.remove_stale()
        assert session_lookup.starting(base) == ["local-1-lab", "local-2-a"]
    os.close(descriptor)
    assert killed.exists()
    assert session_lookup.starting(base) == []


def test_what_has_a_process_is_not_dead_although_no_lock_holds(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system whose locks hold nobody off."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with SessionDirectory(base, "a", "local-1-a") as first:
        with SessionDirectory(base, "b", "local-2-b") as second:
            first.remove_stale()
            second.remove_stale()
            assert first.path.exists()
            assert second.path.exists()
            assert session_lookup.starting(base) == ["local-1-a", "local-2-b"]
        assert first.path.exists()


def test_a_number_that_another_process_has_now_is_no_life(base: Path, killed: Path) -> None:
    (killed / "owner").unlink()
    (killed / "owner").symlink_to(f"jlab-node:{HERE[0]}:{os.getpid()}.1.{HERE[1]}")
    with SessionDirectory(base, "a", "local-2-a"):
        assert not killed.exists()


def test_own_directory_is_never_stale(base: Path) -> None:
    """Whatever became of its mark and its lock."""
    with SessionDirectory(base, "a", "local-1-a") as place:
        for path in [*place.path.iterdir()]:
            path.rmdir() if path.is_dir() else path.unlink()
        kill_one(base)
        place.remove_stale()
        assert place.path.exists()


def test_what_has_taken_the_place_of_its_directory_is_left(base: Path) -> None:
    with SessionDirectory(base, "a", "local-1-a") as place:
        place.path.rename(base / "moved")
        place.path.mkdir()
        (place.path / "thesis").touch()
    assert (place.path / "thesis").exists()
    assert (base / "moved").exists()


def test_the_lock_keeps_what_stands_in_it(base: Path) -> None:
    (base / "lock").write_text("precious")
    with runtime_directory.locked(base):
        pass
    assert (base / "lock").read_text() == "precious"


@pytest.mark.parametrize("name", ["lab.sock", "a.sock"])
def test_a_file_where_a_link_should_be_is_left(base: Path, name: str) -> None:
    (base / name).write_text("precious")
    with SessionDirectory(base, "a", "local-1-a") as place:
        place.paths.socket(name.removesuffix(".sock")).touch()
        with pytest.raises(JlabError, match=rf"{name} is not jlab-node's: move it"):
            place.claim_links()
    assert (base / name).read_text() == "precious"


def test_the_relay_is_only_where_there_is_another_session(base: Path) -> None:
    """An open `ssh -L` of the first must not change sides: its relay knows who asks."""
    link = base / "lab.sock"
    with SessionDirectory(base, "lab", "local-1-lab") as first:
        for path in (first.paths.socket("lab"), first.paths.direct):
            path.touch()
        first.claim_links()
        assert link.resolve() == first.paths.direct
        with SessionDirectory(base, "gpu", "local-2-gpu") as second:
            assert link.resolve() == first.paths.direct, "it only starts"
            for path in (second.paths.socket("lab"), second.paths.direct):
                path.touch()
            second.claim_links()
            assert link.resolve() == second.paths.socket("lab")
            first.claim_links()
            assert link.resolve() == second.paths.socket("lab"), "the newest"
        assert link.resolve() == first.paths.direct
