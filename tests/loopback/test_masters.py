"""The shared connection to the login node when its ssh is dead, stopped, or cannot be there."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import Loopback, free_port, wait_until

from tests.loopback.light import all_end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

SOON = 40  # seconds: without a bound the tests below would not end at all


class Road:
    """A laptop that is set up for a session that runs."""

    def __init__(self, site: Loopback) -> None:
        self.site = site
        site.wait_for_session(site.start_session())
        self.jlab("setup", "demo", "--yes", "--port", str(free_port()))
        self.directory = site.laptop / "jlab"

    def jlab(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of jlab-proxy that succeeds."""
        return run(self.site.proxy(verb, *arguments), check=True)

    def arrives(self, *before: str) -> str:
        """`ssh jlab+demo` gets there; what it says on stderr. `before`: words before the ssh."""
        done = run([*before, *self.site.ssh("jlab+demo", "echo here")])
        assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
        return done.stderr

    def master(self) -> psutil.Process:
        """The one that there is."""
        (found,) = self.masters()
        return found

    def masters(self) -> list[psutil.Process]:
        path = f"{self.directory}/login-"
        return [
            each
            for each in psutil.process_iter(["cmdline"])
            if any(path in word and "[mux]" in word for word in each.info["cmdline"] or ())
        ]

    @property
    def sockets(self) -> list[Path]:
        return list(self.directory.glob("login-*"))


def run(command: list[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=check,
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[Road]:
    with Loopback() as site:
        yield Road(site)


@pytest.fixture
def road(shared: Road) -> Iterator[Road]:
    """With one master, and none is left."""
    shared.arrives()
    yield shared
    for each in shared.masters():
        each.kill()
    for path in shared.sockets:
        path.unlink()


def test_killed(road: Road) -> None:
    """Its socket stays, and nobody listens there."""
    for _ in range(5):
        before = road.master()
        before.kill()
        all_end([before])
        assert road.sockets
        assert road.arrives() == ""
        assert road.master().pid != before.pid


def test_stopped(road: Road) -> None:
    stopped = road.master()
    stopped.suspend()
    assert road.arrives() == (
        "jlab-proxy: the shared connection to the login node does not react: beginning a new one\n"
    )
    assert len(road.sockets) == 1
    assert road.arrives() == ""
    (new,) = (each for each in road.masters() if each.pid != stopped.pid)
    assert new.is_running()


@pytest.mark.parametrize("words", [("ls",), ("logs", "demo"), ("setup", "demo", "--yes")])
def test_stopped_and_something_is_asked(road: Road, words: tuple[str, ...]) -> None:
    road.master().suspend()
    assert road.jlab(*words).returncode == 0


def test_stopped_and_to_be_closed(road: Road) -> None:
    road.master().suspend()
    assert road.jlab("close", "demo").returncode == 0
    assert road.sockets == []


def test_stopped_while_many_wait_for_it(road: Road) -> None:
    """So many that no further one can even begin to wait."""
    road.master().suspend()
    (path,) = road.sockets
    with contextlib.ExitStack() as stack:

        def begin() -> bool:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(path))
                return False
            return True

        wait_until(begin, "no more can")
        assert "beginning a new one" in road.arrives()


@pytest.mark.parametrize("what", ["file", "directory", "link to nothing"])
def test_something_else_is_in_its_place(road: Road, what: str) -> None:
    (path,) = road.sockets
    road.jlab("close", "demo")
    if what == "file":
        path.touch()
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("nothing")
    try:
        road.arrives()
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()


def test_a_directory_that_cannot_be_written(road: Road, request: pytest.FixtureRequest) -> None:
    """As of a read-only home: then nothing is shared."""
    road.jlab("close", "demo")
    if os.getuid() == 0:
        only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        before = ["unshare", "--mount", "sh", "-c", only, str(road.directory)]
        request.getfixturevalue("mounts")
        assert road.arrives(*before) == ""
    else:
        road.directory.chmod(0o500)
        try:
            assert road.arrives() == ""
        finally:
            road.directory.chmod(0o700)
    assert road.masters() == []


def test_the_directory_is_gone(road: Road) -> None:
    """The key with it, and what ssh starts: that is said, at once."""
    away = road.directory.rename(road.site.laptop / "away")
    try:
        done = run(road.site.ssh("jlab+demo", "echo here"))
    finally:
        away.rename(road.directory)
    assert (done.returncode, done.stdout) == (255, "")
    assert f"can't open file '{road.directory}/connect.py'" in done.stderr
    road.arrives()
