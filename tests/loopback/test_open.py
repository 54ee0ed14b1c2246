"""`jlab-proxy open` holds the way to JupyterLab through what happens to laptops and jobs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import Loopback, accepts, free_port, stop, wait_until

from jlab_proxy.forwarding import ssh_forward

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = r"http://127.0.0.1:{}/lab\?token=[0-9a-f]{{64}}"
# A web server of the user's, in the job.
SERVE = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)"
SERVE += "; print(s.server_port, flush=True); s.serve_forever()"


class Opened:
    """A laptop that is set up, and `jlab-proxy open` on it."""

    def __init__(self, site: Loopback, place: Path) -> None:
        self.site = site
        self.port = free_port()
        self._place = place
        subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
        setup = site.proxy("setup", "demo", "--yes", "--port", str(self.port))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self._place / "out").open("wb") as out, (self._place / "err").open("wb") as err:
            self.process = subprocess.Popen(
                self.site.proxy("open", "demo", *arguments),
                env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.site.add_process(self.process)
        return self.process

    @property
    def said(self) -> str:
        return (self._place / "err").read_text()

    @property
    def urls(self) -> list[str]:
        """The addresses that it has printed."""
        return (self._place / "out").read_text().split()

    def wait_for_url(self, count: int = 1) -> str:
        """The last of so many addresses; JupyterLab answers there."""

        def arrived() -> bool:
            assert self.process.poll() is None, self.said
            return len(self.urls) == count

        wait_until(arrived, f"address {count} in {self.urls}, {self.said}", seconds=90)
        pattern = URL.format(self.port)
        if self.site.proxy_python != sys.executable:  # an older laptop
            pattern = pattern.replace("127.0.0.1", "localhost")
        assert re.fullmatch(pattern, self.urls[-1])
        wait_until(self.answers, "JupyterLab answers")
        return self.urls[-1]

    def answers(self) -> bool:
        return accepts(self.port) and ssh_forward.login_status(self.urls[-1]) == 200

    def ssh(self) -> psutil.Process:
        """The ssh that it holds."""
        (found,) = [
            each
            for each in psutil.Process(self.process.pid).children()
            if "-N" in each.cmdline() and each.name() == "ssh"
        ]
        return found

    def cut(self) -> None:
        """Its ssh is killed; it comes back with another."""
        before = self.ssh()
        before.kill()
        before.wait(timeout=20)
        wait_until(lambda: self.has_another_ssh(before), "a new ssh")

    def has_another_ssh(self, before: psutil.Process) -> bool:
        with contextlib.suppress(ValueError, psutil.Error):
            return self.ssh().pid != before.pid
        return False


@pytest.fixture
def opened(site: Loopback, tmp_path: Path) -> Iterator[Opened]:
    yield Opened(site, tmp_path)
    for process in site.connections():
        process.kill()  # a suspended one heeds nothing else


def test_the_address_and_the_end(opened: Opened) -> None:
    session = opened.site.start_session()
    opened.site.wait_for_session(session)
    process = opened.start()
    opened.wait_for_url()
    assert opened.said.count("session lab on ") == 1
    stop(session)
    assert process.wait(timeout=60) == 0
    assert re.search("session lab is over", opened.said)
    assert not accepts(opened.port)


def test_it_waits_for_a_session_that_starts(opened: Opened) -> None:
    slow = "sh -c 'until [ -e go ]; do sleep 0.1; done; exec jupyter-lab \"$@\"' jupyter-lab"
    session = opened.site.start_session("--jupyter", slow)
    wait_until(lambda: any(opened.site.tmp.glob("*/starting")), "it is starting")
    opened.start()
    wait_until(lambda: "JupyterLab is starting" in opened.said, "how it stands is said")
    assert "[waiting]" not in opened.said
    (opened.site.home / "go").touch()
    opened.site.wait_for_session(session)
    opened.wait_for_url()


def test_there_is_nothing_to_open(opened: Opened) -> None:
    assert opened.start().wait(timeout=60) == 69
    assert "no session to connect to" in opened.said
    assert opened.urls == []


def test_it_comes_back_at_the_same_port(opened: Opened) -> None:
    opened.site.wait_for_session(opened.site.start_session())
    opened.start()
    opened.wait_for_url()
    opened.cut()
    wait_until(opened.answers, "JupyterLab answers again")
    assert len(opened.urls) == 1, "the open tab goes on: nothing new is to be opened"


@pytest.mark.full
def test_a_network_that_falls_silent(opened: Opened) -> None:
    """As a laptop that slept, or changed networks, finds it: no one ever says goodbye."""
    opened.site.wait_for_session(opened.site.start_session())
    opened.start()
    opened.wait_for_url()
    before = opened.ssh()
    for process in opened.site.connections():
        process.suspend()
    wait_until(lambda: opened.has_another_ssh(before), "it has found another way", seconds=150)
    wait_until(opened.answers, "JupyterLab answers again")
    assert len(opened.urls) == 1


@pytest.mark.full
def test_the_laptop_sleeps(opened: Opened) -> None:
    opened.site.wait_for_session(opened.site.start_session())
    process = opened.start()
    opened.wait_for_url()
    asleep = [psutil.Process(process.pid), opened.ssh()]
    for each in asleep:
        each.suspend()
    for each in opened.site.connections():
        each.kill()
    for each in asleep:
        each.resume()
    wait_until(lambda: opened.answers() and opened.said.count("is over") == 0, "it is back")
    assert process.poll() is None
    assert len(opened.urls) == 1


@pytest.mark.full
def test_the_login_node_is_rebooted(opened: Opened) -> None:
    """For as long as it takes, whatever ssh says meanwhile."""
    site = opened.site
    opened.site.wait_for_session(site.start_session())
    process = opened.start()
    opened.wait_for_url()
    for each in [site.sshd, *site.connections()]:
        each.kill()
    wait_until(lambda: not accepts(site.port), "nobody listens there")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 4, "several attempts fail")
    assert process.poll() is None
    assert opened.said.count("trying again until it is back") == 1
    site.start_sshd()
    wait_until(opened.answers, "JupyterLab answers again", seconds=90)
    wait_until(lambda: "connected again" in opened.said, "it says so")
    assert len(opened.urls) == 1


def test_the_session_moves_to_a_new_job(opened: Opened) -> None:
    old = opened.site.start_session()
    opened.site.wait_for_session(old)
    process = opened.start()
    first = opened.wait_for_url()
    new = opened.site.start_session()
    opened.site.wait_for_session(new)
    assert opened.answers(), "an open tunnel stays where it is"
    stop(old)
    second = opened.wait_for_url(2)
    assert first != second, "another token"
    assert process.poll() is None
    stop(new)
    assert process.wait(timeout=60) == 0


def test_a_named_session_without_a_port_of_its_own(opened: Opened) -> None:
    opened.site.wait_for_session(opened.site.start_session("--name", "gpu"))
    opened.site.wait_for_session(opened.site.start_session())
    done = subprocess.Popen(
        opened.site.proxy("open", "demo+gpu", "--no-browser"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert done.stdout is not None
        url = done.stdout.readline().strip()
        record = next(each for each in opened.site.records() if each.name.endswith("-gpu"))
        token = re.search("token=([0-9a-f]+)", record.read_text())
        assert token
        assert url.endswith(token[1])
        assert ssh_forward.login_status(url) == 200
    finally:
        done.terminate()
        done.communicate(timeout=30)


def test_what_the_session_exposes(opened: Opened) -> None:
    opened.site.wait_for_session(opened.site.start_session())
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        expose = opened.site.node("expose", "files", server.stdout.readline().strip())
        subprocess.run(expose, env=opened.site.env, check=True, stdout=subprocess.DEVNULL)
        opened.start("--with", "files", "--with", "later")
        opened.wait_for_url()
        found = re.search(r"files at http://127.0.0.1:([0-9]+)/\n", opened.said)
        assert found
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/", timeout=30) as page:
            assert page.status == 200
        assert "jlab-node expose later PORT" in opened.said
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_it_ends_ssh_as_well(opened: Opened, number: signal.Signals) -> None:
    opened.site.wait_for_session(opened.site.start_session())
    process = opened.start()
    opened.wait_for_url()
    ssh = opened.ssh()
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    assert not ssh.is_running()
    assert not accepts(opened.port)
    assert "Traceback" not in opened.said


def test_the_browser(opened: Opened, tmp_path: Path) -> None:
    """It is given a private page: everybody can read its command line."""
    opened.site.wait_for_session(opened.site.start_session())
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$@" >"{tmp_path}/given.new"\n'
        f'mv "{tmp_path}/given.new" "{tmp_path}/given"\n'
    )
    browser.chmod(0o755)
    process = opened.start(env={"BROWSER": str(browser), "HOME": str(tmp_path)})
    url = opened.wait_for_url()
    wait_until((tmp_path / "given").exists, "the browser is started")
    given = (tmp_path / "given").read_text().strip()
    assert given.startswith(f"file://{tmp_path}/jlab-open-")
    page = Path(given.removeprefix("file://"))
    assert url in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not page.exists()


def test_no_submission_without_a_batch_system(opened: Opened) -> None:
    assert opened.start("--submit", "sbatch jlab.sh").wait(timeout=60) == 69
    assert "no session to connect to" in opened.said
