"""A session's directory under clean-ups of its node, and under other users' hands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

from jlab_node.errors import JlabError
from jlab_node.runtime import runtime_directory, session_lookup, socket_links, socket_relay
from jlab_node.runtime.session_directory import SessionDirectory
from jlab_node.session.deletion_watch import DeletionWatch
from jlab_node.session.directory_keeper import DirectoryKeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path
    from typing import Callable

    from jlab_node.runtime.socket_relay import PersistentSocket

SAID = b"hello"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


class Session:
    """One session's directory, served; its keeper counts what it lost and found."""

    def __init__(self, place: SessionDirectory, gate: asyncio.Event) -> None:
        self.place = place
        self.gate = gate  # closed: whoever is served waits
        self.keeper = DirectoryKeeper(place)
        self.happened: list[str] = []
        self.keeper.on_lost.append(lambda: self.happened.append("lost"))
        self.keeper.on_restored.append(lambda: self.happened.append("found"))

    async def answers(self, name: str) -> bool:
        """Whether somebody of ours is behind the link of that name."""
        with contextlib.suppress(OSError):
            path = str(self.place.runtime_dir / f"{name}.sock")
            reader, writer = await asyncio.open_unix_connection(path)
            with contextlib.closing(writer):
                return await reader.read() == SAID
        return False

    async def is_as_it_was(self) -> bool:
        names = [await self.answers(name) for name in ("lab", "gpu", "dask")]
        there = [
            each.exists() for each in (self.place.paths.jupyter_runtime, self.place.paths.control)
        ]
        starts = session_lookup.session_of(os.getpid(), self.place.runtime_dir) == self.place.path
        return all([*names, *there, starts, self.place.is_complete()])


@contextlib.asynccontextmanager
async def serving(base: Path) -> AsyncIterator[Session]:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SAID[:1])
        await gate.wait()
        writer.write(SAID[1:])
        writer.close()

    gate = asyncio.Event()
    gate.set()

    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(SessionDirectory(base, "gpu", "local-1-gpu"))
        kept: set[PersistentSocket] = set()
        await stack.enter_async_context(
            socket_relay.serve_unix(place.paths.direct, serve, listeners=kept)
        )
        await stack.enter_async_context(place.relay(kept.pop()))
        kept = place.listeners
        await stack.enter_async_context(
            socket_relay.serve_unix(place.paths.control, serve, listeners=kept)
        )
        dask = socket_relay.serve_unix(place.paths.socket("dask"), serve, listeners=kept)
        await stack.enter_async_context(dask)
        place.claim_links()
        yield Session(place, gate)


