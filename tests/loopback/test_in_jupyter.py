"""What jlab-node has settled in a JupyterLab that runs: kernels, terminals, debugger, its end."""

from __future__ import annotations

import ast
import contextlib
import json
import shlex
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import websocket
from loopback import Loopback, stop, wait_until
from notebook import evaluate

from jlab_node.registry import record
from tests.loopback.conftest import answers
from tests.loopback.light import all_end, family, light, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.loopback.conftest import Lab

OURS = ("JUPYTER_TOKEN", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_PATH", "JUPYTER_CONFIG_DIR")


class Client:
    """One that has the token, at JupyterLab's port on this machine."""

    def __init__(self, token: str, port: str | int) -> None:
        self.url = f"http://127.0.0.1:{port}/lab?token={token}"
        self._root = f"127.0.0.1:{port}/"
        self._header = f"Authorization: token {token}"

    def api(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://{self._root}api/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            method=method,
            headers=dict([self._header.split(": ")]),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or "null")

    def channel(self, path: str) -> Any:
        return websocket.create_connection(
            f"ws://{self._root}{path}", header=[self._header], timeout=60
        )


@pytest.fixture
def client(lab: Lab) -> Client:
    return Client(lab.token, lab.value("port"))


def listeners(pid: int) -> set[tuple[str, int]]:
    """TCP sockets on which a process or one below it listens."""
    found = set()
    for each in family(psutil.Process(pid)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            for one in each.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    found.add((one.laddr.ip, one.laddr.port))
    return found


def inherited(environ: dict[str, str], lab: Lab) -> dict[str, str]:
    """What of the session's private things is in there."""
    own = str(next(lab.site.tmp.glob("*/direct")).parent)
    return {
        name: value
        for name, value in environ.items()
        if name in OURS or lab.token in value or own in value
    }


def test_a_kernel_and_what_it_submits_inherit_nothing(lab: Lab, client: Client) -> None:
    code = "import os, json, subprocess, sys; (dict(os.environ), subprocess.check_output(['env']))"
    kernel, command = ast.literal_eval(evaluate(client.url, code))
    assert kernel["SLURM_JOB_ID"] == "4711", "it is the job's environment"
    assert inherited(kernel, lab) == {}
    lines = [line.partition("=") for line in command.decode(errors="replace").splitlines()]
    assert inherited({name: value for name, _, value in lines}, lab) == {}


def test_a_terminal_inherits_nothing(lab: Lab, client: Client, tmp_path: Path) -> None:
    name = client.api("POST", "terminals")["name"]
    said = tmp_path / "said"
    channel = client.channel(f"terminals/websocket/{name}")
    try:
        channel.send(json.dumps(["stdin", f"env -0 > {said}.new; mv {said}.new {said}\r"]))
        wait_until(said.exists, "the terminal has done it")
    finally:
        channel.close()
        client.api("DELETE", f"terminals/{name}")
    pairs = [each.partition("=") for each in said.read_text().split("\0")]
    environ = {name: value for name, _, value in pairs}
    assert environ["SLURM_JOB_ID"] == "4711"
    assert environ["JUPYTER_SERVER_URL"] == f"http://127.0.0.1:{lab.value('port')}/"
    assert inherited(environ, lab) == {}


def test_no_command_line_and_no_environment_has_what_is_private(lab: Lab) -> None:
    for each in family(psutil.Process(lab.process.pid)):
        line = " ".join(each.cmdline())
        assert lab.token not in line
        assert lab.value("port") not in line
        environ = {} if each.pid == lab.process.pid else each.environ()
        assert lab.token not in str(environ)


def test_files_of_the_session_are_private(lab: Lab) -> None:
    place = next(lab.site.tmp.glob("*/direct")).parent
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in place.rglob("*")}
    with_token = [p for p in found if p.is_file() and lab.token in p.read_text(errors="replace")]
    assert with_token
    assert {found[path] for path in with_token} == {0o600}
    assert stat.S_IMODE((place / "direct").stat().st_mode) == 0o600
    assert not list(place.glob("rt/*open.html"))


def test_a_socket_that_somebody_has_removed_is_made_anew(lab: Lab) -> None:
    direct = next(lab.site.tmp.glob("*/direct"))
    direct.unlink()
    wait_until(direct.exists, "it is there again")
    assert stat.S_IMODE(direct.stat().st_mode) == 0o600
    assert answers(direct, lab.token) == b"HTTP/1.1 200 OK"
    assert answers(direct) == b"HTTP/1.1 403 Fo"


def debug_request(command: str, **arguments: object) -> dict[str, Any]:
    """As a debugger's front end sends it to a kernel."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "debug_request",
        "session": uuid.uuid4().hex,
        "username": "",
        "version": "5.3",
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": {"type": "request", "seq": 1, "command": command, "arguments": arguments},
        "channel": "control",
        "buffers": [],
    }


@contextlib.contextmanager
def debugging(client: Client) -> Iterator[None]:
    """A client other than the page asks a kernel for its debugger."""
    started = client.api("POST", "kernels", {})["id"]
    channel = client.channel(f"api/kernels/{started}/channels")

    def is_idle() -> bool:
        return bool(client.api("GET", f"kernels/{started}")["execution_state"] == "idle")

    try:
        wait_until(is_idle, "the kernel is there")
        channel.send(json.dumps(debug_request("initialize", clientID="x", adapterID="")))
        channel.send(json.dumps(debug_request("attach", justMyCode=False)))
        yield
    finally:
        channel.close()
        client.api("DELETE", f"kernels/{started}")


def debuggers(pid: int) -> list[str]:
    """Command lines, below a process, of what a debugger consists of."""
    lines = [" ".join(words(each)) for each in family(psutil.Process(pid))]
    return [line for line in lines if "debugpy" in line]


def test_no_client_gets_a_debugger(lab: Lab, client: Client) -> None:
    log = lab.site.root / "job.log"
    refused = 'Received message of type "debug_request", which is not allowed'
    before = log.read_text().count(refused)
    with debugging(client):
        wait_until(lambda: log.read_text().count(refused) == before + 2, "both are refused")
        assert debuggers(lab.process.pid) == []
        assert evaluate(client.url, "6*7") == "42"


@pytest.mark.full
def test_a_debugger_for_who_is_alone_on_the_node(site: Loopback) -> None:
    """And so the test above would see one."""
    process = site.start_session("--debugger")
    found = record.parse(site.wait_for_session(process).read_text())
    client = Client(found.token, found.port)
    with debugging(client):
        wait_until(lambda: debuggers(process.pid), "there is one")
    with urllib.request.urlopen(client.url, timeout=60) as page:
        assert b"debugger-extension" not in page.read()


KERNELS = """\
for name in ("ConnectionFileMixin", "KernelManager", "AsyncKernelManager"):
    c[name].ip = "0.0.0.0"
c.KernelManager.cache_ports = True
c.KernelManager.shell_port = 50001
"""


@pytest.mark.full
@pytest.mark.parametrize("arguments", [[], ["--", "--KernelManager.ip=*"]], ids=["file", "words"])
def test_sockets_of_kernels_are_nowhere_but_in_the_session(
    site: Loopback, arguments: list[str]
) -> None:
    config = site.home / ".jupyter" / "jupyter_server_config.py"
    config.parent.mkdir()
    config.write_text(KERNELS)
    (site.home / "project").mkdir()
    found = record.parse(site.wait_for_session(site.start_session(*arguments)).read_text())
    client = Client(found.token, found.port)
    body = {"path": "project/x.ipynb", "name": "", "type": "notebook", "kernel": {"name": ""}}
    client.api("POST", "sessions", body)
    assert evaluate(client.url, "6*7") == "42"
    sockets = [path for path in site.root.rglob("*") if path.is_socket()]
    kernels = [path for path in sockets if "ipc" in path.name or path.name.startswith("0.0.0.0")]
    assert kernels
    assert {path.parent.name for path in kernels} == {"rt"}


def test_an_orphan_ends(site: Loopback) -> None:
    """Its wrapper, as `conda run` is one, does not tell it that jlab-node was killed."""
    wrapper = site.root / "wrapper"
    wrapper.write_text('#!/bin/sh\ntrap "" TERM\njupyter-lab "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    process = site.start_session("--jupyter", str(wrapper))
    site.wait_for_session(process)
    orphans = psutil.Process(process.pid).children(recursive=True)
    assert any("jupyter-lab" in " ".join(words(each)) for each in orphans)
    process.send_signal(signal.SIGKILL)
    all_end(orphans)


def test_a_session_without_a_port(site: Loopback) -> None:
    process = site.start_session("--socket-only", *light(site.root))
    found = record.parse(site.wait_for_session(process).read_text())
    server = psutil.Process(process.pid).children()[0]
    assert found.port == record.NO_PORT
    assert listeners(server.pid) == set()


def test_a_jupyterlab_that_does_not_see_the_session(site: Loopback) -> None:
    """A container with a /tmp of its own."""
    tried = ["unshare", "--mount", "true"]
    if subprocess.run(tried, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    there = ["sh", "-c", f'mount -t tmpfs t {site.tmp}; exec "$@"', "x", "jupyter-lab"]
    command = shlex.join(["unshare", "--mount", *there])
    process = site.start_session("--jupyter", command)
    assert process.wait(timeout=60) == 1
    log = (site.root / "job.log").read_text()
    assert f"does not see {site.tmp}" in log
    assert site.records() == []


VOILA = """
import http.server
http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def test_a_program_that_listens_where_it_likes(site: Loopback, monkeypatch: Any) -> None:
    """As notebook 6, JupyterLab 2 and voila do: that is said, and not waited for without end."""
    script = site.root / "other.py"
    script.write_text(VOILA)
    patient = site.root / "patient.py"
    patient.write_text(
        "import runpy\nfrom jlab_node.session.jupyter import launch\n"
        "launch._REPORT_INTERVAL = 2.0\n"
        "runpy.run_module('jlab_node', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, patient, "run", "--jupyter", shlex.join([sys.executable, str(script)])],
        env=site.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.add_process(process)  # type: ignore[arg-type]
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "listens on 127.0.0.1:" in said
    assert "jlab-node needs JupyterLab 3 or newer" in said


def test_a_token_that_may_be_known_opens_nothing(site: Loopback) -> None:
    """Who had the session's directory for a moment may have it; only the port is open to others."""
    process = site.start_session()
    found = record.parse(site.wait_for_session(process).read_text())

    def log() -> str:
        return (site.root / "job.log").read_text()

    with socket.create_connection(("127.0.0.1", found.port)) as early:
        early.settimeout(30)
        for count in (1, 2):
            site.tmp.chmod(0o770)
            wait_until(lambda count=count: log().count("stands still") == count, "it is noticed")
            site.tmp.chmod(0o700)
            again = f"{site.tmp} is yours again"
            wait_until(lambda count=count, again=again: log().count(again) == count, "it is over")
        assert early.recv(1) == b"", "nor does it to who came before"
    assert log().count(f"JupyterLab's port {found.port} is closed for good") == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", found.port))
    assert answers(site.tmp / "lab.sock", found.token).endswith(b" 200 OK")
    assert stop(process) == 143
    assert "Traceback" not in log()
