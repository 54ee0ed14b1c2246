"""`jlab-proxy open` has its port from beginning to end, and nobody else ever does."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import NOBODY, Loopback, accepts, finished, free_port, wait_until

from jlab_proxy import messages, open_state
from jlab_proxy.forwarding import ssh_forward
from jlab_proxy.paths import Paths
from tests.loopback.light import light
from tests.loopback.test_addresses import Listener
from tests.loopback.test_open import URL, Opened
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def site() -> Iterator[Loopback]:
    """One for all tests here, with a light session."""
    with Loopback() as made:
        made.wait_for_session(made.start_session(*light(made.root)))
        yield made


@pytest.fixture
def held(site: Loopback, tmp_path: Path) -> Iterator[Opened]:
    """A way that is open."""
    made = Opened(site, tmp_path)
    made.start()
    made.wait_for_url()
    yield made
    with contextlib.suppress(psutil.Error):
        psutil.Process(made.process.pid).resume()
    made.process.terminate()
    made.process.wait(timeout=30)


def get(
    port: int, path: str, headers: dict[str, str], *, host: str = "127.0.0.1"
) -> tuple[int, str]:
    """Status and text."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Thief:
    """Tries to have the port, at both addresses, all the time."""

    def __init__(self, port: int) -> None:
        self.had: list[str] = []
        self._port = port
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Thief:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                with socket.socket(family) as thief, contextlib.suppress(OSError):
                    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    thief.bind((host, self._port))
                    thief.listen()
                    self.had.append(host)


def token_of(url: str) -> dict[str, str]:
    return {"Authorization": f"token {url.rpartition('=')[2]}"}


def test_the_port_is_never_free_while_the_way_breaks(held: Opened) -> None:
    with Thief(held.port) as thief:
        for _ in range(2):
            held.cut()
            wait_until(held.answers, "JupyterLab answers again")
    assert not thief.had
    assert len(held.urls) == 1
    assert ssh_forward.login_status(held.urls[0]) == 200
    by_name = held.urls[0].replace("127.0.0.1", "localhost")
    assert get(held.port, "/api/status", token_of(by_name), host="::1")[0] == 200


def test_what_is_asked_while_there_is_no_way_waits_or_is_a_page(held: Opened) -> None:
    site, token = held.site, token_of(held.urls[0])
    before = held.ssh()
    for each in [site.sshd, *site.connections()]:
        each.kill()
    wait_until(lambda: not before.is_running(), "ssh has ended")
    status, text = get(held.port, "/lab?token=x", HTML)
    assert status == 503
    assert "tries again by itself" in text
    assert "token" not in text
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(get(held.port, "/api/status", token)[0])
    )
    asking.start()
    time.sleep(4)
    assert answers == [], "it waits"
    assert held.process.poll() is None
    site.start_sshd()
    asking.join(timeout=90)
    assert answers == [200]


