"""Whatever lies where a session makes its directory: nothing is lost that is not provably ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Union

from hypothesis import example, given
from hypothesis import strategies as st
from loopback import NOBODY

from jlab_node import process_id
from jlab_node.errors import JlabError
from jlab_node.runtime.session_directory import SessionDirectory

from .strategies import fewer

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST, PLACE = os.uname().nodename, process_id.own_namespace()
GONE = f"jlab-node:{HOST}:99999999.1.{PLACE}"  # no process has such a number
REUSED = f"jlab-node:{HOST}:{os.getpid()}.1.{PLACE}"
REBOOTED = f"jlab-node:{HOST}:99999999.1.4026531836.{'0' * 32}"
DEAD = [GONE, REUSED, REBOOTED]
OTHER_MARKS = [
    f"jlab-node:{HOST}:{process_id.identity(os.getpid())}",
    f"jlab-node:{HOST}:99999999.1.1.{PLACE.rpartition('.')[2]}",  # of another container
    f"jlab-node:other:99999999.1.{PLACE}",
    *[f"jlab-node:{HOST}:", f"jlab-node:{HOST}:99999999", "jlab-node:", "99999999", ":", "/"],
]


class Directory:
    """One to be made: its mode, what is in it, whether it is another user's, whether locked."""

    def __init__(
        self, mode: int, entries: dict[str, Node], *, foreign: bool = False, held: bool = False
    ) -> None:
        self.mode, self.entries, self.held = mode, entries, held
        self.foreign = foreign and os.geteuid() == 0

    def __repr__(self) -> str:
        return f"Directory({self.mode:#o}, {self.entries}, {self.foreign=}, {self.held=})"


Node = Union[Directory, tuple[str, int]]  # of anything else: kind, mode

_NAMES = [
    *["s-abcdef", "s-123456", "s-_____x", "s-ABCDEF", "s-abc", "s-abcdefg", "abcdefgh"],
    *["owner", "alive", "starting", "lock", "rt", "lab.sock", "a.sock", ".new-x", "thesis", "x"],
]
_MARKS = [*DEAD, *OTHER_MARKS]
_LINKS = [*_MARKS, "s-abcdef/lab.sock", "s-abcdef/a.sock", "abcdefgh/lab.sock", ".", "thesis"]
_names = st.sampled_from(_NAMES)
_modes = st.integers(0, 0o7777) | st.sampled_from([0o700, 0o755, 0o600, 0o777, 0o1777, 0o2770])
_seldom = st.sampled_from([False, False, True])
_files: st.SearchStrategy[Node] = st.tuples(st.sampled_from(["file", "fifo"]), _modes) | st.tuples(
    st.sampled_from(_LINKS).map("link {}".format), st.just(0)
)
_owners: st.SearchStrategy[dict[str, Node]] = st.fixed_dictionaries(
    {}, optional={"owner": st.sampled_from([(f"link {mark}", 0) for mark in _MARKS])}
)


