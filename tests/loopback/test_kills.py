"""kill -9, wherever it hurts: what was started ends, the next session works, and one is told."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import finished, name_of, wait_until

from jlab_node.files import writing
from tests.loopback.light import all_end, family, light, mortal, ours, without_monitors, words

if TYPE_CHECKING:
    from typing import Callable

    from loopback import Loopback

pytestmark = pytest.mark.full

FROM_START_TO_END = 0.6  # seconds of a short life, on a quick machine
_LATER = 7200  # seconds: what is written for so long is written no more


def live(site: Loopback, change: int) -> int:
    """A short life: it ends when it is published, or is killed at that change; its exit code."""
    process = subprocess.Popen(
        [*mortal(site.root), "run", *light(site.root)],
        env={**site.env, "CHANGE": str(change)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    site.add_process(process)
    wait_until(lambda: site.records() or process.poll() is not None, "it is published")
    process.terminate()
    return process.wait(timeout=60)


def nothing_runs(site: Loopback) -> None:
    wait_until(lambda: not ours(site), "all that it started ends", seconds=20)


def who_connects_is_told(site: Loopback) -> None:
    """Soon, and the record of the dead is gone."""
    connect = ["bash", str(site.home / ".jlab" / "connect")]
    done = finished(connect, env=site.env)
    assert done.returncode == 69, done.stderr
    assert "jlab-node: session lab is over: " in done.stderr
    assert done.stdout == ""
    assert site.records() == []


def home_is_made_whole(site: Loopback) -> None:
    """Whatever was half made."""
    done = finished(site.node("setup"), env=site.env)
    assert done.returncode == 0, done.stderr
    key = site.home / ".jlab" / "host_key"
    public = subprocess.check_output(["ssh-keygen", "-y", "-f", str(key)], text=True)
    assert key.with_suffix(".pub").read_text() == public


def the_next_one_lives(site: Loopback) -> None:
    """And of the dead nothing is left, neither on the node nor, once it is old, at home."""
    process = site.start_session(*light(site.root))
    site.wait_for_session(process)
    assert len(site.records()) == 1
    assert len([each for each in site.tmp.iterdir() if each.is_dir()]) == 1
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert [path.name for path in site.tmp.iterdir()] == ["lock"]
    writing.prune_unfinished(site.home / ".jlab", now=time.time() + _LATER)
    assert list((site.home / ".jlab").rglob(f"{writing.TEMP_PREFIX}*")) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.nightly)])
def test_at_every_change_that_it_makes(site: Loopback, step: int) -> None:
    """To files, locks, sockets and processes, from the first start of a user to the last link."""
    change, code, told = 0, -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        change += step
        code = live(site, change)
        nothing_runs(site)
        if code == -signal.SIGKILL and not site.tmp.exists():
            home_is_made_whole(site)
            shutil.rmtree(site.home / ".jlab")  # the next one makes its first start, too
        elif site.records():
            who_connects_is_told(site)
            told += 1
    assert code == 143
    assert change > 70
    assert told > 2 // step
    the_next_one_lives(site)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lives", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_at_any_time(site: Loopback, lives: int) -> None:
    """One after the other, each in the way of what the last one left."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(lives):
        process = site.start_session(*light(site.root))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, FROM_START_TO_END))
        process.kill()
        process.wait()
        nothing_runs(site)
    if site.records():
        who_connects_is_told(site)
    the_next_one_lives(site)
    assert "Traceback" not in (site.root / "job.log").read_text()


def set_up(site: Loopback) -> None:
    """Both sides."""
    subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(site.proxy("setup", "demo", "--yes"), check=True, stdin=subprocess.DEVNULL)


def relays(site: Loopback) -> list[psutil.Process]:
    """On the login node: for each ssh a cat for each direction, and a bash that waits for one."""
    below = site.sshd.children(recursive=True)
    return [each for each in below if words(each)[:1] in (["bash"], ["cat"])]


