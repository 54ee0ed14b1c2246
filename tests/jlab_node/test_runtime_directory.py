"""Which directory on the node is a user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import NOBODY

from jlab_node.errors import JlabError
from jlab_node.files import mounts
from jlab_node.runtime import runtime_directory
from jlab_node.runtime.leftovers import new_path
from jlab_node.runtime.runtime_directory import check_parents
from jlab_node.session.jupyter.program import _KERNEL_SOCKET, _SOCKET_PATH
from tests import acl

LONG = "u1.van-der-berg@lab.example-university.edu"


@pytest.mark.parametrize(
    ("user", "tmpdir", "path"),
    [
        pytest.param("alice", None, "/tmp/jlab-alice", id="as ever"),
        pytest.param("alice", "/scratch/alice", "/scratch/alice/jlab-alice", id="named"),
        pytest.param("al/i ce@ad", None, "/tmp/jlab-al_i_ce_ad", id="odd"),
        pytest.param("a" * 34, None, f"/tmp/jlab-{'a' * 34}", id="just short enough"),
        pytest.param("a" * 35, None, "/tmp/jlab-629362af", id="too long"),
        pytest.param(LONG, None, "/tmp/jlab-89da6943", id="much too long"),
    ],
)
def test_locate_depends_on_user_and_jlab_tmpdir(user: str, tmpdir: str | None, path: str) -> None:
    """It stands in ssh configs of laptops: the same user has the same for ever."""
    assert (
        str(runtime_directory.locate({} if tmpdir is None else {"JLAB_TMPDIR": tmpdir}, user))
        == path
    )


@pytest.mark.parametrize("tmpdir", ["/tmp", "/" + "t" * 29])
def test_whatever_the_users_name_there_is_room_for_sockets(tmpdir: str) -> None:
    for length in range(1, 65):
        base = runtime_directory.locate({"JLAB_TMPDIR": tmpdir}, "u" * length)
        assert len(str(new_path(base) / "rt")) + _KERNEL_SOCKET <= _SOCKET_PATH, length


@pytest.mark.parametrize("tmpdir", ["", "tmp", "/a b", "/$HOME", "/a\n", "/é", "/" + "a" * 61])
def test_what_jlab_tmpdir_cannot_be(tmpdir: str) -> None:
    with pytest.raises(JlabError, match="JLAB_TMPDIR must be an absolute path of at most 60 plain"):
        runtime_directory.locate({"JLAB_TMPDIR": tmpdir}, "alice")


@pytest.mark.root("only root has a directory of root's")
def test_a_directory_of_root_s_that_an_acl_lets_others_write_is_refused(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o755)
    acl.share(scratch, "access")
    with pytest.raises(JlabError, match="can be changed by others"):
        check_parents(scratch / "jlab-alice")


# As user 5, who alone is mapped, looks for whoever could move argv[1] away.
IN_A_CONTAINER = """
import ctypes, encodings.ascii, os, sys
from pathlib import Path
from jlab_node.runtime import runtime_directory
libc = ctypes.CDLL(None)
os.setgroups([])
os.setresgid(5, 5, 5)
os.setresuid(5, 5, 5)
libc.prctl(4, 1, 0, 0, 0)
if libc.unshare(0x10000000):
    sys.exit("no user namespace")
Path("/proc/self/uid_map").write_text("5 5 1")
runtime_directory.check_parents(Path(sys.argv[1]))
"""


@pytest.mark.root("only root can be two others")
def test_in_a_container_another_user_s_directory_is_not_taken_for_root_s(tmp_path: Path) -> None:
    """There both look like nobody's."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o1777)
    os.chown(theirs, NOBODY - 1, NOBODY - 1)
    for path in tmp_path.parents:
        if path.owner() == "root" and path != Path("/tmp"):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    for base, code in ((theirs / "jlab-x", 1), (Path("/tmp/jlab-x"), 0)):
        done = subprocess.run(
            [sys.executable, "-c", IN_A_CONTAINER, str(base)],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "no user namespace" in done.stderr:
            pytest.skip("users have no namespaces of their own here")
        assert done.returncode == code, done.stderr
        assert ("can be changed by" in done.stderr) is bool(code)


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
90 22 0:50 / /tmp/jlab-ada rw,nosuid - fuse.bindfs bindfs rw,user_id=65534,group_id=65534
91 22 0:51 / /scratch rw - fuse.beegfs beegfs rw,user_id=0,group_id=0,allow_other
92 22 0:52 / /home/my\\040data rw - fuse.sshfs x rw,user_id=65534,group_id=1
"""


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/tmp/jlab-ada", "/tmp/jlab-ada"),
        ("/tmp/jlab-adam", ""),
        ("/scratch/jlab-ada", ""),
        ("/home/my data/jlab-ada", "/home/my data"),
        ("/home/jlab-ada", ""),
    ],
)
def test_mount_of_another_user_on_the_way_is_seen(path: str, mounted: str) -> None:
    """What such a file system says of owners is made up."""
    assert mounts.foreign_mount(Path(path), table=MOUNTS) == mounted


def test_directory_below_a_mount_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"90 22 0:50 / {tmp_path} rw - fuse.x x rw,user_id=65534,group_id=1\n")
    monkeypatch.setattr(mounts, "_MOUNTS", str(table))
    with pytest.raises(JlabError, match="another user has mounted a file system at"):
        runtime_directory.make(tmp_path / "jlab-u")
    assert not (tmp_path / "jlab-u").exists()
