"""What `open` holds itself: its port to the very end, and directories that nobody else enters."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, free_port, wait_until

from jlab_proxy import port_check
from jlab_proxy.errors import JlabError
from jlab_proxy.forwarding import socket_directory
from jlab_proxy.forwarding.held_port_way import HeldPortWay
from jlab_proxy.forwarding.local_ports import LocalForward
from jlab_proxy.paths import Paths
from jlab_proxy.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home() -> Iterator[Path]:
    """With a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def way(home: Path) -> HeldPortWay:
    """It listens already."""
    paths = Paths(str(home / ".ssh" / "config"), is_default=False)
    return HeldPortWay(paths, Target("cal1"), LocalForward(free_port(), "lab", "/tmp/jlab-alice"))


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
@pytest.mark.parametrize("exists", [False, True])
def test_socket_directories_are_private_whatever_the_umask(
    way: HeldPortWay, home: Path, *, exists: bool
) -> None:
    jlab = home / ".ssh" / "jlab"
    if exists:
        jlab.parent.mkdir(mode=0o700)
        jlab.mkdir(mode=0o777)
    with way:
        for each in (jlab.parent, jlab, jlab / f"way-{way.port}"):
            assert stat.S_IMODE(each.stat().st_mode) == 0o700, each


def test_own_way_frees_its_port_after_all_else(
    way: HeldPortWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has it then may have the directory as well."""
    was_free, clear = [], socket_directory._clear

    def look(directory: str) -> None:
        was_free.append(port_check.is_free(way.port))
        clear(directory)

    monkeypatch.setattr(socket_directory, "_clear", look)
    with way:
        pass
    assert was_free == [False, False]
    assert port_check.is_free(way.port)


def test_own_way_whose_carrier_fails_raises(
    way: HeldPortWay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(way._carrier, "_attend_waiting", fail)
    with way:
        assert not way.is_usable(), "no ssh yet"
        way.let_through()
        wait_until(lambda: way._carrier.failure, "it fails")
        with pytest.raises(JlabError, match=r"not served any more: .*allocate memory"):
            way.is_usable()


def test_own_way_refuses_a_directory_that_others_can_enter(way: HeldPortWay, home: Path) -> None:
    with way:
        (home / ".ssh" / "jlab" / f"way-{way.port}").chmod(0o777)
        with pytest.raises(JlabError, match="was removed, or opened"), way.starting():
            pass


@pytest.mark.root("only root can give a directory to another user")
def test_sockets_are_made_elsewhere_where_our_directory_is_another_users(
    way: HeldPortWay, home: Path
) -> None:
    """He could move the one in it away, and put his own there."""
    jlab = home / ".ssh" / "jlab"
    jlab.mkdir(parents=True)
    os.chown(jlab, NOBODY, NOBODY)
    with way:
        assert [*jlab.iterdir()] == []
        assert Path(way._directory).parent == Path(tempfile.gettempdir())