def with_session(base: Path, do: Callable[[Session], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving(base / "jlab-u") as session:
            assert await session.is_as_it_was()
            await do(session)

    asyncio.run(run())
    left = {path.name for path in base.glob("jlab-u/*")}
    assert left <= {"lock"}, "it ends as ever"


async def never(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    raise AssertionError("nobody connects")


def everything(session: Session) -> list[Path]:
    place = session.place
    return [place.runtime_dir, *place.runtime_dir.iterdir(), *place.path.iterdir()]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_whatever_is_removed_is_made_anew(base: Path) -> None:
    """Each file, link, socket and directory alone, and all of them at once."""

    async def do(session: Session) -> None:
        for path in everything(session):
            if path.name in ("lock", "starting"):
                continue
            remove(path)
            await session.keeper.check()
            assert await session.is_as_it_was(), path
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert path.is_symlink() or path.is_socket() or not mode & 0o077, path
        for path in [*session.place.path.iterdir()]:
            remove(path)
        await session.keeper.check()
        assert await session.is_as_it_was()
        assert session.happened == []

    with_session(base, do)


def test_a_session_that_is_over_is_not_made_anew(base: Path) -> None:
    """A thread of its keeper may have waited for the lock while the session ended."""
    late: list[Session] = []

    async def do(session: Session) -> None:
        late.append(session)
        remove(session.place.path)

    with_session(base, do)
    late[0].keeper._make_directories()
    assert [path.name for path in base.glob("jlab-u/*")] == ["lock"]


def test_a_session_that_ends_misses_no_link_that_another_one_takes_away(base: Path) -> None:
    """Its sockets are closed one by one, and what leads to a closed one is cleared away."""
    seen: list[bool] = []

    class Mending(SessionDirectory):
        def __exit__(self, *_: object) -> None:
            socket_links.repair(self.runtime_dir)
            seen.append(self.is_complete())
            super().__exit__()

    async def run() -> None:
        path = base / "jlab-u"
        kept: set[PersistentSocket] = set()
        with Mending(path, "gpu", "local-1-gpu") as place:
            direct = socket_relay.serve_unix(place.paths.direct, never, listeners=kept)
            async with direct, place.relay(kept.pop()):
                dask = socket_relay.serve_unix(
                    place.paths.socket("dask"), never, listeners=place.listeners
                )
                async with dask:
                    place.claim_links()
                    assert place.is_complete()

    asyncio.run(run())
    assert seen == [True]


def test_an_open_connection_outlives_a_clean_up(base: Path) -> None:
    async def do(session: Session) -> None:
        path = str(session.place.paths.socket("lab"))
        session.gate.clear()
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.readexactly(1) == SAID[:1]
        remove(session.place.runtime_dir)
        await session.keeper.check()
        session.gate.set()
        assert await reader.read() == SAID[1:]
        writer.close()

    with_session(base, do)


def test_a_removal_is_noticed_at_once(base: Path) -> None:
    """`rm -rf /tmp/*` takes longer than it takes to make it anew."""

    async def do(session: Session) -> None:
        keeping = asyncio.ensure_future(session.keeper.keep(period=120))
        await asyncio.sleep(0.1)
        for _ in range(3):
            await asyncio.to_thread(shutil.rmtree, session.place.runtime_dir, ignore_errors=True)
            deadline = time.monotonic() + 60
            while not await session.is_as_it_was():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
        keeping.cancel()

    with_session(base, do)


def test_without_inotify_it_is_noticed_in_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeletionWatch, "wait", lambda _, timeout: asyncio.sleep(timeout))

    async def do(session: Session) -> None:
        keeping = asyncio.ensure_future(session.keeper.keep(period=0.1))
        remove(session.place.runtime_dir)
        deadline = time.monotonic() + 10
        while not session.place.runtime_dir.exists() or not await session.is_as_it_was():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        keeping.cancel()

    with_session(base, do)


def age(paths: list[Path]) -> None:
    """Nobody has used them since 1970."""
    for path in paths:
        os.utime(path, (1, 1), follow_symlinks=False)


def test_what_ages_is_renewed(base: Path) -> None:
    """And a reaper who goes by any of the times finds nothing old; the newest stays the newest."""

    async def do(session: Session) -> None:
        deep = session.place.paths.jupyter_runtime / "a" / "b"
        deep.mkdir(parents=True)
        (deep / "kernel.json").touch()
        paths = [*everything(session), deep, deep.parent, deep / "kernel.json"]
        age(paths)
        keeping = asyncio.ensure_future(session.keeper.keep(period=0.05, refresh=0.05))
        before = time.time() - 3600
        deadline = time.monotonic() + 10
        while any(path.lstat().st_atime < before for path in paths):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        keeping.cancel()
        sockets = [path for path in paths if path.suffix == ".sock"]
        assert all(path.lstat().st_mtime == 1 for path in sockets), "they tell what is newest"
        assert all(path.lstat().st_mtime > before for path in paths if path not in sockets)

    with_session(base, do)


def replaced(path: Path, *, mode: int, owner: int) -> Path:
    """Something else stands there; where the thing itself is now."""
    moved = path.with_name(f"{path.name}-moved")
    path.rename(moved)
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, -1)
    return moved


@as_root
@pytest.mark.parametrize("which", ["runtime_dir", "path"])
@pytest.mark.parametrize(("mode", "owner"), [(0o755, NOBODY), (0o700, NOBODY), (0o777, 0)])
def test_what_is_another_users_is_never_used(
    base: Path, which: str, *, mode: int, owner: int
) -> None:
    async def do(session: Session) -> None:
        path = getattr(session.place, which)
        moved = replaced(path, mode=mode, owner=owner)
        for _ in range(2):
            with pytest.raises(JlabError, match=rf"^{path} (belongs to|can be written)"):
                await session.keeper.check()
        assert session.happened == ["lost"]
        assert list(path.iterdir()) == [], "nothing is put there"
        path.rmdir()
        moved.rename(path)
        await session.keeper.check()
        assert session.happened == ["lost", "found"]
        assert await session.is_as_it_was()

    with_session(base, do)


@as_root
def test_a_link_is_not_followed(base: Path) -> None:
    async def do(session: Session) -> None:
        moved = session.place.runtime_dir.with_name("moved")
        session.place.runtime_dir.rename(moved)
        session.place.runtime_dir.symlink_to(moved)
        with pytest.raises(JlabError, match="is not a directory"):
            await session.keeper.check()
        session.place.runtime_dir.unlink()
        moved.rename(session.place.runtime_dir)
        await session.keeper.check()

    with_session(base, do)


@pytest.mark.parametrize(
    ("mode", "owner", "is_safe"),
    [
        pytest.param(0o1777, 0, True, id="as /tmp is"),
        pytest.param(0o755, 0, True, id="root's"),
        pytest.param(0o775, 0, True, id="of the group of root"),
        pytest.param(0o777, 0, False, id="everybody's"),
        pytest.param(0o757, 0, False, id="everybody's but of the group"),
        pytest.param(0o755, NOBODY, False, id="another user's"),
        pytest.param(0o1777, NOBODY, False, id="another user's, sticky"),
    ],
)
@as_root
def test_a_place_that_others_can_change_is_refused(
    base: Path, *, mode: int, owner: int, is_safe: bool
) -> None:
    """Whoever can move the user's directory away can put another there."""
    for parent in (base / "tmp", base / "upper"):
        (parent / "tmp").mkdir(parents=True)
        parent.chmod(mode)
        os.chown(parent, owner, 0)
    (base / "link").symlink_to(base / "upper" / "tmp")
    for directory in (base / "tmp", base / "upper" / "tmp", base / "link"):
        path = directory / "jlab-u"
        if is_safe:
            runtime_directory.make(path)
            continue
        with pytest.raises(JlabError, match=rf"^{path} is not safe, since {base}/(tmp|upper) can "):
            runtime_directory.make(path)
        assert not path.exists()


@as_root
@pytest.mark.parametrize("is_theirs", [True, False])
def test_each_link_on_the_way_is_looked_at(base: Path, *, is_theirs: bool) -> None:
    """Another user's in the middle can be turned about for a moment, and back."""
    for name in ("shared", "own"):
        (base / name).mkdir()
    (base / "shared").chmod(0o1777)
    middle = base / "shared" / "middle"
    middle.symlink_to("../own")
    if is_theirs:
        os.chown(middle, NOBODY, NOBODY, follow_symlinks=False)
    (base / "first").symlink_to(middle)
    path = base / "first" / "jlab-u"
    if is_theirs:
        with pytest.raises(JlabError, match=rf"^{path} is not safe, since {middle} can be changed"):
            runtime_directory.make(path)
        assert not path.exists()
    else:
        runtime_directory.make(path)
        assert (base / "own" / "jlab-u").is_dir()


@as_root
def test_a_place_that_others_come_to_change_is_left(base: Path) -> None:
    async def do(session: Session) -> None:
        base.chmod(0o777)
        with pytest.raises(JlabError, match="can be changed by everybody"):
            await session.keeper.check()
        base.chmod(0o1777)
        await session.keeper.check()
        assert session.happened == ["lost", "found"]

    with_session(base, do)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), RuntimeError("odd")])
