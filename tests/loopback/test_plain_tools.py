"""What people do with ssh works against jlab+demo as against any host."""

from __future__ import annotations

import http.client
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from loopback import ANCESTORS, accepts, free_port, wait_until
from notebook import evaluate

from jlab_node.registry.record import parse

if TYPE_CHECKING:
    from pathlib import Path

    from loopback import Loopback

    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full

HOST = "jlab+demo"


def status(port: int, token: str) -> int:
    """HTTP status of an authenticated request to JupyterLab at a local port."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def tunnel(site: Loopback, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(site.ssh("-N", *arguments, HOST), stdin=subprocess.DEVNULL)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=20)


def test_a_command_gives_its_output_and_exit_code(lab: Lab) -> None:
    done = lab.ssh(HOST, "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_the_shell_is_in_the_job(lab: Lab) -> None:
    done = lab.ssh(HOST, 'echo "$SLURM_JOB_ID|$WITH_SPACE|$HOME"; cat /proc/$PPID/cmdline')
    first, _, parent = done.stdout.partition("\n")
    assert first == f"4711|a  b #c|{lab.site.home}"
    assert "sshd" in parent
    # It descends from `jlab-node run`, so it is in whatever cgroup the job is in.
    assert str(lab.process.pid) in lab.ssh(HOST, ANCESTORS).stdout.split()


def test_the_shell_does_not_know_the_token(lab: Lab) -> None:
    assert lab.token not in lab.ssh(HOST, "env").stdout


@pytest.mark.usefixtures("a_terminal")
def test_a_terminal(lab: Lab) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        command = lab.site.ssh("-tt", HOST)
        os.execvp(command[0], command)
    os.write(terminal, b"test -t 0 && tty && stty size && echo done-$((40+2)); exit 5\n")
    said = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            break
    _, wait_status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(wait_status) == 5, said
    assert b"done-42" in said
    assert b"/dev/pts/" in said
    # A terminal gets the one line that says where it is.
    assert f"session lab on {lab.value('node')}, JupyterLab at http://127.0.0.1:".encode() in said


def test_the_local_forward_leads_to_jupyterlab(lab: Lab) -> None:
    process = tunnel(lab.site)
    try:
        wait_until(lambda: accepts(lab.port), "the forward listens")
        assert status(lab.port, lab.token) == 200
        assert status(lab.port, "0" * 64) == 403
        command = lab.site.proxy("url", "demo")
        url = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        assert evaluate(url, "6*7") == "42"
        # A second connection is not disturbed by the port being taken.
        second = lab.ssh(HOST, "echo second")
        assert (second.returncode, second.stdout, second.stderr) == (0, "second\n", "")
    finally:
        end(process)


@pytest.mark.parametrize("target", ["socket", "jupyter", "other"])
def test_forwards_to_anything_in_the_job(lab: Lab, target: str) -> None:
    local = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        to = {
            "socket": f"{lab.site.tmp}/lab.sock",
            "jupyter": f"localhost:{lab.value('port')}",
            "other": f"localhost:{other.getsockname()[1]}",
        }[target]
        process = tunnel(lab.site, "-L", f"{local}:{to}")
        try:
            wait_until(lambda: accepts(local), "the forward listens")
            if target != "other":
                assert status(local, lab.token) == 200
                return
            # wait_until has knocked once: its connection comes first.
            with socket.create_connection(("127.0.0.1", local)) as here:
                here.sendall(b"x")
                other.settimeout(20)
                received = b""
                while not received:
                    there, _ = other.accept()
                    with there:
                        received = there.recv(1)
                assert received == b"x"
        finally:
            end(process)


def test_an_open_forward_stays_with_its_session(site: Loopback) -> None:
    """A newer session takes the link, not the tunnels of an older one; nor does its death harm."""

    def token(process: subprocess.Popen[bytes]) -> str:
        return parse(site.wait_for_session(process).read_text()).token

    older = token(site.start_session("--name", "older"))
    port = free_port()
    setup = site.proxy("setup", "demo", "--yes", "--port", str(port))
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    tunnels = [tunnel(site)]
    try:
        wait_until(lambda: accepts(port), "the forward listens")
        assert status(port, older) == 200
        process = site.start_session("--name", "newer")
        newer = token(process)
        assert status(port, older) == 200
        local = free_port()
        tunnels.append(tunnel(site, "-L", f"{local}:{site.tmp}/lab.sock"))
        wait_until(lambda: accepts(local), "the second forward listens")
        assert status(local, newer) == 200
        assert status(port, older) == 200
        # By its name, each can be reached from the other.
        named = free_port()
        tunnels.append(tunnel(site, "-L", f"{named}:{site.tmp}/older.sock"))
        wait_until(lambda: accepts(named), "the third forward listens")
        assert status(named, older) == 200
        process.kill()
        process.wait()
        done = subprocess.run(
            site.ssh(HOST, "true"), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert status(port, older) == 200
    finally:
        for each in tunnels:
            end(each)


def test_n_stays_until_ctrl_c(lab: Lab) -> None:
    process = tunnel(lab.site)
    wait_until(lambda: accepts(lab.port), "the forward listens")
    time.sleep(1)  # it would have returned by now if a master had taken it over
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) in (-signal.SIGINT, 130, 255)
    wait_until(lambda: not accepts(lab.port), "the forward is gone", seconds=10)


@pytest.mark.parametrize("tool", ["scp", "sftp", "rsync"])
def test_copies_there_and_back(lab: Lab, tool: str, tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool} on this machine")
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(3_000_000))
    there = f"{lab.site.home}/{tool}.bin"
    config = str(lab.site.config)
    commands = {
        "scp": [
            ["scp", "-qF", config, str(source), f"{HOST}:{there}"],
            ["scp", "-qF", config, f"{HOST}:{there}", str(back)],
        ],
        "sftp": [["sh", "-c", f'printf "%s\n" "put {source} {there}" "get {there} {back}" '
                  f"| sftp -qb - -F {config} {HOST}"]],
        "rsync": [
            ["rsync", "-e", f"ssh -F {config}", str(source), f"{HOST}:{there}"],
            ["rsync", "-e", f"ssh -F {config}", f"{HOST}:{there}", str(back)],
        ],
    }  # fmt: skip
    for command in commands[tool]:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert back.read_bytes() == source.read_bytes()


def test_several_at_once(lab: Lab) -> None:
    processes = [
        subprocess.Popen(
            lab.site.ssh(HOST, f"sleep 1; echo {number}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [
        f"{number}\n" for number in range(8)
    ]


def test_the_relay_ends_when_the_laptop_is_killed(lab: Lab) -> None:
    """No process of a connection stays on the login node or in the job."""
    process = subprocess.Popen(
        lab.site.ssh(HOST, "echo $PPID; exec sleep 1000"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    sshd = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not os.path.exists(f"/proc/{sshd}"), "its sshd ends", seconds=10)  # noqa: PTH110


def test_one_login_connection_is_shared(lab: Lab) -> None:
    lab.ssh(HOST, "true")
    masters = list(lab.site.laptop.glob("jlab/login-*"))
    assert len(masters) == 1
    done = lab.ssh("-S", str(masters[0]), "-O", "check", "demo")
    assert "Master running" in done.stderr
