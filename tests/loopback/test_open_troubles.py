"""`jlab-proxy open` where something is not ready, is refused, or is gone for a while."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import jupyterlab_of, wait_until

from jlab_proxy.commands import tunnel_ssh
from tests.loopback.light import light
from tests.loopback.test_clock import date
from tests.loopback.test_doctor import rewrite_wrapper
from tests.loopback.test_open import URL, Opened
from tests.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from loopback import Loopback

pytestmark = pytest.mark.full

# `jlab-proxy` that asks again every second when the job ends.
CURIOUS = """\
from jlab_proxy import __main__
from jlab_proxy.commands import tunnel_ssh
tunnel_ssh.REFRESH_INTERVAL = 1.0
__main__.main()
"""


class Light(Opened):
    """One whose session costs little; nothing is open yet."""

    def __init__(self, site: Loopback, place: Path) -> None:
        super().__init__(site, place)
        self.session = site.start_session(*light(site.root))
        self.record = site.wait_for_session(self.session)

    def at_a_terminal(self, *program: str) -> Terminal:
        """`open` as a person types it; `program`: what stands for jlab-proxy."""
        own, *words = self.site.proxy("open", "demo", "--no-browser")
        return Terminal([*(program or (own,)), *words])


@pytest.fixture
def opened(site: Loopback, tmp_path: Path) -> Light:
    return Light(site, tmp_path)


@pytest.fixture
def address(opened: Light) -> str:
    """A pattern for what logs a browser in."""
    return URL.format(opened.port)


def in_time(record: Path, hours: int) -> None:
    """The job ends in so many hours, and half a minute."""
    date(record, 0, ends_at=int(time.time()) + hours * 3600 + 30)


def test_an_end_that_moves_is_noticed(opened: Light) -> None:
    in_time(opened.record, 2)
    terminal = opened.at_a_terminal(sys.executable, "-c", CURIOUS)
    try:
        terminal.read_until(r"2 h 0 min left  \(Ctrl-C ends the tunnel\)")
        in_time(opened.record, 5)
        terminal.read_until(r"5 h 0 min left  \(Ctrl-C ends the tunnel\)")
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert terminal.text.rpartition("^C")[2] == "\r\x1b[K\r\n", "the line is taken back"
    finally:
        terminal.end()


def test_jupyterlab_is_too_busy_to_answer(opened: Light, address: str) -> None:
    server = jupyterlab_of(opened.session.pid)
    server.suspend()
    terminal = opened.at_a_terminal()
    try:
        terminal.read_until("JupyterLab does not answer yet; asking again")
        server.resume()
        terminal.read_until(address)
    finally:
        server.resume()
        terminal.end()


def test_another_session_is_the_newest_meanwhile(opened: Light, address: str) -> None:
    """Its address would not do where ssh has arrived: another attempt is made."""
    token = next(line for line in opened.record.read_text().split("\n") if line[:6] == "token=")
    date(opened.record, 0, token="0" * 64)
    terminal = opened.at_a_terminal()
    try:
        terminal.read_until("asking demo what has happened")
        date(opened.record, 0, token=token.partition("=")[2])
        terminal.read_until(address)
    finally:
        terminal.end()


def test_the_session_does_not_take_the_key(opened: Light) -> None:
    """What another attempt does not change ends it at once, with ssh's own words."""
    (opened.site.home / ".jlab" / "authorized_keys").write_text("")
    assert opened.start().wait(timeout=60) == 1
    assert "session lab runs on" in opened.said
    assert "but ssh jlab+demo fails: " in opened.said
    assert "Permission denied" in opened.said
    assert opened.said.endswith("jlab-proxy doctor demo to find the reason\n")


def test_a_home_that_comes_later_than_the_login_node(opened: Light) -> None:
    opened.start()
    opened.wait_for_url()
    home = opened.site.home
    away = home.rename(home.with_name("away"))
    home.mkdir()
    opened.ssh().kill()
    wait_until(lambda: "trying again until it is back" in opened.said, "it says so")
    assert "jlab-node is not set up on demo" in opened.said
    home.rmdir()
    away.rename(home)
    wait_until(lambda: "connected again" in opened.said, "it is back", seconds=90)
    assert opened.answers()
    assert len(opened.urls) == 1


def test_a_laptop_that_slept_long(opened: Light) -> None:
    """Its ssh still believes in a connection of which nothing is left."""
    process = opened.start()
    opened.wait_for_url()
    before = opened.ssh()
    asleep = [psutil.Process(process.pid), before]
    for each in [*asleep, *opened.site.connections()]:
        each.suspend()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > tunnel_ssh.SUSPEND_THRESHOLD + 1, "it was long")
    for each in asleep:
        each.resume()
    wait_until(lambda: opened.has_another_ssh(before), "a new ssh", seconds=90)
    wait_until(opened.answers, "JupyterLab answers again", seconds=90)
    assert len(opened.urls) == 1


def test_an_ssh_that_does_not_obey(opened: Light) -> None:
    process = opened.start()
    opened.wait_for_url()
    ssh = opened.ssh()
    ssh.suspend()
    process.terminate()
    assert process.wait(timeout=60) == 143
    assert not ssh.is_running()


# Answers `submit`: keeps what it was given, and lets the session be seen.
SUBMIT = """\
if [ "$1" = submit ]; then
    cat >"$HOME/given"
    mv "$HOME/{name}" "$HOME/.jlab/sessions/"
    echo '{{"format": 1, "text": "submitted Slurm job 7"}}'
    exit
fi
"""


def test_a_job_is_submitted_where_there_is_none(opened: Light) -> None:
    name = opened.record.name
    shutil.move(opened.record, opened.site.home / name)
    rewrite_wrapper(opened.site, "^cd ", SUBMIT.format(name=name) + "cd ")
    opened.start("--submit", "sbatch 'my job.sh'")
    opened.wait_for_url()
    assert "jlab-proxy: submitted Slurm job 7\n" in opened.said
    assert (opened.site.home / "given").read_text() == "sbatch 'my job.sh'\n"
