"""A home that goes away under a session, or that takes no writes, and comes back."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import finished, jupyterlab_of, wait_until

from tests.loopback.conftest import answers
from tests.loopback.light import light, ours
from tests.loopback.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback import Loopback

pytestmark = [pytest.mark.full, pytest.mark.usefixtures("mounts")]


class Away:
    """A login node whose home is a file system of its own, in a mount namespace of its own."""

    def __init__(self, site: Loopback, disk: SmallDisk) -> None:
        self.site = site
        self.disk = disk

    def node(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`jlab-node` to its end."""
        return self.finished(*self.site.node(*words))

    def connect(self) -> subprocess.CompletedProcess[str]:
        """What ssh starts on the login node."""
        return self.finished("bash", str(self.site.home / ".jlab" / "connect"))

    def finished(self, *command: str) -> subprocess.CompletedProcess[str]:
        return finished(self.disk.enter(*command), env=self.site.env)

    @property
    def records(self) -> list[Path]:
        """On the disk, wherever that is mounted."""
        return [*(self.disk.seen(self.disk.where) / ".jlab" / "sessions").glob("local-*")]

    def start(self) -> subprocess.Popen[bytes]:
        """A session, with all of it served; its messages go to a file in the home."""
        session = self.site.start_process(
            self.disk.enter("sh", "-c", 'exec "$@" 2>"$HOME/log"', "sh")
            + self.site.node("run", *light(self.site.root))
        )
        wait_until(lambda: self.node("expose").returncode == 0, "it takes requests")
        return session

    def expose(self) -> list[str]:
        """The command that exposes the session's own port once more."""
        (record,) = self.records
        port = next(line[5:] for line in record.read_text().splitlines() if line[:5] == "port=")
        return self.site.node("expose", "dask", port)

    def answers(self) -> bool:
        """Whether the relay serves whoever asks JupyterLab: without a token, that it refuses."""
        return answers(self.site.tmp / "lab.sock") == b"HTTP/1.0 403 Fo"


@pytest.fixture
def away(site: Loopback) -> Iterator[Away]:
    with SmallDisk(site.root / "disk") as disk:
        made = Away(site, disk)
        mount(made)
        yield made


def mount(away: Away) -> None:
    away.disk.run("mount", "--bind", str(away.disk.where), str(away.site.home))


def unmount(away: Away) -> None:
    away.disk.run("umount", "--lazy", str(away.site.home))


def test_it_is_back_before_the_end(away: Away) -> None:
    """The session lives on, publishes nothing meanwhile, and is found again."""
    session = away.start()
    expose = away.expose()
    (record,) = away.records
    before = record.read_text()
    unmount(away)
    assert away.answers()
    done = away.finished(*expose)
    assert done.returncode == 1
    assert done.stderr.startswith("jlab-node: cannot publish the session in ")
    assert "No such file or directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    told = away.node("connect")
    assert told.returncode == 69
    assert "jlab-node: no session to connect to" in told.stderr
    assert list(away.disk.seen(away.site.home).iterdir()) == [], "nothing is made in its place"
    mount(away)
    assert record.read_text() == before
    assert away.connect().stdout.startswith("SSH-")
    assert away.finished(*expose).returncode == 0
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert away.records == []


def test_the_session_ends_without_it(away: Away) -> None:
    """The record stays; once it can be read again, whoever reads it is told, and removes it."""
    session = away.start()
    unmount(away)
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert ours(away.site) == []
    assert list(away.disk.seen(away.site.home).iterdir()) == []
    mount(away)
    assert len(away.records) == 1
    told = away.connect()
    assert told.returncode == 69
    assert "session lab is over" in told.stderr
    assert away.records == []


class Frozen(Away):
    """One whose home can be frozen: it is read, and whoever writes waits, as on a lost server."""

    def freeze(self) -> None:
        self.disk.run("fsfreeze", "--freeze", str(self.site.home))

    def thaw(self) -> None:
        self.disk.run("fsfreeze", "--unfreeze", str(self.site.home))


@pytest.fixture
def frozen(site: Loopback) -> Iterator[Frozen]:
    image = site.root / "image"
    subprocess.run(["mkfs.ext4", "-q", str(image), "16M"], check=True, capture_output=True)
    with SmallDisk(site.root / "disk") as disk:
        made = Frozen(site, disk)
        done = made.finished("mount", "-o", "loop", str(image), str(site.home))
        if done.returncode:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        disk.run("mount", "--bind", str(site.home), str(disk.where))
        try:
            yield made
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                made.thaw()


def test_a_frozen_home_does_not_freeze_the_session(frozen: Frozen) -> None:
    session = frozen.start()
    expose = frozen.expose()
    (record,) = frozen.records
    before = record.read_text()
    frozen.freeze()
    asking = subprocess.Popen(
        frozen.disk.enter(*expose), env=frozen.site.env, stderr=subprocess.PIPE, text=True
    )
    wait_until((frozen.site.tmp / "dask.sock").is_symlink, "it is at it")
    assert frozen.answers()
    assert asking.poll() is None, "it still waits for the home"
    said = asking.communicate(timeout=60)[1]
    assert asking.returncode == 1
    assert said.strip().endswith(".jlab/sessions does not answer")
    frozen.thaw()
    assert frozen.node("expose").stdout == "nothing is exposed: jlab-node expose NAME PORT\n"
    wait_until(lambda: record.read_text() == before, "the late one is undone")
    assert frozen.finished(*expose).returncode == 0
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert frozen.records == []


def test_a_session_ends_although_its_home_is_frozen(frozen: Frozen) -> None:
    """JupyterLab at least, and all that it started; the rest is done when somebody thaws it."""
    session = frozen.start()
    server = jupyterlab_of(session.pid)
    frozen.freeze()
    session.terminate()
    wait_until(lambda: not server.is_running(), "JupyterLab has ended", seconds=60)
    wait_until(lambda: not [*frozen.site.tmp.glob("*/")], "so has the rest", seconds=60)
    frozen.thaw()
    assert session.wait(timeout=60) == 128 + signal.SIGTERM
    if frozen.records:
        assert "session lab is over" in frozen.connect().stderr
    assert frozen.records == []
