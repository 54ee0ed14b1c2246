"""The session that `jlab-node script tmuxp` prints, in the real tmuxp and tmux."""

from __future__ import annotations

import http.client
import shutil
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from loopback import accepts, wait_until

from jlab_node.commands import templates
from jlab_node.errors import JlabError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full


class Tmux:
    """A tmux server of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-L", "jlab-test", *arguments]
        done = subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout


@pytest.fixture
def tmux(lab: Lab, plain_ssh: dict[str, str], tmp_path: Path) -> Iterator[Tmux]:
    """With the printed session loaded."""
    for program in ("tmux", "tmuxp"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
    sockets = lab.site.root / "tmux"
    sockets.mkdir(mode=0o700)
    environment = {**plain_ssh, "TMUX_TMPDIR": str(sockets), "TERM": "xterm"}
    environment.pop("TMUX", None)
    printed = subprocess.run(
        lab.site.node("script", "tmuxp", "demo"), check=True, stdout=subprocess.PIPE
    )
    file = tmp_path / "demo.yaml"
    file.write_bytes(printed.stdout)
    try:
        subprocess.run(
            ["tmuxp", "load", "-d", "-y", "-L", "jlab-test", str(file)],
            env=environment,
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
        yield Tmux(environment)
    finally:
        subprocess.run(["tmux", "-L", "jlab-test", "kill-server"], env=environment, check=False)
        shutil.rmtree(sockets)


@pytest.mark.usefixtures("a_terminal")
def test_a_tunnel_and_a_shell(lab: Lab, tmux: Tmux) -> None:
    def shown(window: str) -> str:
        return tmux("capture-pane", "-p", "-J", "-t", f"jlab+demo:{window}")

    windows = tmux("list-windows", "-t", "jlab+demo", "-F", "#{window_name}").split()
    assert windows == ["tunnel", "shell"]
    wait_until(lambda: accepts(lab.port), "the tunnel listens")
    connection = http.client.HTTPConnection("localhost", lab.port, timeout=30)
    connection.request("GET", "/api/status", headers={"Authorization": f"token {lab.token}"})
    assert connection.getresponse().status == 200
    connection.close()
    # It is the first window's, so that the shell may end without it.
    pane = int(tmux("list-panes", "-t", "jlab+demo:tunnel", "-F", "#{pane_pid}"))
    family = psutil.Process(pane).children(recursive=True)
    assert any(c.laddr.port == lab.port for p in family for c in p.net_connections("tcp4"))

    wait_until(lambda: "session lab on" in shown("shell"), "the shell's connection")
    tmux("send-keys", "-t", "jlab+demo:shell", "echo job-$SLURM_JOB_ID", "Enter")
    wait_until(lambda: "job-4711" in shown("shell"), "the shell's answer")
    assert "in use" not in shown("shell") + shown("tunnel")


@pytest.mark.parametrize(
    ("where", "host", "session"),
    [("gricad", "jlab+gricad", "jlab+gricad"), ("a.b+gpu.1", "jlab+a.b+gpu.1", "jlab+a_b+gpu_1")],
)
def test_names(where: str, host: str, session: str) -> None:
    loaded = yaml.safe_load(templates.tmuxp(where))
    assert loaded["session_name"] == session
    commands = [each["panes"][0] for each in loaded["windows"]]
    assert commands == [f"ssh -N {host}", f"ssh -o ClearAllForwardings=yes {host}"]


@pytest.mark.parametrize(
    "where", ["", "-x", "A", "a b", "a+", "+a", "a+b+c", "a;b", "a\n", "$(x)", "a:b", "jlab é"]
)
def test_no_names(where: str) -> None:
    with pytest.raises(JlabError, match="is not of the form ALIAS"):
        templates.tmuxp(where)
