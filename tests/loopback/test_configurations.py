"""Jupyter configurations as people have them, and another user who waits for an open JupyterLab."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, Loopback, stop

from jlab_node.registry.record import parse
from tests.loopback.conftest import answers
from tests.loopback.test_environment import make_venv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Another user of the node: looks without a pause for what begins to listen, on any family, and for
# unix sockets, and asks each without a token. Prints what lets it in; ends with its stdin.
RACER = r"""
import contextlib, http.client, select, socket, sys, threading
uid, place = sys.argv[1:]
CANARY = place.rpartition("/")[2].encode()  # of this home's files; other servers may be here

def listeners():
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open("/proc/net/" + name) as file:
            for line in list(file)[1:]:
                words = line.split()
                if words[3] == "0A" and words[7] == uid:
                    yield name, int(words[1].rpartition(":")[2], 16)
    with open("/proc/net/unix") as file:
        for line in file:
            path = line.rpartition(" ")[2].strip()
            if path.startswith(place) and line.split()[3] == "00010000":
                yield "unix", path

class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = path
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

def attack(kind, where):
    for path in ["api/contents"]:
        with contextlib.suppress(OSError, http.client.HTTPException):
            host = "::1" if kind == "tcp6" else "127.0.0.1"
            way = Unix(where) if kind == "unix" else http.client.HTTPConnection(host, where, 5)
            way.request("GET", "/" + path)
            answer = way.getresponse()
            if answer.status == 200 and CANARY in answer.read():
                print("in:", kind, where, path, flush=True)

known = set(listeners())
print("ready", flush=True)
tried = 0
while not select.select([0], [], [], 0.002)[0]:
    for each in set(listeners()) - known:
        known.add(each)
        tried += 1
        threading.Thread(target=attack, args=each, daemon=True).start()
print("tried", tried, flush=True)
"""


@pytest.fixture
def racer(site: Loopback) -> Iterator[Racer]:
    if os.getuid():
        pytest.skip("only root can be another user")
    made = Racer(site)
    yield made
    made.stop()


class Racer:
    """The other user; `stop` returns what was said.

    It and the site's sessions have a network of their own: no other test's server is asked by it.
    """

    def __init__(self, site: Loopback) -> None:
        for directory in (site.root, site.root / "login"):
            directory.chmod(0o755)
        (site.home / site.root.name).touch()
        self._said: list[str] = []
        self._network = site.root.name
        subprocess.run(["ip", "netns", "add", self._network], check=True)
        enter = ["nsenter", f"--net=/run/netns/{self._network}", "--"]  # in a chroot as well
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        python = site.root / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.join([*enter, site.node_python])} "$@"\n')
        python.chmod(0o755)
        site.node_python = str(python)
        self._process = subprocess.Popen(
            [
                *enter,
                "setpriv",
                f"--reuid={NOBODY}",
                f"--regid={NOBODY}",
                "--clear-groups",
                "python3",
                "-c",
                RACER,
                str(os.getuid()),
                str(site.root),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> list[str]:
        if self._process.poll() is None:
            self._said = self._process.communicate()[0].splitlines()
            subprocess.run(["ip", "netns", "delete", self._network], check=True)
        return self._said


@dataclass(frozen=True)
class Case:
    """What lies in the user's home, and what comes of it."""

    files: Mapping[str, str]
    refused: str = ""  # the sentence; "": there is a session
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    jupyter: str = ""
    logged: str = ""
    port: bool = True


SERVER = ".jupyter/jupyter_server_config.py"
LAB = ".jupyter/jupyter_lab_config.py"
OPEN = "lets everybody in without a token"
IDENTITY = """\
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User
class MyIdentity({base}):
    def get_user(self, handler):
        {body}
c.ServerApp.identity_provider_class = MyIdentity
"""
LOGIN = """\
from jupyter_server.auth.login import LoginHandler
class MyLogin(LoginHandler):
    @classmethod
    def get_user(cls, handler):
        return "anonymous"
c.ServerApp.login_handler_class = MyLogin
"""
HASH = "sha1:67c9e60bb8b6:9ffede0825894254b2e042ea597d771089e11aed"  # of "xxxx"

