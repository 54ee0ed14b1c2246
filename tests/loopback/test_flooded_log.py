"""Another user makes a kernel print: by the port on which ipykernel hears what subprocesses say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import jupyterlab_of, wait_until

from jlab_node.registry.record import parse
from jlab_node.session import job_output
from tests.loopback.light import words

if TYPE_CHECKING:
    from loopback import Loopback

# Anybody on the node can do that: none of it has the kernel's secret.
FLOOD = """
import sys, zmq
socket = zmq.Context().socket(zmq.PUSH)
socket.connect(f"tcp://127.0.0.1:{sys.argv[1]}")
while True:
    socket.send_multipart([b"bad", b"x" * 1_000_000])
"""


def kernels_port(pid: int) -> int:
    """The TCP port of a kernel below that process; 0: it has none yet."""
    for each in psutil.Process(pid).children(recursive=True):
        if "ipykernel_launcher" not in " ".join(words(each)):
            continue
        for connection in each.net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
    return 0


@pytest.mark.nightly
def test_the_log_in_the_home_stays_bounded(site: Loopback) -> None:
    session = site.start_session()
    record = parse(site.wait_for_session(session).read_text())
    address = f"http://127.0.0.1:{record.port}/api/kernels"
    headers = {"Authorization": f"token {record.token}"}
    request = urllib.request.Request(address, data=b"{}", headers=headers, method="POST")
    assert json.load(urllib.request.urlopen(request, timeout=60))["id"]
    server = jupyterlab_of(session.pid)
    wait_until(lambda: kernels_port(server.pid), "the kernel listens")
    log = site.root / "job.log"
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(kernels_port(server.pid))]) as flood:
        wait_until(
            lambda: log.stat().st_size > job_output.AT_ONCE, "it is at its bound", seconds=100
        )
        time.sleep(5)
        flood.kill()
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert log.stat().st_size < job_output.AT_ONCE + (2 << 20)
    with log.open("rb") as file:
        file.seek(-3000, 2)
        end = file.read()
    assert b"print more than this log takes: what follows is cut" in end
    assert b"lines of JupyterLab and its kernels (" in end