def test_requests_without_an_answer_are_asked_again_if_they_may_be(held: Opened) -> None:
    """The way is stuck, as with a network that falls silent, and then lost."""
    token = token_of(held.urls[0])
    before = held.ssh()
    before.suspend()
    found: dict[str, object] = {}

    def ask(method: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", held.port, timeout=60)
        try:
            connection.request(method, "/api/status", headers=token)
            found[method] = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            found[method] = type(error).__name__
        finally:
            connection.close()

    asking = [threading.Thread(target=ask, args=(method,)) for method in ("GET", "POST")]
    for each in asking:
        each.start()
    time.sleep(1)
    before.kill()
    for each in asking:
        each.join(timeout=90)
    assert found["GET"] == 200, held.said
    assert found["POST"] == "RemoteDisconnected", "nobody knows whether it was heard"


def test_a_second_open_tells_what_the_first_holds(held: Opened) -> None:
    second = finished(held.site.proxy("open", "demo", "--no-browser"))
    assert (second.returncode, second.stdout) == (0, f"{held.urls[0]}\n")
    assert f"process {held.process.pid} holds it open" in second.stderr
    third = finished(held.site.proxy("open", "demo", "--no-browser", "--with", "dask"))
    assert third.returncode == 1
    assert messages.not_forwarded("dask", held.process.pid) in third.stderr
    assert held.process.poll() is None
    assert finished(held.site.proxy("url", "demo")).stdout == f"{held.urls[0]}\n"


def test_ssh_beside_an_open_says_what_is_true(held: Opened) -> None:
    terminal = Terminal(held.site.ssh("jlab+demo", "echo he''re"))
    try:
        text = terminal.read_until("here")
    finally:
        terminal.end()
    assert f"JupyterLab at http://127.0.0.1:{held.port}/" in text
    assert "jlab-proxy url" in text
    assert "taken" not in text
    assert "Address already in use" not in text


def test_sockets_that_are_removed_are_made_again(held: Opened) -> None:
    before = held.ssh()
    (place,) = (held.site.laptop / "jlab").glob("way-*")
    for each in place.iterdir():
        each.unlink()
    wait_until(lambda: not before.is_running(), "it notices")
    wait_until(held.answers, "JupyterLab answers again")
    assert len(held.urls) == 1


@pytest.mark.parametrize("is_stopped", [False, True], ids=["", "Ctrl-Z"])
def test_close_ends_it(held: Opened, *, is_stopped: bool) -> None:
    if is_stopped:
        psutil.Process(held.process.pid).suspend()
        asked = finished(held.site.proxy("url", "demo"))
        assert asked.returncode == 1
        assert f"is taken by process {held.process.pid} (" in asked.stderr
        assert asked.stderr.endswith(": type jlab-proxy close demo to end it\n")
    done = finished(held.site.proxy("close", "demo"))
    assert "demo: closed the tunnel of process" in done.stdout
    assert held.process.wait(timeout=30) == 143, "it does not come back by itself"
    assert not accepts(held.port)
    assert not list((held.site.laptop / "jlab").glob("[ow][pa][ey]*"))


def test_one_that_was_killed_leaves_nothing_in_the_way(held: Opened) -> None:
    ssh = held.ssh()
    held.process.kill()
    held.process.wait()
    assert ssh.is_running()
    held.start()
    held.wait_for_url()
    wait_until(lambda: not ssh.is_running(), "its ssh is gone")


def test_an_ssh_that_has_the_port_is_a_way_and_then_it_is_ours(
    site: Loopback, tmp_path: Path
) -> None:
    made = Opened(site, tmp_path)
    with subprocess.Popen(site.ssh("jlab+demo", "cat"), stdin=subprocess.PIPE) as shell:
        wait_until(lambda: accepts(made.port), "the shell forwards")
        process = made.start()
        url = made.wait_for_url()
        assert not psutil.Process(process.pid).children(), "it needs no ssh of its own"
        assert open_state.query(Paths(str(site.config), is_default=False), made.port) == {}
        assert shell.stdin
        shell.stdin.close()
    wait_until(made.answers, "it has the port now")
    wait_until(lambda: made.ssh().is_running(), "and a way of its own")
    assert made.urls == [url]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_stranger_who_has_the_port_after_an_ssh_is_told_nothing(
    site: Loopback, tmp_path: Path
) -> None:
    made = Opened(site, tmp_path)
    with subprocess.Popen(site.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL) as ssh:
        wait_until(lambda: accepts(made.port), "ssh forwards")
        process = made.start()
        made.wait_for_url()
        process.send_signal(signal.SIGSTOP)
        ssh.kill()
    with Listener("127.0.0.1", made.port, user=NOBODY) as listener:
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: len(made.urls) == 2, f"another port: {made.said}")
    assert f"port {made.port} is taken by a program of another user; " in made.said
    assert "token" not in listener.heard
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.parametrize("user", [0, NOBODY], ids=["own program", "another user"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_a_stranger_on_the_port_is_told_nothing_and_another_port_is_taken(
    site: Loopback, tmp_path: Path, host: str, user: int
) -> None:
    if user and os.geteuid():
        pytest.skip("only root can become another user")
    made = Opened(site, tmp_path)
    with Listener(host, made.port, user=user) as listener:
        process = made.start()
        wait_until(lambda: made.urls, f"an address: {made.said}", seconds=90)
        (url,) = made.urls
        port = re.search(r":(\d+)/", url)
        assert port
        assert re.fullmatch(URL.format(port[1]), url)
        assert int(port[1]) > made.port
        assert ssh_forward.login_status(url) == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    who = "a program of another user" if user else f"process {listener.pid} ("
    assert f"port {made.port} is taken by {who}" in made.said
    assert f"; JupyterLab gets port {port[1]} instead" in made.said
    assert "token" not in listener.heard


def test_forwards_of_the_user_s_own_are_not_taken_along(site: Loopback, tmp_path: Path) -> None:
    made = Opened(site, tmp_path)
    text = site.config.read_text()
    other = free_port()
    site.config.write_text(f"{text}\nHost *\n    LocalForward {other} 127.0.0.1:1\n")
    try:
        with Listener("127.0.0.1", other):
            process = made.start()
            made.wait_for_url()
        assert not accepts(other)
        process.terminate()
        process.wait(timeout=30)
    finally:
        site.config.write_text(text)


def test_a_home_with_a_long_path_has_its_sockets_elsewhere(site: Loopback, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 60) / ("y" * 40)
    directory.mkdir(parents=True)
    before = site.config
    for each in site.laptop.iterdir():
        if each.is_file():
            (directory / each.name).write_bytes(each.read_bytes())
    site.config = directory / "config"
    try:
        made = Opened(site, tmp_path)
        process = made.start()
        made.wait_for_url()
        process.terminate()
        assert process.wait(timeout=30) == 143
    finally:
        site.config = before