# All that is harmless now, at once, and each kind once more where Jupyter reads it before all.
EVERYTHING = {
    SERVER: (
        "c.ServerApp.ip = '0.0.0.0'\nc.ServerApp.port = 7890\nc.ServerApp.open_browser = True\n"
        "c.ServerApp.token = ''\nc.ServerApp.password = ''\nc.ServerApp.disable_check_xsrf = True\n"
        "c.ServerApp.sock = '/tmp/other.sock'\nc.ServerApp.sock_mode = '0666'\n"
        "c.IdentityProvider.token = ''\nc.PasswordIdentityProvider.token = ''\n"
        "c.ServerApp.allow_remote_access = True\n"
    ),
    LAB: "c.LabApp.ip = '*'\nc.LabApp.port = 1234\nc.LabApp.token = ''\nc.ServerApp.token = ''\n",
    ".jupyter/jupyter_config.py": "c.ServerApp.token = ''\nc.IdentityProvider.token = ''\n",
    ".jupyter/jupyter_notebook_config.py": "c.NotebookApp.token = ''\nc.NotebookApp.ip = '*'\n",
    ".jupyter/jupyter_server_config.json": '{"ServerApp": {"token": "", "ip": "::"}}',
    "jupyter_server_config.py": "c.ServerApp.token = ''\nc.ServerApp.ip = '0.0.0.0'\n",
    "jupyter_lab_config.py": "c.ServerApp.token = ''\nc.PasswordIdentityProvider.token = ''\n",
}
CASES = {
    "everything": Case(EVERYTHING),
    "identity": Case(
        {SERVER: IDENTITY.format(base="IdentityProvider", body="return User(username='u1')")}, OPEN
    ),
}
MORE = {
    "1 open to the world": Case(
        {
            ".jupyter/jupyter_lab_config.py": "c.ServerApp.ip='0.0.0.0'\nc.ServerApp.token=''\n"
            "c.ServerApp.password=''\nc.ServerApp.disable_check_xsrf=True\n"
        }
    ),
    "2 another port": Case({SERVER: "c.ServerApp.ip='0.0.0.0'\nc.ServerApp.port=7890\n"}),
    "3 password": Case(
        {
            SERVER: f"c.PasswordIdentityProvider.hashed_password='{HASH}'\n"
            "c.PasswordIdentityProvider.password_required=True\nc.ServerApp.default_url='/tree'\n"
        }
    ),
    "4 no such directory": Case(
        {SERVER: "c.ServerApp.root_dir='/no/such'\n"}, "ended with exit code 1"
    ),
    "5 password and no token": Case(
        {
            SERVER: f"c.PasswordIdentityProvider.hashed_password='{HASH}'\n"
            "c.PasswordIdentityProvider.password_required=True\nc.ServerApp.token=''\n"
        }
    ),
    "6 notebook": Case(
        {".jupyter/jupyter_notebook_config.py": "c.NotebookApp.token=''\nc.NotebookApp.ip='*'\n"}
    ),
    "7 LabApp": Case({LAB: "c.LabApp.ip='*'\nc.LabApp.port=9999\nc.LabApp.token=''\n"}),
    "8 notebook json": Case(
        {
            ".jupyter/jupyter_notebook_config.json": json.dumps(
                {"NotebookApp": {"ip": "*", "port": 9999, "password": HASH}}
            )
        }
    ),
    "9 sock": Case({SERVER: "c.ServerApp.sock='/tmp/x.sock'\nc.ServerApp.sock_mode='0777'\n"}),
    "10 browser": Case({LAB: "c.LabApp.open_browser=True\n"}),
    "11 not installed": Case(
        {SERVER: "c.ServerApp.kernel_spec_manager_class='no_such.Manager'\n"},
        "ended with exit code 1",
    ),
    "12 broken": Case({SERVER: "c.ServerApp.token = (\n", LAB: "import os; os.environ['NO']\n"}),
    "13 password provider": Case(
        {SERVER: IDENTITY.format(base="PasswordIdentityProvider", body="return User('u1')")}, OPEN
    ),
    "13 login handler": Case({SERVER: LOGIN}, OPEN),
    "13 by headers": Case(
        {
            SERVER: IDENTITY.format(
                base="PasswordIdentityProvider",
                body="name = handler.request.headers.get('X-User')\n"
                "        return User(name) if name else super().get_user(handler)",
            )
        },
        logged="MyIdentity decides who gets in, so JupyterLab opens no port",
        port=False,
    ),
    "13 nobody at all": Case(
        {SERVER: IDENTITY.format(base="IdentityProvider", body="return None")},
        "does not take the token that jlab-node gave it",
    ),
    "20 tcp": Case({SERVER: "c.KernelManager.transport='tcp'\n"}, logged="kernels speak over tcp"),
    "29 env -i": Case({SERVER: "c.ServerApp.token=''\n"}, jupyter="env -i {path} jupyter-lab"),
    "32 variables": Case(
        {"site/jupyter_server_config.py": "c.ServerApp.ip='0.0.0.0'\nc.ServerApp.token=''\n"},
        env={
            "JUPYTER_PORT": "7777",
            "JUPYTER_IP": "0.0.0.0",
            "JUPYTER_TOKEN": "",
            "JUPYTER_CONFIG_PATH": "site",
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTERHUB_SERVICE_PREFIX": "/x/",
        },
    ),
    "33 no configuration": Case({SERVER: "c.ServerApp.token=''\n"}, env={"JUPYTER_NO_CONFIG": "1"}),
    "40 --config": Case(
        {"mine.py": "c.ServerApp.token=''\nc.ServerApp.ip='*'\nc.ServerApp.base_url='/mine/'\n"},
        arguments=["--", "--config=mine.py"],
    ),
    "a notebook": Case(
        {"a.ipynb": json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})},
        arguments=["--", "a.ipynb"],
    ),
}


