"""Another user of the machine looks for the token while a session lives, at every stage."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, Loopback, accepts, free_port, wait_until
from notebook import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable

    from tests.loopback.conftest import Lab


# What the other user sees: every command line, every environment it may read, every file it may
# read in the places where a session writes.
LOOK = r"""
cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n'
find "$@" -type f -readable -exec cat {} + 2>/dev/null
true
"""


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    if os.getuid():
        pytest.skip("only root can look at the machine as another user")
    yield Neighbour()


def as_neighbour(*command: str) -> bytes:
    """What a command prints that another user runs."""
    return subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    ).stdout


class Neighbour:
    """Looks, again and again, until told to stop; keeps all that was seen."""

    def __init__(self) -> None:
        self.seen = b""
        self.looks = 0
        self._stop = threading.Event()

    def look_at(self, *places: Path) -> None:
        while not self._stop.is_set():
            self.seen += as_neighbour("sh", "-c", LOOK, "look", *map(str, places))
            self.looks += 1

    def look_now(self) -> None:
        """Return when there was a whole look that began after this call."""
        another = self.looks + 2
        wait_until(lambda: self.looks >= another, "another look", seconds=120)

    def start(self, *places: Path) -> None:
        self._thread = threading.Thread(target=self.look_at, args=places)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def test_no_token_is_to_be_seen(neighbour: Neighbour) -> None:
    with Loopback() as site:
        # The login home and the laptop can be entered, as homes often can.
        for directory in (site.root, site.root / "login", site.home, site.laptop):
            directory.chmod(0o755)
        canary = site.home / "canary"
        canary.write_text("the neighbour can read files here")
        neighbour.start(site.root)
        try:
            said = use_a_session(site, neighbour.look_now)
        finally:
            neighbour.stop()
    assert b"the neighbour can read files here" in neighbour.seen
    assert b"jupyter-lab" in neighbour.seen, "it saw JupyterLab's command line"
    *secrets, log, verbose = said
    assert [len(secret) for secret in secrets] == [64, 32, 32]
    for what, text in (
        ("seen", neighbour.seen),
        ("the job log", log.encode()),
        ("ssh -v", verbose.encode()),
    ):
        assert text
        for secret in secrets:
            assert secret.encode() not in text, what


def use_a_session(site: Loopback, look_now: Callable[[], None]) -> list[str]:
    """From run to stop, with all that makes secrets travel; these, the job log, ssh -vvv."""
    process = site.start_session()
    look_now()
    text = site.wait_for_session(process).read_text()
    secrets = re.findall("^(?:token|nonce|knock)=(.*)$", text, re.M)
    secrets.sort(key=len, reverse=True)
    port = free_port()
    setup = site.proxy("setup", "demo", "--yes", "--port", str(port))
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = site.root / "ssh.log"
    with log.open("wb") as file:
        tunnel = subprocess.Popen(
            site.ssh("-vvv", "-N", "jlab+demo"), stdin=subprocess.DEVNULL, stderr=file
        )
    wait_until(lambda: accepts(port), "the forward listens")
    look_now()
    url = subprocess.run(
        site.proxy("url", "demo"), check=True, capture_output=True, text=True
    ).stdout.strip()
    assert evaluate(url, "6*7") == "42"
    # Over tcp, others could subscribe to what the kernel says.
    connection = "__import__('json').load(open(__import__('ipykernel').get_connection_file()))"
    assert evaluate(url, f"{connection}['transport']") == "'ipc'"
    assert evaluate(url, f"{connection}['ip'].startswith('{site.tmp}/')") == "True"
    look_now()
    tunnel.terminate()
    tunnel.wait()
    subprocess.run(site.node("ls"), env=site.env, check=True, stdout=subprocess.DEVNULL)
    process.terminate()
    process.wait(timeout=30)
    return [*secrets, (site.root / "job.log").read_text(), log.read_text()]


def test_a_neighbour_cannot_reach_the_socket(neighbour: Neighbour) -> None:
    """The one that the forward leads to; those of kernels are below the same closed directory."""
    with Loopback() as site:
        site.root.chmod(0o755)
        process = site.start_session()
        site.wait_for_session(process)
        attempt = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    print("refused")
"""
        socket = str(site.tmp / "lab.sock")
        assert as_neighbour("python3", "-c", attempt, socket) == b"refused\n"


def test_the_debugger_is_off(lab: Lab) -> None:
    """Its server has no password, and would listen on when the debugger is switched off."""
    connection = http.client.HTTPConnection("127.0.0.1", int(lab.value("port")), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/lab", headers={"Authorization": f"token {lab.token}"})
        page = connection.getresponse().read().decode()
    found = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert "@jupyterlab/debugger-extension" in json.loads(found[1])["disabledExtensions"]
