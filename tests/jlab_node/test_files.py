"""Private directories that somebody else was first to make, and replacing a file on a bad day."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from filelock import Timeout
from loopback import NOBODY, wait_until

from jlab_node.errors import JlabError
from jlab_node.files import private, writing
from tests import acl

# Replaces the file argv[1] when no file may become longer than 4 kB: a full disk, for us.
REPLACE_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from jlab_node.files import writing as files
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
try:
    files.write_atomically(Path(sys.argv[1]), "new" * 4096)
except OSError as error:
    sys.exit(f"refused: {error.strerror}")
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""


def mode(path: Path) -> int:
    """Permission bits."""
    return path.stat().st_mode & 0o7777


def test_directory_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = private.ensure_private_directory(tmp_path / "new")
    finally:
        os.umask(before)
    assert made == tmp_path / "new"
    assert mode(made) == 0o700


def test_our_own_directory_is_taken_with_what_is_in_it(tmp_path: Path) -> None:
    path = private.ensure_private_directory(tmp_path / "mine")
    (path / "file").write_text("x")
    assert private.ensure_private_directory(path) == path
    assert (path / "file").read_text() == "x"


@pytest.mark.parametrize("found", [0o755, 0o750, 0o711, 0o705, 0o701], ids=oct)
def test_directory_that_others_can_read_is_closed(tmp_path: Path, found: int) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(found)
    private.ensure_private_directory(path)
    assert mode(path) == 0o700


@pytest.mark.parametrize("found", [0o777, 0o1777, 0o770, 0o720, 0o702], ids=oct)
def test_directory_that_others_can_write_is_refused_and_left_alone(
    tmp_path: Path, found: int
) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(found)
    with pytest.raises(JlabError, match=f"can be written by other users: .*`chmod 700 {path}`"):
        private.ensure_private_directory(path)
    assert mode(path) == found


@pytest.mark.parametrize("found", [0o755, 0o710, 0o701, 0o777, 0o1777, 0o770], ids=oct)
def test_directory_in_a_shared_place_that_others_can_enter_is_refused(
    tmp_path: Path, found: int
) -> None:
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(found)
    with pytest.raises(JlabError, match=f"^{path} .* other users: .*`chmod 700 {path}`"):
        private.ensure_closed_directory(path)
    assert mode(path) == found


@pytest.mark.parametrize(
    ("found", "who"), [(0o755, ""), (0o702, "everybody"), (0o777, "everybody")], ids=str
)
def test_who_else_can_write(tmp_path: Path, found: int, who: str) -> None:
    tmp_path.chmod(found)
    assert private.other_writers(tmp_path) == who


@pytest.mark.root("only root can give a directory any group")
def test_which_group_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    assert private.other_writers(tmp_path) == "", "root's own group"
    os.chown(tmp_path, -1, grp.getgrnam("mail").gr_gid)
    assert private.other_writers(tmp_path) == "group mail"
    os.chown(tmp_path, -1, 54321)
    assert private.other_writers(tmp_path) == "group 54321"


@pytest.mark.root("only root can give a directory any group")
def test_group_of_ours_that_is_another_users_first_group_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such members do not stand in the group's own list."""
    tmp_path.chmod(0o775)
    os.chown(tmp_path, -1, 0)
    assert private.other_writers(tmp_path) == "", "root's own"
    root = pwd.getpwuid(0)
    other = pwd.struct_passwd(("eve", "x", 4711, 0, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [root, other])
    assert private.other_writers(tmp_path) == "group root"


def test_whom_an_acl_lets_write_is_seen_until_its_mask_does_not(tmp_path: Path) -> None:
    """Also where the group is the user's own, and so is nobody."""
    tmp_path.chmod(0o755)
    acl.share(tmp_path, "access")
    assert private.other_writers(tmp_path) == f"others (`getfacl {tmp_path}` tells who)"
    tmp_path.chmod(0o755)  # as `chmod go-w` does
    assert private.other_writers(tmp_path) == ""


def test_others_of_a_group_that_may_not_write_are_no_matter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(tmp_path, -1, 54321)
    assert private.other_writers(tmp_path) == ""


def test_the_end_of_a_log_is_kept_for_whoever_appends_to_it(tmp_path: Path) -> None:
    path = tmp_path / "sshd.log"
    with path.open("ab", buffering=0) as log:
        for number in range(100):
            log.write(b"line %02d\n" % number)
            writing.keep_tail(path, 160)
            assert path.stat().st_size <= 160
        log.write(b"the last\n")
    lines = path.read_text().splitlines()
    assert lines[-3:] == ["line 98", "line 99", "the last"]
    assert set(map(len, lines)) == {7, 8}, "whole ones"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="Too many levels"):
        writing.keep_tail(tmp_path / "link", 0)


