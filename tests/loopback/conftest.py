"""A real login node, laptop and session on this machine, for all the tests beside this file."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


def answers(sock: Path, token: str | None = None) -> bytes:
    """First bytes of what /api/status of a session's JupyterLab answers through its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(sock))
        header = "" if token is None else f"Authorization: token {token}\r\n"
        connection.sendall(f"GET /api/status HTTP/1.0\r\n{header}\r\n".encode())
        return connection.recv(15)


@pytest.fixture
def site() -> Iterator[Loopback]:
    """A login node and a laptop, with nothing on them."""
    with Loopback() as made:
        yield made


@pytest.fixture
def laptop(site: Loopback) -> Loopback:
    """A site whose laptop is set up, though no session has been there yet."""
    subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
    setup = site.proxy("setup", "demo", "--yes", "--port", str(free_port()))
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return site


@pytest.fixture(scope="session")
def mounts() -> None:
    """For tests that mount file systems, each in a mount namespace of its own."""
    tried = finished(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"])
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")


@pytest.fixture
def a_terminal() -> None:
    """For tests that need an sshd of this user to give a terminal."""
    pts = [line for line in Path("/proc/mounts").read_text().splitlines() if " /dev/pts " in line]
    if os.getuid() and not any("gid=5" in line for line in pts):
        pytest.skip("/dev/pts lacks gid=5 here: no sshd of an ordinary user can give a terminal")


class Lab:
    """A running session and a laptop that is set up for it; shared, so leave it as it was."""

    def __init__(self, site: Loopback, process: subprocess.Popen[bytes], port: int) -> None:
        self.site = site
        self.process = process
        self.port = port
        self.record = site.wait_for_session(process).read_text()
        self.token = self.value("token")

    def value(self, key: str) -> str:
        """A value of the session's record."""
        found = re.search(rf"^{key}=(.*)$", self.record, re.MULTILINE)
        assert found is not None
        return found[1]

    def ssh(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the laptop's ssh to its end, without a terminal."""
        return finished(self.site.ssh(*arguments), timeout=timeout)


@pytest.fixture
def plain_ssh(lab: Lab, tmp_path: Path) -> dict[str, str]:
    """An environment whose `ssh` is the laptop's, as it is for a user: without -F."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {lab.site.config} "$@"\n')
    ssh.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    path = f"{ssh.parent}:{os.environ['PATH']}"
    (home / ".profile").write_text(f"PATH='{path}'\n")  # /etc/profile may have set another
    own = {"HOME": str(home), "PATH": path, "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8"}
    return {**os.environ, **own}


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One session for all tests that only look at it."""
    with Loopback() as site:
        process = site.start_session(env={"SLURM_JOB_ID": "4711", "WITH_SPACE": "a  b #c"})
        made = Lab(site, process, free_port())
        setup = site.proxy("setup", "demo", "--yes", "--port", str(made.port))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL)
        yield made
