"""Several `jlab-proxy setup` at once, and such as are killed: nothing is lost, nothing traps."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, stop, wait_until

from jlab_proxy import messages
from jlab_proxy.ssh_config import document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

# What a setup does at its end, again and again: the block comes, goes and comes back.
WRITER = """
import random, sys, time
from jlab_proxy import target
from jlab_proxy.commands import setup
from jlab_proxy.ssh_config import document as sshconfig
from jlab_proxy.paths import Paths
config, alias, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
paths, where = Paths(config, is_default=False), target.parse(alias)
def merge(text):
    port = sshconfig.unused_port(text, where.host, is_free=lambda _: True)
    return sshconfig.merge(text, sshconfig.Block(
        target=where, user="x", port=port, socket="/tmp/lab.sock", proxy=["jlab-proxy"],
        paths=paths, share=True, mux=False))
for turn in range(rounds):
    setup.save(paths, where, "ssh-ed25519 " + alias * 17, merge)
    if turn + 1 < rounds:
        time.sleep(random.uniform(0, 0.2))  # or the others would hardly have a turn
        setup.save(paths, where, None, lambda text: sshconfig.remove(text, where.host))
"""
USERS = "Host mine\n    User carol\n# the last line"


@pytest.fixture
def ready() -> Iterator[Loopback]:
    """Two names of a login node whose side is there."""
    with Loopback() as site:
        subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
        site.add_alias("other", site.port)
        yield site


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A user's config file, and our directory beside it."""
    (tmp_path / "jlab").mkdir()
    made = tmp_path / "config"
    made.write_text(USERS)
    return made


def writer(config: Path, alias: str, *, rounds: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(config), alias, str(rounds)])


def start(site: Loopback, alias: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        site.proxy("setup", alias, "--yes", *more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def succeed(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said


def forget(site: Loopback) -> None:
    """The laptop is as if it had never been set up."""
    for master in site.laptop.glob("jlab/login-*"):
        subprocess.run(
            site.ssh("-Oexit", f"-S{master}", "x"), stderr=subprocess.DEVNULL, check=True
        )
    wait_until(lambda: not any(site.laptop.glob("jlab/login-*")), "they have ended")
    shutil.rmtree(site.laptop / "jlab")


def test_from_nothing_at_once(ready: Loopback) -> None:
    """Two clusters, and one of them twice: one key, one port each, one pin each; and back."""
    before = ready.config.read_bytes()
    for _ in range(3):
        succeed(*(start(ready, alias) for alias in ("demo", "other", "other")))
        text = ready.config.read_text()
        ports = document.ports(text)
        assert sorted(ports) == ["jlab+demo", "jlab+other"]
        assert len(set(ports.values())) == 2
        assert text.encode().endswith(before)
        assert len((ready.laptop / "jlab" / "known_hosts").read_text().splitlines()) == 2
        succeed(*(start(ready, alias, "--remove") for alias in ("demo", "other", "other")))
        assert ready.config.read_bytes() == before
        assert (ready.laptop / "jlab" / "known_hosts").read_text() == ""
        forget(ready)


def test_many_times_at_once(config: Path) -> None:
    writers = [writer(config, alias, rounds=25) for alias in ("abc", "def", "def", "ghi")]
    assert [each.wait(timeout=250) for each in writers] == [0] * 4
    ports = document.ports(config.read_text())
    assert sorted(ports) == ["jlab+abc", "jlab+def", "jlab+ghi"]
    assert len(set(ports.values())) == 3
    assert config.read_text().endswith(USERS)
    pins = (config.parent / "jlab" / "known_hosts").read_text().splitlines()
    assert sorted(line[:8] for line in pins) == ["jlab+abc", "jlab+def", "jlab+ghi"]


def test_killed_while_it_writes(config: Path) -> None:
    """Old or new, never half; and the next one need not wait."""
    old = config.read_bytes()
    assert writer(config, "abc", rounds=1).wait(timeout=60) == 0
    new = config.read_bytes()
    for _ in range(40):
        doomed = writer(config, "abc", rounds=1000)
        wait_until(lambda: is_writing(config), "it writes")
        time.sleep(random.uniform(0, 0.25))
        doomed.kill()
        doomed.wait()
        assert config.read_bytes() in (old, new)
        for left in config.parent.glob(".jlab-*"):
            left.unlink()
    assert writer(config, "abc", rounds=2).wait(timeout=60) == 0
    assert config.read_bytes() == new


def is_writing(config: Path) -> bool:
    return any(config.parent.glob(".jlab-*"))


def test_killed_at_any_moment(ready: Loopback) -> None:
    before = ready.config.read_bytes()
    succeed(start(ready, "demo", "--port", "8888"))
    after = ready.config.read_bytes()
    ours = [ready.laptop / "jlab" / name for name in ("id", "known_hosts")]
    for _ in range(12):
        ready.config.write_bytes(before)
        for path in ours:
            path.unlink(missing_ok=True)
        doomed = start(ready, "demo", "--port", "8888")
        time.sleep(random.uniform(0, 2))
        doomed.kill()
        doomed.communicate()
        assert ready.config.read_bytes() in (before, after)
    succeed(start(ready, "demo", "--port", "8888"))
    assert ready.config.read_bytes() == after
    subprocess.run(["ssh-keygen", "-y", "-f", ours[0]], stdout=subprocess.DEVNULL, check=True)


def test_one_that_is_suspended(config: Path) -> None:
    """It holds the lock: the next one says so, and does not wait without end."""
    stopped = writer(config, "abc", rounds=1000)
    try:
        wait_until(lambda: is_writing(config), "it writes")
        stopped.send_signal(signal.SIGSTOP)
        done = finished([sys.executable, "-c", WRITER, str(config), "def", "1"])
    finally:
        stopped.send_signal(signal.SIGCONT)
        stop(stopped)
    assert str(messages.another_setup(f"{config.parent}/jlab/lock", seconds=10)) in done.stderr