def test_what_may_be_another_users_is_refused(tmp_path: Path) -> None:
    private.require_owner(tmp_path / "gone")
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o755)
    private.require_owner(path)
    assert mode(path) == 0o755, "looking changes nothing"
    path.chmod(0o770)
    with pytest.raises(JlabError, match="can be written by other users"):
        private.require_owner(path)


@pytest.mark.parametrize("kind", ["file", "link to a directory", "link to nothing", "fifo"])
def test_squatted_by_what_is_no_directory(tmp_path: Path, kind: str) -> None:
    path, elsewhere = tmp_path / "jlab-alice", tmp_path / "elsewhere"
    if kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)
        if kind == "link to a directory":
            elsewhere.mkdir(mode=0o700)
    with pytest.raises(JlabError, match=f"^{path} is not a directory: remove it, then try again"):
        private.ensure_private_directory(path)
    assert os.path.lexists(path)


def test_link_is_followed_where_it_may_be_one(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    assert private.ensure_private_directory(link, may_be_link=True) == link
    assert link.is_symlink()
    assert mode(elsewhere) == 0o700


def test_link_does_not_hide_a_directory_that_others_can_write(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    (tmp_path / "link").symlink_to(elsewhere)
    with pytest.raises(JlabError, match="can be written by other users"):
        private.ensure_private_directory(tmp_path / "link", may_be_link=True)


def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    path, owner = Path("/"), 0
    if os.geteuid() == 0:
        path, owner = tmp_path / "theirs", NOBODY
        path.mkdir(mode=0o700)
        os.chown(path, owner, -1)
    name = pwd.getpwuid(owner).pw_name
    with pytest.raises(JlabError, match=rf"belongs to user {name}, not to you: go away$"):
        private.ensure_closed_directory(path, if_foreign="go away")


@pytest.mark.root("only root can give a directory to a nobody")
def test_directory_of_a_user_without_a_name_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 54321, -1)
    with pytest.raises(JlabError, match=r"belongs to another user \(uid 54321\), not to you"):
        private.require_owner(tmp_path)


@pytest.mark.parametrize("found", [0o700, 0o500, 0o710, 0o701, 0o750, 0o777], ids=oct)
def test_is_private_by_mode(tmp_path: Path, found: int) -> None:
    path, link = tmp_path / "directory", tmp_path / "link"
    path.mkdir()
    link.symlink_to(path)
    path.chmod(found)
    assert private.is_private(path) is (not found & 0o077)
    assert not private.is_private(link)


def test_what_is_no_directory_of_ours_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    assert not private.is_private(tmp_path / "file")
    assert not private.is_private(tmp_path / "gone")
    if os.geteuid() == 0:
        (tmp_path / "theirs").mkdir(mode=0o700)
        os.chown(tmp_path / "theirs", NOBODY, -1)
        assert not private.is_private(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("found", "expected"),
    [(0o600, True), (0o644, True), (0o400, True), (0o620, False), (0o602, False), (0o666, False)],
    ids=lambda value: oct(value) if type(value) is int else None,
)
def test_is_writable_only_by_us_by_mode(tmp_path: Path, found: int, *, expected: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(found)
    assert private.is_writable_only_by_us(path) is expected


def test_what_is_missing_or_of_another_user_is_not_ours(tmp_path: Path) -> None:
    assert not private.is_writable_only_by_us(tmp_path / "gone")
    theirs = Path("/")
    if os.geteuid() == 0:
        theirs = tmp_path / "theirs"
        theirs.touch(mode=0o600)
        os.chown(theirs, NOBODY, -1)
    assert not private.is_writable_only_by_us(theirs)


def test_replace_makes_a_private_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = writing.write_atomically(tmp_path / "file", "tête\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == "tête\n".encode()
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_replace_writes_any_bytes_beside_the_file_and_as_of_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, since nothing can be moved to another file system in one step."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    path = writing.write_atomically(tmp_path / "file", "\udcff\n", modified=1_700_000_000.25)
    assert path.read_bytes() == b"\xff\n"
    assert path.stat().st_mtime == 1_700_000_000.25


def test_replace_shows_what_is_being_written_to_nobody(tmp_path: Path) -> None:
    """Those names are passed over, and swept."""
    seen: set[str] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.update(os.listdir(tmp_path))  # noqa: PTH208

    looker = threading.Thread(target=look)
    looker.start()
    for _ in range(100):
        writing.write_atomically(tmp_path / "file", "text")
    is_over.set()
    looker.join()
    assert all(name.startswith(writing.TEMP_PREFIX) for name in seen - {"file"})


def test_replace_leaves_readers_of_the_old_file_what_they_have(tmp_path: Path) -> None:
    path = writing.write_atomically(tmp_path / "file", "old")
    path.chmod(0o644)
    with path.open(encoding="utf-8") as reader:
        writing.write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert mode(path) == 0o600


def test_replace_does_not_write_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("not mine")
    path = tmp_path / "file"
    path.symlink_to(other)
    writing.write_atomically(path, "new")
    assert not path.is_symlink()
    assert other.read_text() == "not mine"


def test_full_disk_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = writing.write_atomically(tmp_path / "file", "old")
    done = subprocess.run(
        [sys.executable, "-c", REPLACE_ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "refused: File too large\n")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_locked_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with private.locked(path, timeout=0):
        assert mode(path) == 0o600
        with pytest.raises(Timeout), private.locked(path, timeout=0):
            pytest.fail("two have it")
    with private.locked(path, timeout=0):
        pass


def test_locked_lets_go_whatever_happens(tmp_path: Path) -> None:
    """And takes no failure of what is done meanwhile for its own."""
    path = tmp_path / "lock"
    for failure in (OSError("full"), NotImplementedError("no"), KeyboardInterrupt()):
        with pytest.raises(type(failure)) as caught, private.locked(path, timeout=0):
            raise failure
        assert caught.value is failure
    with private.locked(path, timeout=0):
        pass


@pytest.mark.parametrize("where", ["gone/lock", "directory"])
def test_locked_where_there_can_be_no_lock(tmp_path: Path, where: str) -> None:
    """A full file system, or one without locks: then everybody goes ahead."""
    (tmp_path / "directory").mkdir()
    done = []
    for _ in range(2):
        with private.locked(tmp_path / where, timeout=0):
            done.append(where)
    assert done == [where] * 2


def test_replace_what_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "directory"
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        writing.write_atomically(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_prune_unfinished_removes_old_temporary_files(tmp_path: Path) -> None:
    kept = writing.write_atomically(tmp_path / "kept", "text")
    (tmp_path / "inner").mkdir()
    for path in (tmp_path / ".new-aaaaaaa1", tmp_path / "inner" / ".new-aaaaaaa2"):
        path.write_text("half")
        os.utime(path, (1, 1))  # a file may be made with a time of long ago
    (tmp_path / ".new-aaaaaaa3").mkdir()
    (tmp_path / ".new-aaaaaaa3" / "key").write_text("half")
    writing.prune_unfinished(tmp_path)
    assert len(list(tmp_path.rglob(".new-*"))) == 3
    writing.prune_unfinished(tmp_path, now=time.time() + 3700)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "inner", kept]
    assert list((tmp_path / "inner").iterdir()) == []


def test_prune_unfinished_removes_a_directory_with_a_file_that_was_being_written(
    tmp_path: Path,
) -> None:
    """Killed between the two steps of writing a file into a directory of its own."""
    directory = tmp_path / ".new-abcdefgh"
    directory.mkdir()
    (directory / ".new-12345678").touch()
    writing.prune_unfinished(tmp_path, now=time.time() + 3700)
    assert list(tmp_path.iterdir()) == []


def test_prune_unfinished_leaves_the_users_own_files(tmp_path: Path) -> None:
    """Names that only begin like ours, directories that hold more, and all that a link leads to."""
    home, project = tmp_path / "home", tmp_path / "project"
    theirs = [
        home / ".new-notes",
        home / ".new-mine" / "data",
        home / ".new-aaaaaaa1" / "deep" / "data",
        project / ".new-results" / "data",
        project / ".new-aaaaaaa2",
    ]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    links = [home / "work", home / ".new-aaaaaaa3"]
    for link in links:
        link.symlink_to(project)
    writing.prune_unfinished(home, now=time.time() + 3700)
    assert [path.read_text() for path in theirs] == ["mine"] * len(theirs)
    assert all(link.is_symlink() for link in links)


def test_prune_unfinished_leaves_younger_files(tmp_path: Path) -> None:
    old, young = ([tmp_path / f".new-{age}{n}" for n in range(8)] for age in ("earlier", "younger"))
    for path in old:
        path.touch()
    last = max(path.stat().st_ctime for path in old)
    for path in young:
        wait_until(lambda path=path: _is_younger(path, than=last + 0.01), "the clock has moved")
    writing.prune_unfinished(tmp_path, now=last + 3600.001)
    assert sorted(tmp_path.iterdir()) == young


def _is_younger(path: Path, *, than: float) -> bool:
    path.touch()
    return path.stat().st_ctime > than
