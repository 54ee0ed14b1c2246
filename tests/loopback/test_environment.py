"""The environment that `jlab-node script environment` prints, installed for real and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import surroundings
import yaml
from loopback import Loopback
from notebook import evaluate

from jlab_node.commands import templates
from jlab_node.registry import record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

# pip brings some hundred megabytes.
pytestmark = [pytest.mark.full, pytest.mark.network, pytest.mark.timeout(1200)]


def printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "jlab_node", "script", "environment", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names(requirements: list[str]) -> list[str]:
    return [re.split("[<>=]", each)[0] for each in requirements]


def make_venv(directory: Path, *requirements: str) -> Path:
    """A virtual environment with that in it; its bin directory."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    env = {**os.environ, **surroundings.PROXIES}
    install = [*pip, "install", "-qq", *requirements]
    subprocess.run(install, env=env, check=True, stderr=subprocess.PIPE)
    return directory / "bin"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of the pip set, with this package from here, and another's kernel."""
    directory = tmp_path_factory.mktemp("environment")
    ours = directory / "jlab-remote"  # a copy: setuptools leaves files where it builds
    for name in ("jlab_node", "jlab_proxy"):
        shutil.copytree(ROOT / name, ours / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, ours)
    wanted = directory / "requirements.txt"
    wanted.write_text(printed("--pip").replace("jlab-remote", str(ours)))
    made = make_venv(directory / "jlab", "-r", str(wanted))
    other = make_venv(directory / "other", "ipykernel")
    subprocess.run(
        [other / "python", "-m", "ipykernel", "install", "--prefix", made.parent, "--name=other"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return made


class Server:
    """A session's JupyterLab that runs in that environment."""

    def __init__(self, site: Loopback, bin_directory: Path) -> None:
        process = site.start_session("--jupyter", str(bin_directory / "jupyter-lab"))
        found = record.parse(site.wait_for_session(process).read_text())
        self.root = f"http://localhost:{found.port}/"
        self.token = found.token
        self.url = f"{self.root}lab?token={self.token}"

    def get(self, path: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.root + path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


@pytest.fixture(scope="session")
def server(environment: Path) -> Iterator[Server]:
    with Loopback() as site:
        yield Server(site, environment)


def test_the_yaml_says_the_same() -> None:
    loaded = yaml.safe_load(printed())
    assert loaded["name"] == "jlab"
    assert loaded["channels"] == ["conda-forge"]
    *conda, pip = loaded["dependencies"]
    assert {"jupyterlab>=4,<5", "nb_conda_kernels", "nodejs", "pip"} < set(conda)
    everywhere = set(templates.requirements().split()) - set(pip["pip"])
    assert pip == {"pip": ["jlab-remote"]}
    assert set(conda) - everywhere == {"python>=3.10", "nb_conda_kernels", "nodejs", "pip"}
    expected = "jupyterlab-git jupyter-server-proxy ipywidgets dask dask-labextension bokeh"
    assert set(expected.split()) <= set(names(conda))


def test_this_package_is_in_it(environment: Path) -> None:
    done = subprocess.run(
        [environment / "jlab-node", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("jlab-node, version ")
    packages = environment.parent / "lib" / PYTHON / "site-packages"
    assert (packages / "jlab_node" / "connect.bash").exists()


def test_the_server_extensions_are_enabled(environment: Path, server: Server) -> None:
    done = subprocess.run(
        [environment / "jupyter-server", "extension", "list"],
        check=True,
        capture_output=True,
        text=True,
    )
    said = re.sub(r"\x1b\[[0-9]*m", "", done.stdout + done.stderr)
    for name in ("jupyterlab", "jupyter_server_proxy", "jupyterlab_git", "dask_labextension"):
        assert f"{name} enabled" in said


@pytest.mark.parametrize(
    ("path", "key"),
    [("server-proxy/servers-info", "server_processes"), ("git/settings", "gitVersion")],
)
def test_a_server_extension_answers(server: Server, path: str, key: str) -> None:
    assert json.loads(server.get(path))[key] is not None


def test_dask_clusters_can_be_listed(server: Server) -> None:
    assert json.loads(server.get("dask/clusters")) == []


def test_another_program_of_the_job_behind_jupyter_server_proxy(server: Server) -> None:
    class Program(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"it is {self.path}".encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Program) as program:
        thread = threading.Thread(target=program.handle_request)
        thread.start()
        assert server.get(f"proxy/{program.server_port}/status") == b"it is /status"
        thread.join(timeout=20)


def test_a_kernel_has_the_libraries(server: Server, environment: Path) -> None:
    code = (
        "import sys, bokeh, dask.distributed, ipywidgets; ipywidgets.IntSlider(7).value, sys.prefix"
    )
    assert evaluate(server.url, code) == str((7, str(environment.parent)))


def test_kernels_of_another_environment_show_up(server: Server, environment: Path) -> None:
    known = json.loads(server.get("api/kernelspecs"))["kernelspecs"]
    assert {"python3", "other"} <= set(known)
    other = environment.parents[1] / "other"
    assert evaluate(server.url, "import sys; sys.prefix", kernel="other") == repr(str(other))
