"""What is read of a home that others may have come to write; and what sshd is given of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

from jlab_node.errors import JlabError
from jlab_node.registry import home
from jlab_node.session.child_processes import Children
from jlab_node.session.ssh import session_sshd, sshd, trusted_keys
from jlab_node.session.ssh.memory_file import MemoryFile
from jlab_node.session.ssh.session_sshd import SessionSshd

if TYPE_CHECKING:
    from pathlib import Path

    from jlab_node.registry.home import Home


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "place" / "file"
    made.parent.mkdir(mode=0o755)
    made.write_bytes(b"said")
    made.chmod(0o644)
    return made


def test_a_file_that_the_user_alone_writes_is_read(path: Path) -> None:
    assert trusted_keys.read(path) == b"said"
    with pytest.raises(JlabError, match="is open to other users: `chmod go-rwx"):
        trusted_keys.read(path, closed=True)
    path.chmod(0o600)
    assert trusted_keys.read(path, closed=True) == b"said"


@pytest.mark.parametrize("which", ["file", "directory"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777], ids=oct)
def test_what_others_can_write_is_not_read(path: Path, which: str, mode: int) -> None:
    (path if which == "file" else path.parent).chmod(mode)
    with pytest.raises(JlabError, match="is open to other users"):
        trusted_keys.read(path)


@pytest.mark.parametrize("which", ["file", "directory"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give away a file")
def test_what_is_another_users_is_not_read(path: Path, which: str) -> None:
    os.chown(path if which == "file" else path.parent, NOBODY, -1)
    with pytest.raises(JlabError, match="is another user's"):
        trusted_keys.read(path)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_is_not_read(path: Path, tmp_path: Path, kind: str) -> None:
    path.unlink()
    if kind == "link":
        (tmp_path / "other").write_bytes(b"planted")
        path.symlink_to(tmp_path / "other")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((JlabError, OSError)):
        trusted_keys.read(path)


def test_a_directory_may_be_a_link(path: Path, tmp_path: Path) -> None:
    """As ~/.jlab may be."""
    (tmp_path / "link").symlink_to(path.parent)
    assert trusted_keys.read(tmp_path / "link" / "file") == b"said"


def test_sealed_text_is_read_by_children_and_by_nobody_else() -> None:
    text = MemoryFile(b"secret\n")
    assert subprocess.check_output(["cat", str(text.path)]) == b"secret\n"
    assert subprocess.check_output(["cat", str(text.path)]) == b"secret\n", "and again"
    assert text.path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        done = subprocess.run(
            ["cat", str(text.path)], user=NOBODY, group=NOBODY, capture_output=True, check=False
        )
        assert done.stdout == b""
        assert b"Permission denied" in done.stderr
    path = text.path
    text.close()
    assert not path.exists()


@pytest.fixture
def jlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path))
    return home.ensure_state_dir()


def test_the_last_good_keys_serve_while_the_home_hangs(
    jlab: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = sshd.find(None)
    if program is None:
        pytest.skip("no sshd on this machine")
    served = SessionSshd(program, jlab, user="alice", env={}, log=tmp_path / "sshd.log")
    monkeypatch.setattr(session_sshd, "_HOME_TIMEOUT", 0.2)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(trusted_keys, "read", lambda *_, **__: fifo.read_bytes())

    async def twice() -> None:
        await asyncio.wait_for(served._look_at_keys(), 10)
        await asyncio.wait_for(served._look_at_keys(), 0.1)  # it is asked once, not by each

    before = served._keys
    asyncio.run(twice())
    assert served._keys == before
    fifo.write_bytes(b"")  # let it go


def test_ssh_is_not_served_where_the_place_is_lost_while_the_keys_are_read(
    jlab: Home, tmp_path: Path
) -> None:
    program = sshd.find(None)
    if program is None:
        pytest.skip("no sshd on this machine")
    served = SessionSshd(program, jlab, user="alice", env={}, log=tmp_path / "sshd.log")

    def refuse() -> None:
        assert served._reading is not None, "they have been read"
        raise JlabError("it is another user's")

    async def run() -> int:
        async with Children(grace=0.1) as children:
            with pytest.raises(JlabError, match="another user's"):
                await served.start(0, children, check=refuse)
            return len(children._known)

    assert asyncio.run(run()) == 0
