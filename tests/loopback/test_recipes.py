"""The recipes in docs/recipes, as they stand there, tried."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, free_port

if TYPE_CHECKING:
    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full

RECIPES = Path(__file__).parents[2] / "docs" / "recipes"


def block(page: str, language: str) -> str:
    """The code block in that language on a page."""
    text = (RECIPES / page).read_text()
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture(params=[("bash", "bash"), ("zsh", "bash"), ("fish", "fish")], ids=lambda p: p[0])
def shell(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A shell, and the text that defines `lab` in it."""
    program, language = request.param
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} on this machine")
    return program, block("shell.md", language)


def typed(
    shell: tuple[str, str], line: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    program, definition = shell
    return finished([program, "-c", f"{definition}\n{line}"], env=env)


@pytest.mark.usefixtures("lab")
def test_one_word_runs_a_command_in_the_job(
    shell: tuple[str, str], plain_ssh: dict[str, str]
) -> None:
    done = typed(shell, "lab demo 'echo \"$SLURM_JOB_ID  a b\"; exit 7'", plain_ssh)
    assert (done.returncode, done.stdout, done.stderr) == (7, "4711  a b\n", "")
    done = typed(shell, "lab demo printf %s- one two", plain_ssh)
    assert (done.returncode, done.stdout) == (0, "one-two-")


def test_one_word_alone_says_how_to_use_it(shell: tuple[str, str], lab: Lab) -> None:
    done = typed(shell, "lab", lab.site.env)
    assert done.returncode != 0
    assert "usage: lab CLUSTER[+SESSION] [COMMAND]" in done.stderr


def test_behind_a_gateway() -> None:
    jump = block("gateway.md", "ssh-config")
    with (
        Loopback("gateway", sshd_options=["LogLevel DEBUG1"]) as gateway,
        Loopback("jeanzay", sshd_options=["LogLevel DEBUG1"]) as site,
    ):
        # ssh takes the first value it finds: addresses and keys are those of this machine.
        entries = site.config.read_text() + gateway.config.read_text()
        site.config.write_text(entries + jump)
        site.wait_for_session(site.start_session())
        setup = site.proxy("setup", "jeanzay", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        done = finished(site.ssh("jlab+jeanzay", "echo in; exit 7"))
        assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "")
        log = (gateway.root / "login" / "sshd.log").read_text()
        assert f"target 127.0.0.1 port {site.port}" in log


def test_behind_a_gateway_with_sshuttle() -> None:
    """In namespaces, where the login node's network can be reached in no other way."""
    if os.getuid() or shutil.which("sshuttle") is None:
        pytest.skip("this needs root and sshuttle")
    rules = subprocess.run(
        ["unshare", "-n", "iptables", "-t", "nat", "-L"], capture_output=True, check=False
    )
    if rules.returncode:
        pytest.skip(f"no firewall of one's own here: {rules.stderr.decode().strip()}")
    here = Path(__file__).parent
    done = finished(
        ["unshare", "-n", sys.executable, str(here / "behind_gateway.py")],
        env={**os.environ, "PYTHONPATH": str(here.parents[1] / "scripts")},
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
