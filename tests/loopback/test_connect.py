"""What `ssh jlab+demo` says and does when the way is not simply open."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import ANCESTORS, Loopback, accepts, finished, free_port, wait_until

from jlab_node.registry.record import Record, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NONCE = "0123456789abcdef" * 2


def connect(site: Loopback, host: str = "jlab+demo") -> subprocess.CompletedProcess[str]:
    """The ProxyCommand as ssh runs it."""
    return finished(site.proxy("connect", host))


def ssh(site: Loopback, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(site.ssh(*arguments))


def plant(site: Loopback, record: Record) -> Path:
    path = site.home / ".jlab" / "sessions" / record.id
    path.write_text(render(record))
    return path


def a_record(port: int, *, job_id: str | None = None, name: str = "lab") -> Record:
    """Of a session that lives as long as this test, if no other job is named."""
    return Record(
        name=name,
        node=socket.gethostname(),
        port=1,
        token="f" * 64,
        job_id=job_id or str(os.getpid()),
        ssh_port=port,
        nonce=NONCE,
        user="x",
        started=1,
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def answer_with(listener: socket.socket, text: bytes) -> list[bytes]:
    """Send `text` to everyone who connects; what they said, as it comes."""
    said: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if not text:
                    continue
                connection.sendall(text)
                connection.settimeout(5)
                while True:
                    try:
                        data = connection.recv(4096)
                    except OSError:
                        break
                    if not data:
                        break
                    said.append(data)

    threading.Thread(target=serve, daemon=True).start()
    return said


def test_nothing_runs(laptop: Loopback) -> None:
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        f"jlab-node: no session to connect to on {socket.gethostname()}: "
        "start one there with `jlab-node run`\n"
    )
    named = connect(laptop, "jlab+demo+gpu")
    assert "no session called gpu" in named.stderr
    assert "`jlab-node run --name gpu`" in named.stderr


def test_the_cluster_side_is_missing(site: Loopback) -> None:
    done = connect(site)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        "jlab-node is not set up on demo: log in there and type "
        "pip install jlab-remote && jlab-node setup\n"
    )


def test_the_clusters_python_is_gone(laptop: Loopback) -> None:
    wrapper = laptop.home / ".jlab" / "jlab-node"
    wrapper.write_text(
        re.sub("^python=.*$", "python=/gone/python", wrapper.read_text(), flags=re.M)
    )
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert "/gone/python is gone: install jlab-remote again on this cluster" in done.stderr


def test_ssh_itself_fails(laptop: Loopback) -> None:
    laptop.config.write_text(
        laptop.config.read_text().replace(f"Port {laptop.port}", f"Port {free_port()}")
    )
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (255, "")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[:40], "it is cut short"),
        (lambda text: text[: text.index("token=")], "it has no token"),
        (lambda text: text.replace("format=1", "format=2"), "a newer jlab-node wrote it"),
        (lambda text: re.sub("node=.*", "node=$(reboot)", text), "its node is not valid"),
        (lambda text: re.sub("node=.*", "node=a\nb", text), "it has a line that is not key=value"),
        (lambda text: re.sub("name=.*", "name=\x1b[2J", text), "its name is not valid"),
        (lambda _: "", "it is cut short"),
        (lambda _: "\0\xff", "it is cut short"),
    ],
    ids=["short", "no token", "newer", "command", "newline", "escape", "empty", "binary"],
)
def test_a_record_that_is_no_use(laptop: Loopback, damage: object, why: str) -> None:
    assert callable(damage)
    path = plant(laptop, a_record(free_port()))
    path.write_text(damage(path.read_text()))
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert f"the record {path.name} is no use: {why}" in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    assert path.exists(), "it is not ours to remove"


def test_unknown_keys_are_ignored(laptop: Loopback) -> None:
    process = laptop.start_session()
    path = laptop.wait_for_session(process)
    path.write_text(path.read_text().replace("name=", "from_the_future=x y\nname="))
    assert ssh(laptop, "jlab+demo", "echo here").stdout == "here\n"


def test_the_session_has_ended(laptop: Loopback) -> None:
    """Killed without a chance to withdraw its record: said once, then forgotten."""
    with subprocess.Popen(["true"]) as ended:
        pass
    path = plant(laptop, a_record(free_port(), job_id=str(ended.pid)))
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert f"session lab is over: its process {ended.pid} has ended; its record is removed" in (
        done.stderr
    )
    assert not path.exists()
    assert "is over" not in connect(laptop).stderr


def test_a_stale_record_does_not_hide_an_older_session(laptop: Loopback) -> None:
    process = laptop.start_session("--name", "old")
    laptop.wait_for_session(process)
    with subprocess.Popen(["true"]) as ended:
        pass
    path = plant(laptop, a_record(free_port(), job_id=str(ended.pid), name="newer"))
    done = ssh(laptop, "jlab+demo", "echo here")
    assert done.stdout == "here\n", done.stderr
    assert not path.exists()


def test_nobody_answers(laptop: Loopback) -> None:
    path = plant(laptop, a_record(free_port(), job_id=jlab_process(laptop)))
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert "session lab runs on" in done.stderr
    assert "but it does not answer (TCP to port" in done.stderr
    assert path.exists(), "it may answer later"


def test_it_hangs_up(laptop: Loopback, listener: socket.socket) -> None:
    answer_with(listener, b"")
    path = plant(laptop, a_record(listener.getsockname()[1], job_id=jlab_process(laptop)))
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert "session lab runs on" in done.stderr
    assert path.exists()


def jlab_process(site: Loopback) -> str:
    """The number of a living process that passes for a `jlab-node run`."""
    sleep = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", sleep, "jlab-node", "run"])
    site.add_process(process)
    return str(process.pid)


@pytest.mark.parametrize(
    "greeting",
    [b"jlab " + b"f" * 32 + b"\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"],
    ids=["another nonce", "ssh", "http"],
)
def test_the_port_belongs_to_another_program(
    laptop: Loopback, listener: socket.socket, greeting: bytes
) -> None:
    said = answer_with(listener, greeting)
    path = plant(laptop, a_record(listener.getsockname()[1], job_id=jlab_process(laptop)))
    done = ssh(laptop, "jlab+demo", "true")
    assert (done.returncode, done.stdout) == (255, "")
    assert "belongs to another program now; its record is removed" in done.stderr
    assert not path.exists()
    assert said == [], "it was told nothing"


def test_an_impostor_with_the_right_nonce_fails_the_host_key(
    laptop: Loopback, listener: socket.socket
) -> None:
    """A record that was read by another cannot be used against its owner."""
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd is not None
    config = laptop.root / "login" / "sshd_config"  # a real sshd with a key of its own

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"jlab " + NONCE.encode() + b"\r\n")
            subprocess.run(
                [sshd, "-i", "-f", str(config)],
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=subprocess.DEVNULL,
                check=False,
            )

    threading.Thread(target=serve, daemon=True).start()
    plant(laptop, a_record(listener.getsockname()[1], job_id=jlab_process(laptop)))
    done = ssh(laptop, "jlab+demo", "true")
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr


@pytest.mark.parametrize("how", ["other owner", "others may write"])
def test_a_neighbours_trap_in_tmp(laptop: Loopback, how: str) -> None:
    """What another user says there about sessions is not believed, nor shown."""
    if os.getuid() and how == "other owner":
        pytest.skip("only root can make a directory of another user")
    trap = laptop.tmp / "trap"
    trap.mkdir(parents=True)
    (trap / "starting").write_text("\x1b]0;PWNED\a local-1-lab")
    victim = laptop.home / "victim"
    victim.write_text("precious")
    (trap / "alive").symlink_to(victim)
    with victim.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if how == "other owner":
            os.chown(laptop.tmp, 65534, 65534)
        else:
            laptop.tmp.chmod(0o770)
        done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("jlab-node: no session to connect to")
    assert victim.read_text() == "precious"


def test_a_session_of_a_scheduler_that_is_not_known_here(laptop: Loopback) -> None:
    plant(laptop, replace(a_record(free_port()), scheduler="future", node="localhost"))
    done = connect(laptop)
    assert (done.returncode, done.stdout) == (69, "")
    assert "is a future job, which this jlab-node does not know" in done.stderr
    stop = finished(laptop.node("stop", "lab"), env=laptop.env)
    assert stop.returncode == 1
    assert "is a future job, which this jlab-node does not know" in stop.stderr


def test_it_waits_while_jupyterlab_starts(laptop: Loopback) -> None:
    slow = laptop.root / "slow"
    slow.write_text('#!/bin/sh\nsleep 3\nexec jupyter-lab "$@"\n')
    slow.chmod(0o755)
    process = laptop.start_session("--jupyter", str(slow))
    wait_until(lambda: list(laptop.tmp.glob("*/starting")), "it is starting")
    done = ssh(laptop, "jlab+demo", "echo here")
    assert done.stdout == "here\n"
    session = f"local-{process.pid}-lab"
    assert done.stderr.splitlines() == [
        f"jlab-node: session {session} runs on {socket.gethostname()}; JupyterLab is starting",
    ]


def test_it_stops_waiting_when_the_laptop_is_gone(laptop: Loopback) -> None:
    slow = laptop.root / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    laptop.start_session("--jupyter", str(slow))
    wait_until(lambda: list(laptop.tmp.glob("*/starting")), "it is starting")
    process = subprocess.Popen(
        laptop.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "JupyterLab is starting" in process.stderr.readline()
    waiting = [
        each
        for each in psutil.process_iter(["cmdline", "environ"])
        if (each.info["cmdline"] or [])[1:4] == ["-m", "jlab_node", "connect"]
        and (each.info["environ"] or {}).get("HOME") == str(laptop.home)
    ]
    assert waiting
    process.kill()
    process.communicate()
    wait_until(
        lambda: not any(each.is_running() for each in waiting),
        "nobody waits any more",
        seconds=10,
    )


def test_the_newest_and_the_named(laptop: Loopback) -> None:
    """Names that end alike are told apart."""
    supervisors = {}
    for name in ("gpu", "my-gpu"):
        process = laptop.start_session("--name", name)
        laptop.wait_for_session(process)
        supervisors[name] = str(process.pid)
    for host, name in (("jlab+demo", "my-gpu"), ("jlab+demo+gpu", "gpu")):
        assert supervisors[name] in ssh(laptop, host, ANCESTORS).stdout.split()


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "ksh", "tcsh", "fish"])
def test_login_shells(shell: str) -> None:
    """The login node's sshd hands our command to such a shell, as for a user who has it."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"there is no {shell} on this machine")
    login = f'ForceCommand exec {path} -c "$SSH_ORIGINAL_COMMAND"'
    with Loopback(sshd_options=[login]) as site:
        site.wait_for_session(site.start_session())
        for name, text in {
            ".bashrc": "echo noise from bashrc\n",
            ".zshenv": "echo noise from zshenv\n",
            ".tcshrc": "echo noise from tcshrc\n",
            ".config/fish/config.fish": "echo noise from fish\n",
        }.items():
            (site.home / name).parent.mkdir(parents=True, exist_ok=True)
            (site.home / name).write_text(text)
        setup = site.proxy("setup", "demo", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        done = ssh(site, "jlab+demo", "echo $((6*7))")
        assert done.stdout.endswith("42\n"), done.stderr
        assert done.returncode == 0


def test_a_noisy_bashrc(laptop: Loopback) -> None:
    (laptop.home / ".bashrc").write_text("echo Welcome to the cluster; echo mind the quota >&2\n")
    laptop.wait_for_session(laptop.start_session())
    done = ssh(laptop, "jlab+demo", "exit 3")
    assert done.returncode == 3
    port = free_port()
    setup = laptop.proxy("setup", "demo", "--yes", "--port", str(port))
    subprocess.run(setup, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    tunnel = subprocess.Popen(laptop.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL)
    laptop.add_process(tunnel)
    wait_until(lambda: accepts(port), "the forward listens")
    url = subprocess.run(laptop.proxy("url", "demo"), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"http://127.0.0.1:[0-9]+/lab\?token=[0-9a-f]{64}\n", url.stdout)
