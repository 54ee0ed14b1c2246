"""The previous release on one side and this one on the other; and both in one ~/.jlab."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback, free_port, wait_until

from jlab_proxy.ssh_config import document
from tests.loopback.test_open import Opened
from tests.terminal import Terminal

pytestmark = pytest.mark.full

(WHEEL,) = Path(__file__).parents[1].joinpath("previous").glob("*.whl")
PROGRAM = "#!{python}\nfrom jlab_proxy.__main__ import main\nmain()\n"


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The python of an environment with the previous release, and else what the tests have."""
    directory = tmp_path_factory.mktemp("previous")
    venv.create(directory, symlinks=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(packages)
    (packages / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = directory / "bin/python"
    program = directory / "bin/jlab-proxy"
    program.write_text(PROGRAM.format(python=python))
    program.chmod(0o755)
    return str(python)


@pytest.fixture(params=["an older cluster", "an older laptop"])
def mixed(request: pytest.FixtureRequest, site: Loopback, previous: str) -> Loopback:
    """A site whose two sides are not of the same version."""
    if request.param == "an older cluster":
        site.node_python = previous
    else:
        site.proxy_python = previous
    return site


def run(
    words: list[str], *, env: dict[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        words,
        env=env,
        cwd="/",  # not where this version lies: `python -m` looks there first
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def answer(site: Loopback, *words: str) -> dict[str, Any]:
    """What the cluster side says to a laptop."""
    found: dict[str, Any] = json.loads(run(site.node(*words, "--json"), env=site.env).stdout)
    return found


def test_they_are_two_versions(mixed: Loopback, previous: str) -> None:
    theirs = answer(mixed, "setup", "--dry-run")["version"]
    ours = run([*mixed.proxy("--version")[:1], "--version"]).stdout.split()[-1]
    expected = WHEEL.name.split("-")[1]
    assert {theirs, ours} > {expected}


def test_a_session_from_setup_to_its_end(mixed: Loopback, tmp_path: Path) -> None:
    before = mixed.config.read_bytes()
    opened = Opened(mixed, tmp_path)
    session = mixed.start_session("--name", "gpu")
    record = mixed.wait_for_session(session)
    asked = run(mixed.ssh("jlab+demo+gpu", "echo $JLAB_TMPDIR; exit 7"), code=7)
    assert asked.stdout == f"{mixed.tmpdir}\n"
    opened.start("--no-browser")
    url = opened.wait_for_url()
    assert url.endswith(next(line for line in record.read_text().split() if "token=" in line))
    (cluster,) = json.loads(run(mixed.proxy("ls", "--json")).stdout)["clusters"]
    assert [each["id"] for each in cluster["sessions"]] == [record.name]
    assert url in run(mixed.proxy("url", "demo")).stdout
    assert "jlab-node" in run(mixed.proxy("logs", "demo+gpu")).stdout
    run(mixed.proxy("doctor", "demo", "--json"))
    run(mixed.proxy("stop", "demo+gpu", "--yes"))
    assert session.wait(timeout=60) == 143
    assert opened.process.wait(timeout=90) == 0
    assert "is over" in opened.said
    assert "no session" in run(mixed.ssh("jlab+demo"), code=255).stderr
    run(mixed.proxy("setup", "demo", "--remove", "--yes"))
    assert mixed.config.read_bytes() == before


def test_the_slow_path(mixed: Loopback, tmp_path: Path) -> None:
    """A newest record that is none makes bash leave it to jlab-node, which hands back to bash."""
    Opened(mixed, tmp_path)
    mixed.wait_for_session(mixed.start_session())
    mixed.home.joinpath(".jlab/sessions/local-1-x").write_text("format=1\n")
    done = run(mixed.ssh("jlab+demo", "echo here"))
    assert done.stdout == "here\n"
    assert "the record local-1-x is no use" in done.stderr


def test_open_waits_for_a_session_that_starts(mixed: Loopback, tmp_path: Path) -> None:
    """Either version knows the other's status line, which stays in its place on a terminal."""
    opened = Opened(mixed, tmp_path)
    until_go = "sh -c 'until [ -e go ]; do sleep 0.1; done; exec jupyter-lab \"$@\"' jupyter-lab"
    session = mixed.start_session("--jupyter", until_go)
    wait_until(lambda: list(mixed.root.rglob("starting")), "it is starting")
    terminal = Terminal(mixed.proxy("open", "demo", "--no-browser"))
    try:
        state = r"session local-\d+-lab runs on \S+; JupyterLab is starting"
        terminal.read_until(rf"\x1b\[K\[0:\d\d\] {state}")
        mixed.home.joinpath("go").touch()
        mixed.wait_for_session(session)
        shown = terminal.read_until(rf"http://\S+:{opened.port}/lab\?token=[0-9a-f]{{64}}")
        assert "jlab-proxy: session local-" not in shown, "it was taken for news"
        assert "[waiting]" not in shown
    finally:
        terminal.end()


@pytest.fixture(params=["previous first", "this one first"])
def pythons(request: pytest.FixtureRequest, previous: str) -> list[str]:
    found = [previous, sys.executable]
    return found if request.param == "previous first" else found[::-1]


@pytest.fixture
def shared(site: Loopback, pythons: list[str], tmp_path: Path) -> Loopback:
    """Two sessions of two versions with one ~/.jlab; its scripts are those of the second."""
    for python, name in zip(pythons, ("first", "second")):
        site.node_python = python
        site.wait_for_session(site.start_session("--name", name))
    run(site.proxy("setup", "demo", "--yes", "--port", str(free_port())))
    return site


def test_two_versions_share_a_home(shared: Loopback, pythons: list[str]) -> None:
    """Each session is reached by the scripts of either version, and ended by either."""
    for python in pythons[::-1]:
        shared.node_python = python
        run(shared.node("setup"), env=shared.env)  # ~/.jlab/connect is that one's now
        for name in ("first", "second"):
            assert run(shared.ssh(f"jlab+demo+{name}", "echo here")).stdout == "here\n"
            assert answer(shared, "status", name)["state"] == "running"
        found = answer(shared, "ls")["sessions"]
        assert [each["name"] for each in found] == ["second", "first"]
    before = shared.records()
    run(shared.node("stop", "second"), env=shared.env)
    wait_until(lambda: len(shared.records()) == 1, "the other's session has ended")
    assert set(shared.records()) < set(before)
    assert run(shared.ssh("jlab+demo", "echo here")).stdout == "here\n"


def test_an_upgrade_of_the_laptop_and_back(site: Loopback, previous: str) -> None:
    """The block, the key and what is remembered of one version serve the other."""
    before = site.config.read_bytes()
    run(site.node("setup"), env=site.env)
    site.wait_for_session(site.start_session())
    port = str(free_port())
    for python in (previous, sys.executable, previous):
        site.proxy_python = python
        run(site.proxy("setup", "demo", "--yes", "--port", port))
        assert run(site.ssh("jlab+demo", "echo here")).stdout == "here\n"
        run(site.proxy("ls"))
        assert document.ports(site.config.read_text()) == {"jlab+demo": int(port)}
    keys = site.home.joinpath(".jlab/authorized_keys").read_text().splitlines()
    assert len(keys) == 1
    site.proxy_python = sys.executable
    run(site.proxy("setup", "demo", "--remove", "--yes"))
    assert site.config.read_bytes() == before