def start(site: Loopback, case: Case) -> subprocess.Popen[bytes]:
    for name, text in case.files.items():
        path = site.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = case.jupyter.format(path=f"PATH={os.environ['PATH']} HOME={site.home}")
    words = ["--jupyter", command] if command else []
    return site.start_session(*words, *case.arguments, env=dict(case.env))


def check(site: Loopback, case: Case, racer: Racer) -> None:
    process = start(site, case)
    if case.refused:
        assert process.wait(timeout=120) == 1
        assert site.records() == []
    else:
        record = parse(site.wait_for_session(process).read_text())
        assert answers(site.tmp / "lab.sock", record.token).endswith(b" 200 OK") or case.arguments
        assert (record.port > 1) is case.port
        time.sleep(0.2)
        ports = {record.ssh_port, record.port} if case.port else {record.ssh_port}
        assert listening(process) == {f"127.0.0.1:{each}" for each in ports}
        stop(process)
    log = (site.root / "job.log").read_text()
    assert case.refused in log
    assert case.logged in log
    *let_in, tried = racer.stop()
    assert let_in == []
    assert int(tried.split()[1]) >= (not case.refused), "it saw the endpoint at least"


def listening(process: subprocess.Popen[bytes]) -> set[str]:
    """TCP addresses on which anything listens in a session's own network."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A":
                address, _, port = local.partition(":")
                found.add(f"{address.replace('0100007F', '127.0.0.1')}:{int(port, 16)}")
    return found


@pytest.mark.parametrize("name", CASES)
def test_nobody_is_let_in(site: Loopback, racer: Racer, name: str) -> None:
    check(site, CASES[name], racer)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MORE)
def test_nobody_is_let_in_by_any_configuration(site: Loopback, racer: Racer, name: str) -> None:
    check(site, MORE[name], racer)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_nobody_is_let_in_at_two_hundred_starts() -> None:
    """Of every configuration in turn."""
    if os.getuid():
        pytest.skip("only root can be another user")
    cases = [*CASES.values(), *MORE.values()]
    for number in range(200):
        with Loopback() as site:
            check(site, cases[number % len(cases)], Racer(site))


OLDER = {
    "3.6": ["jupyterlab==3.6.8", "jupyter_server==1.24.0", "ipykernel<7", "nbclassic<1"],
    "4.0": ["jupyterlab==4.0.13", "jupyter_server<2.11"],
}


@pytest.mark.nightly
@pytest.mark.network
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", OLDER)
def test_an_older_jupyterlab(tmp_path: Path, version: str) -> None:
    if os.getuid():
        pytest.skip("only root can be another user")
    found = make_venv(tmp_path / "venv", *OLDER[version], "setuptools")
    for name in ("everything", "login handler"):
        case = CASES.get(name) or MORE["13 login handler"]
        with Loopback() as site:
            check(site, replace(case, jupyter=f"{found}/jupyter-lab"), Racer(site))
