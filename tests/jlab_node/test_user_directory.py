"""Which directory on the node is a user's."""

from __future__ import annotations

import pytest

from jlab_node.errors import JlabError
from jlab_node.runtime.leftovers import new_path
from jlab_node.runtime.user_directory import base_path
from jlab_node.session.jupyter.program import _KERNEL_SOCKET, _SOCKET_PATH

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
def test_base_path(user: str, tmpdir: str | None, path: str) -> None:
    """It stands in ssh configs of laptops: the same user has the same for ever."""
    assert str(base_path({} if tmpdir is None else {"JLAB_TMPDIR": tmpdir}, user)) == path


@pytest.mark.parametrize("tmpdir", ["/tmp", "/" + "t" * 29])
def test_whatever_the_users_name_there_is_room_for_sockets(tmpdir: str) -> None:
    for length in range(1, 65):
        base = base_path({"JLAB_TMPDIR": tmpdir}, "u" * length)
        assert len(str(new_path(base) / "rt")) + _KERNEL_SOCKET <= _SOCKET_PATH, length


@pytest.mark.parametrize("tmpdir", ["", "tmp", "/a b", "/$HOME", "/a\n", "/é", "/" + "a" * 61])
def test_what_jlab_tmpdir_cannot_be(tmpdir: str) -> None:
    with pytest.raises(JlabError, match="JLAB_TMPDIR must be an absolute path of at most 60 plain"):
        base_path({"JLAB_TMPDIR": tmpdir}, "alice")