def _directories(entries: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.builds(
        lambda mode, rest, owner, foreign, held: Directory(
            mode, {**rest, **owner}, foreign=foreign, held=held
        ),
        st.just(0o700) | _modes,
        st.dictionaries(_names, entries, max_size=4),
        _owners,
        _seldom,
        _seldom,
    )


_trees = st.builds(
    Directory,
    st.just(0o700) | _modes,
    st.dictionaries(_names, st.recursive(_files, _directories, max_leaves=6), max_size=7),
)


def make(path: Path, tree: Directory, stack: contextlib.ExitStack) -> None:
    """Make all of it."""
    path.mkdir()
    for name, node in tree.entries.items():
        entry = path / name
        if isinstance(node, Directory):
            make(entry, node, stack)
        elif node[0] == "file":
            entry.write_text(f"precious {name}")
            entry.chmod(node[1])
        elif node[0] == "fifo":
            os.mkfifo(entry)
            entry.chmod(node[1])
        else:
            entry.symlink_to(node[0].removeprefix("link "))
    if tree.held:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        stack.callback(os.close, descriptor)
    if tree.foreign:
        os.chown(path, NOBODY, NOBODY)
    # Root can enter whatever there is; others could not look at what they have closed so.
    path.chmod(tree.mode if os.geteuid() == 0 else tree.mode | 0o700)


def everything(base: Path) -> dict[str, tuple[object, ...]]:
    """All that there is, and what it is like."""

    def look(path: Path) -> tuple[object, ...]:
        found = path.lstat()
        content = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file() and os.access(path, os.R_OK):
            content = path.read_text()
        return found.st_mode, found.st_uid, found.st_ino, content

    return {str(path.relative_to(base)): look(path) for path in (base, *base.rglob("*"))}


def may_go(tree: Directory) -> Iterator[str]:
    """What is provably ours: dead sessions, directories without anything, links to sessions."""
    dead = [(f"link {mark}", 0) for mark in DEAD]
    for name, node in tree.entries.items():
        if isinstance(node, Directory):
            is_ours = re.fullmatch("s-[a-z0-9]{6}", name) and not node.held and not node.foreign
            if is_ours and (node.entries.get("owner") in dead or not node.entries):
                yield name
        elif re.fullmatch(rf"link (s-[a-z0-9]{{6}}|[a-z0-9_]{{8}})/{re.escape(name)}", node[0]):
            yield name


LIVING = Directory(
    0o700, {"owner": (f"link {GONE}", 0), "lab.sock": ("fifo", 0o600)}, held=True
)  # by its lock


def links_to_living_sessions(tree: Directory) -> set[str]:
    """The names of the links that a session repairs as it ends: to sockets of those that go on."""
    return {
        name
        for node in tree.entries.values()
        if isinstance(node, Directory) and node.held and "owner" in node.entries
        for name in node.entries
        if name.endswith(".sock")
    }


@contextlib.contextmanager
def an_empty_directory() -> Iterator[Path]:
    """With a short path."""
    path = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@fewer(2)
@given(_trees)
@example(Directory(0o755, {"thesis": Directory(0o755, {"chapter": ("file", 0o644)})}))
@example(Directory(0o700, {"thesis": Directory(0o755, {"chapter": ("file", 0o644)})}))
@example(Directory(0o700, {"s-abcdef": Directory(0o700, {"thesis": ("file", 0o600)})}))
@example(Directory(0o700, {"s-abcdef": Directory(0o700, {"owner": (f"link {GONE}", 0)})}))
@example(Directory(0o700, {"lab.sock": ("link s-abcdef/lab.sock", 0)}))
@example(Directory(0o700, {"s-abcdef": LIVING}))
def test_nothing_is_lost_or_changed_that_is_not_ours(tree: Directory) -> None:
    with an_empty_directory() as place, contextlib.ExitStack() as stack:
        base = place / "jlab-u"
        make(base, tree, stack)
        before = everything(base)
        with contextlib.suppress(JlabError), SessionDirectory(base, "a", "local-1-a") as session:
            for name in ("lab", "a"):
                session.paths.socket(name).touch()
                with contextlib.suppress(JlabError):
                    session.claim_links()
            session.remove_stale()
        after = everything(base)
        allowed = set(may_go(tree))
        for path, what in before.items():
            if path.partition("/")[0] not in allowed:
                assert after.get(path) == what, path
        made = set(after) - set(before) - {"lock"}
        assert made <= links_to_living_sessions(tree), "a session leaves nothing else"
        assert all((base / name).is_symlink() for name in made)
        if stat.S_IMODE(base.stat().st_mode) & 0o077:
            assert after == before, "it is refused"


@fewer(4)
@given(st.dictionaries(st.sampled_from(["thesis", "s-abcdef", "abcdefgh"]), _trees, max_size=3))
@example({"s-abcdef": Directory(0o700, {"owner": (f"link {GONE}", 0)})})
def test_what_jlab_tmpdir_names_is_as_it_was(trees: dict[str, Directory]) -> None:
    with an_empty_directory() as named, contextlib.ExitStack() as stack:
        for name, tree in trees.items():
            make(named / name, tree, stack)
        named.chmod(0o750)
        before = everything(named)
        with SessionDirectory(named / "jlab-u", "a", "local-1-a") as session:
            session.remove_stale()
        after = everything(named)
        assert {path: after[path] for path in before} == before
        assert set(after) - set(before) == {"jlab-u", "jlab-u/lock"}