def test_keeper_that_cannot_look_at_the_place_takes_it_for_lost(
    base: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Another user's file system there says what it likes; and the keeper goes on looking."""

    async def do(session: Session) -> None:
        keeping = asyncio.ensure_future(session.keeper.keep(period=0.02))
        lstat = type(base).lstat

        def refuse(path: Path) -> os.stat_result:
            if path == session.place.runtime_dir:
                raise error
            return lstat(path)

        with monkeypatch.context() as patch:
            patch.setattr(type(base), "lstat", refuse)
            await until(lambda: session.happened == ["lost"])
            with pytest.raises(JlabError, match="cannot be looked at"):
                session.keeper.refuse_if_lost()
        await until(lambda: session.happened == ["lost", "found"])
        session.keeper.refuse_if_lost()
        assert not keeping.done()
        keeping.cancel()

    with_session(base, do)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@as_root
def test_session_that_ends_follows_no_link_at_its_place(base: Path) -> None:
    """After a clean-up another user may lead it to a directory of the session's own user."""
    (base / "thesis").mkdir()
    (base / "thesis" / "a.sock").symlink_to("x7k2m9ab/a.sock")

    async def do(session: Session) -> None:
        shutil.rmtree(session.place.runtime_dir)
        session.place.runtime_dir.symlink_to(base / "thesis")

    async def run() -> None:
        async with serving(base / "jlab-u") as session:
            await do(session)

    asyncio.run(run())
    assert [path.name for path in (base / "thesis").iterdir()] == ["a.sock"]
    with (
        pytest.raises(OSError, match=r"(?i)symbolic link|not a directory"),
        runtime_directory.locked(base / "jlab-u"),
    ):
        pass