class Chain:
    """`ssh jlab+demo`, and what carries it, on either side."""

    def __init__(self, site: Loopback, session: subprocess.Popen[bytes]) -> None:
        self.site = site
        self.session = psutil.Process(session.pid)
        self.ssh = subprocess.Popen(
            # Instead of 15: after three of them without an answer it gives up.
            [*site.ssh("-oServerAliveInterval=1", "jlab+demo"), "echo $$; exec cat"],
            stderr=subprocess.DEVNULL,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.shell = int(self.read())

    def read(self) -> str:
        assert self.ssh.stdout is not None
        return self.ssh.stdout.readline().strip()

    def in_the_job(self) -> list[psutil.Process]:
        """sshd -i, the one that is the user's, the shell."""
        above = [each for each in psutil.Process(self.shell).parents() if name_of(each) == "sshd"]
        mine = [each for each in above if self.session in each.parents()]
        return [*without_monitors(mine)[::-1], psutil.Process(self.shell)]

    def on_the_login_node(self) -> list[psutil.Process]:
        return relays(self.site)

    def end(self) -> int:
        """By whoever types there, if it has not ended."""
        with contextlib.suppress(BrokenPipeError):
            self.ssh.communicate(timeout=30)
        return self.ssh.wait(timeout=30)


@pytest.mark.parametrize("way", [Chain.in_the_job, Chain.on_the_login_node])
def test_each_process_that_carries_an_ssh(
    site: Loopback, way: Callable[[Chain], list[psutil.Process]]
) -> None:
    """The ssh ends, at once or when it would, the session lives, nothing of the ssh is left."""
    set_up(site)
    session = site.start_session(*light(site.root))
    site.wait_for_session(session)
    first = Chain(site, session)
    places = len(way(first))
    assert places >= 2
    assert first.end() == 0
    for place in range(places):
        wait_until(lambda: not relays(site), "the relay of the last ssh is gone")
        chain = Chain(site, session)
        links = [*chain.in_the_job(), *chain.on_the_login_node()]
        victim = way(chain)[place]
        only_waits = victim.name() == "bash"
        victim.kill()
        assert chain.end() == (0 if only_waits else 255)
        all_end(links)
        assert session.poll() is None
    assert len(site.records()) == 1
    assert Chain(site, session).end() == 0
    session.terminate()
    assert session.wait(timeout=30) == 143
    nothing_runs(site)


def test_the_session_under_an_ssh(site: Loopback) -> None:
    """Both ends of the ssh are gone soon, and whoever comes back is told."""
    set_up(site)
    session = site.start_session(*light(site.root))
    site.wait_for_session(session)
    chain = Chain(site, session)
    links = [*family(chain.session), *chain.on_the_login_node()]
    session.kill()
    session.wait()
    assert chain.end() == 255
    all_end(links)
    who_connects_is_told(site)
    the_next_one_lives(site)


def test_connect_while_it_waits(site: Loopback) -> None:
    """The laptop's ssh ends; nothing stays on the login node; the session starts as it would."""
    set_up(site)
    session = site.start_session("--jupyter", slow(site))
    wait_until(lambda: list(site.tmp.glob("s-*/jupyter")), "it is starting")
    ssh = subprocess.Popen(
        site.ssh("jlab+demo", "true"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    waiting: list[psutil.Process] = []

    def waits() -> bool:
        below = site.sshd.children(recursive=True)
        waiting[:] = [each for each in below if "connect" in words(each)]
        return bool(waiting)

    wait_until(waits, "connect waits")
    waiting[0].kill()
    _, said = ssh.communicate(timeout=30)
    assert ssh.returncode == 255, said
    all_end(waiting)
    (site.root / "go").touch()
    site.wait_for_session(session)
    assert subprocess.run(site.ssh("jlab+demo", "true"), timeout=60, check=False).returncode == 0


def slow(site: Loopback) -> str:
    """The light server, which waits for the file `go`."""
    command = light(site.root)[1]
    script = site.root / "slow"
    script.write_text(
        f'#!/bin/sh\nuntil [ -e {site.root}/go ]; do sleep 0.1; done; exec {command} "$@"\n'
    )
    script.chmod(0o755)
    return str(script)
