"""A real Dask cluster in the session, and the three ways to its dashboard that the recipe names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest
import websocket
from loopback import accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full

HOST = "jlab+demo"

# What one writes in a notebook; ends with its stdin.
CLUSTER = """
import sys
from dask.distributed import Client, LocalCluster
with LocalCluster(processes=False, dashboard_address="127.0.0.1:0") as cluster:
    with Client(cluster) as client:
        assert client.submit(lambda: 6 * 7).result() == 42
        print(cluster.scheduler.services["dashboard"].port, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def dashboard(lab: Lab) -> Iterator[int]:
    """The port of a dashboard on the node."""
    script = lab.site.root / "cluster.py"
    script.write_text(CLUSTER)
    process = subprocess.Popen(
        lab.site.ssh(HOST, sys.executable, str(script)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.communicate(timeout=60)


@pytest.fixture
def forwards(lab: Lab) -> Iterator[Forwards]:
    made = Forwards(lab)
    yield made
    made.close()


class Forwards:
    """What `ssh -N -L` holds open on the laptop."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._processes: list[subprocess.Popen[bytes]] = []

    def open(self, target: str) -> int:
        """A port of the laptop that leads to `target`."""
        port = free_port()
        command = self._lab.site.ssh("-N", "-L", f"{port}:{target}", HOST)
        self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        wait_until(lambda: accepts(port), f"the forward to {target} listens")
        return port

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(timeout=20)


def expose(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return lab.ssh(HOST, *lab.site.node("expose", *arguments))


def page(url: str) -> str:
    """What a browser is shown."""
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with browser.open(url, timeout=60) as answer:
        return str(answer.read().decode())


def assert_dashboard(address: str, query: str = "") -> None:
    """The page, and the websocket that brings it to life."""
    text = page(f"{address}/status{query}")
    assert "<title>Dask Diagnostic UI</title>" in text
    token = re.search(r'"token":"([\w.-]+)"', text)
    assert token is not None
    live = websocket.create_connection(
        f"ws{address[4:]}/status/ws{query}", subprotocols=["bokeh", token[1]], timeout=60
    )
    try:
        header = json.loads(live.recv())
        assert header["msgtype"] == "ACK"
    finally:
        live.close()


def test_through_jupyter_server_proxy(lab: Lab, dashboard: int, forwards: Forwards) -> None:
    port = forwards.open(f"{lab.site.tmp}/lab.sock")
    address = f"http://localhost:{port}/proxy/{dashboard}"
    assert_dashboard(address, f"?token={lab.token}")
    assert "Dask" not in page(f"{address}/status?token={'0' * 64}"), "but JupyterLab's log-in page"


def test_through_a_forward_of_its_port(dashboard: int, forwards: Forwards) -> None:
    assert_dashboard(f"http://localhost:{forwards.open(f'localhost:{dashboard}')}")


def test_through_its_name(lab: Lab, dashboard: int, forwards: Forwards) -> None:
    said = expose(lab, "dask", str(dashboard))
    assert (said.returncode, said.stderr) == (0, "")
    assert f"ssh -L 127.0.0.1:{dashboard}:{lab.site.tmp}/dask.sock jlab+ALIAS" in said.stdout
    try:
        assert_dashboard(f"http://localhost:{forwards.open(f'{lab.site.tmp}/dask.sock')}")
    finally:
        assert expose(lab, "dask", "--stop").returncode == 0
