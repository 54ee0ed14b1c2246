"""`jlab-proxy doctor` on a chain that works, and on chains with one link that is really broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import Loopback, accepts, finished, free_port, stop, wait_until

from jlab_node.registry.record import Record, render
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full

NONCE = "0123456789abcdef" * 2
NO_SESSION = {"session": "warning"}


@contextmanager
def set_up(*, sshd_options: tuple[str, ...] = ()) -> Iterator[Loopback]:
    """A laptop that is set up for a login node, where no session runs."""
    with Loopback(sshd_options=sshd_options) as site:
        subprocess.run(site.node("setup"), env=site.env, check=True, stdout=subprocess.DEVNULL)
        setup = site.proxy("setup", "demo", "--yes", "--port", str(free_port()))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        yield site


@pytest.fixture
def laptop() -> Iterator[Loopback]:
    with set_up() as site:
        yield site


@pytest.fixture
def session(laptop: Loopback) -> subprocess.Popen[bytes]:
    """A session of the laptop's own, to be broken."""
    process = laptop.start_session()
    laptop.wait_for_session(process)
    return process


class Findings:
    """What doctor found, by the names of the links."""

    def __init__(self, site: Loopback) -> None:
        self.done = finished(site.proxy("doctor", "demo", "--json"))
        assert self.done.stderr == ""
        answer = json.loads(self.done.stdout)
        assert answer["format"] == 1
        self.checks = {each["check"]: each for each in answer["checks"]}
        failed = any(each["state"] == "failure" for each in self.checks.values())
        assert self.done.returncode == int(failed)
        for each in self.checks.values():
            assert each["state"] in ("ok", "warning", "failure", "skipped")
            assert bool(each["remedy"]) == (each["state"] in ("warning", "failure")), each

    @property
    def troubles(self) -> dict[str, str]:
        return {
            name: each["state"]
            for name, each in self.checks.items()
            if each["state"] not in ("ok", "skipped")
        }

    def skipped(self, *names: str) -> bool:
        return all(self.checks[name]["state"] == "skipped" for name in names)

    def text(self, name: str) -> str:
        return f"{self.checks[name]['found']} -> {self.checks[name]['remedy']}"


def restart(site: Loopback, change: tuple[str, str]) -> None:
    """Another sshd for the login node, with its configuration changed."""
    config = site.root / "login" / "sshd_config"
    port = free_port()
    text = config.read_text().replace(f"127.0.0.1:{site.port}", f"127.0.0.1:{port}")
    assert change[0] in text
    other = config.with_name("other_config")
    other.write_text(text.replace(*change))
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd
    process = subprocess.Popen([sshd, "-D", "-f", str(other), "-E", f"{other}.log"], env=site.env)
    site.add_process(process)
    wait_until(lambda: accepts(port), "the other sshd listens")
    site.config.write_text(site.config.read_text().replace(f"Port {site.port}\n", f"Port {port}\n"))
    known = site.laptop / "known_hosts"
    known.write_text(known.read_text().replace(f"]:{site.port} ", f"]:{port} "))


def close_master(site: Loopback) -> None:
    """The connection that `setup` has left open."""
    for master in site.laptop.glob("jlab/login-*"):
        subprocess.run(
            ["ssh", "-F/dev/null", "-Oexit", f"-S{master}", "x"], capture_output=True, check=True
        )


def plant(site: Loopback, *, port: int, job_id: str | None = None) -> Path:
    """The record of a session, whose job is a living process that passes for one."""
    if job_id is None:
        sleep = "import time; time.sleep(600)"
        process = subprocess.Popen([sys.executable, "-c", sleep, "jlab-node", "run"])
        site.add_process(process)
        job_id = str(process.pid)
    record = Record(
        name="lab",
        node=socket.gethostname(),
        port=1,
        token="f" * 64,
        job_id=job_id,
        ssh_port=port,
        sshd_config="/tmp/x/sshd_config",
        nonce=NONCE,
        user="x",
        started=1,
    )
    path = site.home / ".jlab" / "sessions" / record.id
    path.write_text(render(record))
    path.chmod(0o600)
    return path


# All is well.


def test_all_is_well(laptop: Loopback, session: subprocess.Popen[bytes]) -> None:
    found = Findings(laptop)
    assert found.troubles == {}
    assert found.checks["JupyterLab"]["found"].startswith("it answers through the tunnel (HTTP 200")
    assert re.search(r"tcp: answers in \d+ ms", found.checks["node"]["found"])
    assert re.search(r"demo answers in \d+ ms", found.checks["login node"]["found"])
    assert [name for name in found.checks if found.skipped(name)] in ([], ["quota"])
    text = subprocess.run(
        laptop.proxy("doctor", "demo"), capture_output=True, text=True, check=True
    ).stdout
    assert len(text.splitlines()) == len(found.checks)
    assert "ok       JupyterLab       it answers" in text
    (record,) = laptop.records()
    for key in ("token", "nonce"):
        secret = re.search(rf"^{key}=(.*)$", record.read_text(), re.M)
        assert secret
        assert secret[1] not in found.done.stdout + text
    local = re.search(r"LocalForward 127.0.0.1:(\d+) ", laptop.config.read_text())
    assert local
    with subprocess.Popen(laptop.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL) as ssh:
        wait_until(lambda: accepts(int(local[1])), "ssh listens")
        held = Findings(laptop)
        ssh.terminate()
    assert held.troubles == {}
    assert f"by your ssh, process {ssh.pid}" in held.checks["local port"]["found"]


def test_the_clusters_half_alone(laptop: Loopback) -> None:
    done = finished(laptop.node("doctor"), env=laptop.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ok       scheduler ", done.stdout, re.M)
    assert "warning  session      none is running\n" in done.stdout
    assert "-> start one: `jlab-node run`\n" in done.stdout


# This computer.


def test_nothing_is_set_up(site: Loopback) -> None:
    found = Findings(site)
    assert found.troubles == {"key": "failure", "block": "failure", "cluster side": "failure"}
    assert found.skipped("block order", "block in force", "local port", "way in", "JupyterLab")
    assert found.checks["block"]["remedy"] == "jlab-proxy setup demo"
    assert "pip install jlab-remote && jlab-node setup" in found.text("cluster side")


def move_down(site: Loopback, above: str) -> None:
    site.config.write_text(above + site.config.read_text())


def test_the_block_is_below_a_user_for_all_hosts(laptop: Loopback) -> None:
    move_down(laptop, "Host *\n    User mallory\n\n")
    found = Findings(laptop)
    # The login node's own User is below it as well.
    assert found.checks["block in force"]["state"] == "failure"
    assert f"user is mallory, not {laptop.user}" in found.text("block in force")
    assert found.troubles["block order"] == "warning"
    assert found.skipped("way in", "JupyterLab")


def test_the_block_is_below_a_jump_for_all_hosts(laptop: Loopback) -> None:
    move_down(laptop, "Host * !demo\n    ProxyJump gate\n\n")
    found = Findings(laptop)
    assert found.troubles == {"block order": "warning", "block in force": "failure", **NO_SESSION}
    assert "proxycommand is none, not " in found.text("block in force")


def test_the_block_is_not_at_the_top(laptop: Loopback) -> None:
    move_down(laptop, "Host other\n    User mallory\n\n")
    found = Findings(laptop)
    assert found.troubles == {"block order": "warning", **NO_SESSION}


def test_a_command_for_all_hosts(laptop: Loopback) -> None:
    with laptop.config.open("a") as file:
        file.write("Host *\n    RemoteCommand tmux\n")
    found = Findings(laptop)
    assert found.troubles == {"block in force": "warning", **NO_SESSION}


def test_half_a_block(laptop: Loopback) -> None:
    laptop.config.write_text(laptop.config.read_text().replace("# <<< jlab+demo <<<\n", ""))
    found = Findings(laptop)
    assert found.troubles == {"block": "failure", **NO_SESSION}
    assert "line 1 of the ssh config is half of a pair" in found.text("block")


def test_a_line_that_ssh_does_not_take(laptop: Loopback) -> None:
    with laptop.config.open("a") as file:
        file.write("Host other\n    Usr alice\n")
    found = Findings(laptop)
    assert found.troubles == {"config": "failure"}
    assert "Bad configuration option: usr" in found.text("config")
    assert found.skipped("block in force", "login node", "way in")


def test_its_python_was_moved(laptop: Loopback) -> None:
    gone = re.sub(r"ProxyCommand \S+", "ProxyCommand /gone/python", laptop.config.read_text())
    laptop.config.write_text(gone)
    found = Findings(laptop)
    assert found.troubles == {"block": "failure", **NO_SESSION}
    assert "'/gone/python' is not a program" in found.text("block")


def test_what_ssh_starts_is_gone(laptop: Loopback) -> None:
    launcher = laptop.laptop / "jlab" / "connect.py"
    launcher.unlink()
    found = Findings(laptop)
    assert found.troubles == {"block": "failure", **NO_SESSION}
    assert f"names '{launcher}', which is not there" in found.text("block")


def test_a_command_that_no_shell_reads(laptop: Loopback) -> None:
    text = re.sub(r"(ProxyCommand \S+)", r"\1'", laptop.config.read_text())
    laptop.config.write_text(text)
    found = Findings(laptop)
    assert found.troubles["block"] == "failure"
    assert "is not a program" in found.text("block")


def test_a_block_that_forwards_nothing(laptop: Loopback, session: subprocess.Popen[bytes]) -> None:
    laptop.config.write_text(re.sub(r"\n *LocalForward .*", "", laptop.config.read_text()))
    found = Findings(laptop)
    assert found.troubles == {"local port": "failure", "way in": "failure"}
    assert found.text("way in") == "the block forwards no socket -> jlab-proxy setup demo"


def test_the_key_is_open_to_others(laptop: Loopback) -> None:
    key = laptop.laptop / "jlab" / "id"
    key.chmod(0o644)
    found = Findings(laptop)
    assert found.troubles == {"key": "failure", **NO_SESSION}
    assert f"chmod 600 {key}" in found.text("key")


def test_the_key_is_no_key(laptop: Loopback) -> None:
    (laptop.laptop / "jlab" / "id").write_text("not a key\n")
    found = Findings(laptop)
    assert found.troubles == {"key": "failure", **NO_SESSION}


@pytest.mark.parametrize(
    ("name", "state"), [("config", "failure"), ("jlab", "warning"), (".", "warning")]
)
def test_others_can_write(laptop: Loopback, name: str, state: str) -> None:
    (laptop.laptop / name).chmod(0o777)
    found = Findings(laptop)
    assert found.troubles == {"permissions": state, **NO_SESSION}
    assert "chmod go-w" in found.text("permissions")


def test_the_local_port_is_taken(laptop: Loopback) -> None:
    local = re.search(r"LocalForward 127.0.0.1:(\d+) ", laptop.config.read_text())
    assert local
    with socket.create_server(("127.0.0.1", int(local[1]))):
        found = Findings(laptop)
    assert found.troubles == {"local port": "failure", **NO_SESSION}
    assert re.search(
        rf"{local[1]} is taken by \S+, process {os.getpid()} ", found.text("local port")
    )


# The login node.


def test_the_login_nodes_sshd_is_down(laptop: Loopback) -> None:
    close_master(laptop)
    stop(laptop._processes[0])
    found = Findings(laptop)
    assert found.troubles == {"login node": "failure"}
    assert "Connection refused -> `ssh demo` has to work first" in found.text("login node")
    assert found.skipped("login shell", "cluster side", "way in", "JupyterLab")


def test_the_alias_is_gone(laptop: Loopback) -> None:
    laptop.config.write_text(
        laptop.config.read_text().replace("Host demo\n", "Host other.example\n")
    )
    found = Findings(laptop)
    assert found.troubles == {"login node": "failure"}
    assert "ssh knows no host demo -> " in found.text("login node")


def test_the_login_nodes_host_key_is_another(laptop: Loopback) -> None:
    close_master(laptop)
    known = laptop.laptop / "known_hosts"
    ours = (laptop.laptop / "key.pub").read_text()
    known.write_text(f"{known.read_text().split()[0]} {ours}")
    found = Findings(laptop)
    assert found.troubles == {"login node": "failure"}
    assert "host key is not known, or another than before" in found.text("login node")


def test_the_login_node_refuses_the_key(laptop: Loopback) -> None:
    close_master(laptop)
    (laptop.root / "login" / "authorized_keys").write_text("")
    found = Findings(laptop)
    assert found.troubles == {"login node": "failure"}
    assert "refuses your keys: Permission denied (publickey)" in found.text("login node")


def test_the_login_node_asks_for_a_password(laptop: Loopback) -> None:
    restart(laptop, ("PasswordAuthentication no", "PasswordAuthentication yes"))
    close_master(laptop)
    (laptop.root / "login" / "authorized_keys").write_text("")
    found = Findings(laptop)
    assert found.troubles == {"login node": "failure"}
    assert "a password or a second factor, and no connection is open" in found.text("login node")
    assert "`ssh jlab+demo`" in found.text("login node")


@pytest.mark.parametrize(
    ("noise", "state"),
    [("echo Welcome to demo", "warning"), ("printf Welcome", "failure")],
    ids=["a line", "half a line"],
)
def test_a_noisy_login_shell(noise: str, state: str) -> None:
    force = f'ForceCommand {noise}; eval "$SSH_ORIGINAL_COMMAND"'
    with set_up() as laptop:
        restart(laptop, ("PermitRootLogin", f"{force}\nPermitRootLogin"))
        close_master(laptop)
        found = Findings(laptop)
    if state == "failure":
        assert found.troubles == {"login shell": state}
        assert found.skipped("cluster side", "way in")
    else:
        assert found.troubles == {"login shell": state, **NO_SESSION}
    assert "before each command: Welcome" in found.text("login shell")


def test_a_login_shell_that_runs_no_commands(laptop: Loopback) -> None:
    restart(laptop, ("PermitRootLogin", "ForceCommand echo Choose: 1, 2\nPermitRootLogin"))
    close_master(laptop)
    found = Findings(laptop)
    assert found.troubles == {"login shell": "failure"}
    assert "it did not run a command: Choose: 1, 2" in found.text("login shell")


# ~/.jlab on the cluster.


def rewrite_wrapper(site: Loopback, pattern: str, replacement: str) -> None:
    path = site.home / ".jlab" / "jlab-node"
    text, count = re.subn(pattern, lambda _: replacement, path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(text)


def test_the_clusters_python_is_gone(laptop: Loopback) -> None:
    rewrite_wrapper(laptop, "^python=.*$", "python=/gone/python")
    found = Findings(laptop)
    assert found.troubles == {"cluster side": "failure"}
    assert found.text("cluster side").startswith(
        "/gone/python is gone -> install jlab-remote again on this cluster"
    )
    assert found.skipped("way in", "JupyterLab")


def test_the_clusters_side_fails(laptop: Loopback) -> None:
    rewrite_wrapper(laptop, "^python=.*$", "echo out of memory >&2; exit 3")
    found = Findings(laptop)
    assert found.troubles == {"cluster side": "failure"}
    assert found.text("cluster side") == (
        "jlab-node fails on demo: out of memory -> "
        "on demo: `sh ~/.jlab/jlab-node doctor` has to work; `jlab-node setup` mends it"
    )


def test_the_cluster_has_no_doctor(laptop: Loopback) -> None:
    rewrite_wrapper(laptop, r'jlab_node "\$@"$', "jlab_node no-such-command --json")
    found = Findings(laptop)
    assert found.troubles == {"cluster side": "failure"}
    assert "and has no doctor" in found.text("cluster side")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"format": 2, "checks": []}', "is newer than on this computer"),
        ('{"format": 1, "checks": []}', "jlab-node doctor is not valid"),
        (
            '{"format": 1, "checks": [{"check": "x", "state": "fine"}]}',
            "jlab-node doctor is not valid",
        ),
        ("Traceback", "did not answer as jlab-node does"),
    ],
    ids=["newer", "empty", "no state", "no answer"],
)
def test_an_answer_that_is_none(laptop: Loopback, answer: str, why: str) -> None:
    rewrite_wrapper(laptop, "^python=.*$", f"echo '{answer}'; exit")
    found = Findings(laptop)
    assert found.troubles == {"cluster side": "failure"}
    assert why in found.text("cluster side")


def test_what_the_cluster_says_is_harmless(laptop: Loopback) -> None:
    evil = json.dumps({"check": "home", "state": "ok", "found": "\x1b]0;PWNED\x07\x9b2J", "new": 1})
    rewrite_wrapper(
        laptop, "^python=.*$", f'echo \'{{"format": 1, "host_key": 5, "checks": [{evil}]}}\'; exit'
    )
    found = Findings(laptop)
    assert found.checks["home"]["found"] == "?]0;PWNED??2J"
    assert found.checks["pinned key"]["state"] == "failure"
    assert found.skipped("way in")


def test_no_check_of_the_cluster_stands_for_one_of_ours(laptop: Loopback) -> None:
    """A cluster that says that our key is well pinned, and the way in open, is not believed."""
    names = ["pinned key", "way in", "JupyterLab", "key", "node"]
    checks = json.dumps([{"check": name, "state": "ok", "found": "fine"} for name in names])
    rewrite_wrapper(
        laptop, "^python=.*$", f'echo \'{{"format": 1, "host_key": 5, "checks": {checks}}}\'; exit'
    )
    found = Findings(laptop)
    assert found.checks["node"]["found"] == "fine", "that is the cluster's"
    assert found.checks["pinned key"]["state"] == "failure"
    assert found.skipped("way in", "JupyterLab")
    for name in names[:4]:
        assert found.checks[f"{name} (cluster)"]["found"] == "fine"


def test_others_can_write_jlab(laptop: Loopback) -> None:
    (laptop.home / ".jlab").chmod(0o777)
    found = Findings(laptop)
    assert found.troubles == {"~/.jlab": "failure", **NO_SESSION}
    assert "can be written by other users" in found.text("~/.jlab")
    assert "-> on demo: look at what is in it, then `chmod go-rwx" in found.text("~/.jlab")


def test_the_host_key_is_open_to_others(laptop: Loopback) -> None:
    (laptop.home / ".jlab" / "host_key").chmod(0o644)
    assert Findings(laptop).troubles == {"~/.jlab": "failure", **NO_SESSION}


def test_an_old_connect_script(laptop: Loopback) -> None:
    with (laptop.home / ".jlab" / "connect").open("a") as file:
        file.write("# of another version\n")
    assert Findings(laptop).troubles == {"~/.jlab": "warning", **NO_SESSION}


def test_another_key_is_pinned(laptop: Loopback) -> None:
    key = (laptop.laptop / "key.pub").read_text().split()
    (laptop.laptop / "jlab" / "known_hosts").write_text(
        f"jlab+demo,jlab+demo+* {key[0]} {key[1]}\n"
    )
    found = Findings(laptop)
    assert found.troubles == {"pinned key": "failure", **NO_SESSION}
    assert "another than that in ~/.jlab" in found.text("pinned key")


def test_a_full_home(laptop: Loopback) -> None:
    """As far as a process can tell: no file may grow beyond a few KiB."""
    rewrite_wrapper(laptop, "^cd ", "ulimit -f 4; cd ")
    found = Findings(laptop)
    assert found.troubles == {"home": "failure", **NO_SESSION}
    assert "64 KiB cannot be written in" in found.text("home")


def test_jupyter_lab_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python environment like ours, without that command; nor is it on PATH."""
    has_none = [
        each
        for each in os.environ["PATH"].split(os.pathsep)
        if not Path(each, "jupyter-lab").exists()
    ]
    monkeypatch.setenv("PATH", os.pathsep.join(has_none))
    bare = tmp_path / "bare"
    (bare / "bin").mkdir(parents=True)
    (bare / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (bare / "lib").symlink_to(Path(sys.prefix, "lib"))
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), bare)
    with set_up() as laptop:
        rewrite_wrapper(laptop, "^python=.*$", f"python={bare}/bin/python")
        found = Findings(laptop)
    assert found.troubles == {"jupyter-lab": "warning", **NO_SESSION}


# The session.


def test_no_session(laptop: Loopback) -> None:
    found = Findings(laptop)
    assert found.troubles == NO_SESSION
    assert found.skipped("node", "way in", "JupyterLab")
    assert found.text("session") == "none is running -> on demo: start one: `jlab-node run`"


def test_the_record_of_a_dead_session(laptop: Loopback) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    path = plant(laptop, port=free_port(), job_id=str(ended.pid))
    found = Findings(laptop)
    assert found.troubles == {"records": "warning", **NO_SESSION}
    assert f"the job of {path.name} has ended" in found.text("records")
    assert path.exists(), "doctor only looks"


def test_a_record_that_is_no_use(laptop: Loopback) -> None:
    path = laptop.home / ".jlab" / "sessions" / "local-1-lab"
    path.write_text("format=1\nname=\x1b[2J\n")
    found = Findings(laptop)
    assert found.troubles == {"records": "warning", **NO_SESSION}
    assert f"rm {path}" in found.text("records")


def test_the_node_does_not_answer(laptop: Loopback) -> None:
    plant(laptop, port=free_port())
    found = Findings(laptop)
    assert found.troubles == {"node": "failure"}
    assert "tcp: Connection refused" in found.text("node")
    assert found.skipped("way in", "JupyterLab")


def serve(listener: socket.socket, greeting: bytes, command: list[str] | None = None) -> None:
    """Greet whoever connects, and hand over to a command or hang up."""

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(greeting)
                if command:
                    end = connection.fileno()
                    subprocess.run(
                        command, stdin=end, stdout=end, stderr=subprocess.DEVNULL, check=False
                    )

    threading.Thread(target=accept, daemon=True).start()


def test_the_port_belongs_to_another_program(laptop: Loopback) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(listener, b"SSH-2.0-OpenSSH_9.2\r\n")
        plant(laptop, port=listener.getsockname()[1])
        found = Findings(laptop)
    assert found.troubles == {"node": "failure"}
    assert "belongs to another program now" in found.text("node")


def test_an_impostor_has_the_sessions_port(laptop: Loopback) -> None:
    """It even knows the greeting; its host key is another."""
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = str(laptop.root / "login" / "sshd_config")
        serve(listener, b"jlab " + NONCE.encode() + b"\r\n", [sshd, "-i", "-f", config])
        plant(laptop, port=listener.getsockname()[1])
        found = Findings(laptop)
    assert found.troubles == {"way in": "failure"}
    assert "another host key than the pinned one" in found.text("way in")
    assert found.skipped("JupyterLab")


def test_the_session_does_not_take_the_key(
    laptop: Loopback, session: subprocess.Popen[bytes]
) -> None:
    (laptop.home / ".jlab" / "authorized_keys").write_text("")
    found = Findings(laptop)
    assert found.troubles == {"way in": "failure"}
    assert "does not take this computer's key -> jlab-proxy setup demo" in found.text("way in")


def test_jupyterlab_hangs(laptop: Loopback, session: subprocess.Popen[bytes]) -> None:
    frozen = [
        each
        for each in psutil.Process(session.pid).children(recursive=True)
        if "--no-browser" in each.cmdline()
    ]
    assert frozen
    for each in frozen:
        each.send_signal(signal.SIGSTOP)
    try:
        found = Findings(laptop)
    finally:
        for each in frozen:
            each.send_signal(signal.SIGCONT)
    assert found.troubles == {"JupyterLab": "failure"}


def test_at_a_terminal_each_line_comes_as_it_is_found(site: Loopback) -> None:
    terminal = Terminal(site.proxy("doctor", "demo"))
    assert terminal.wait() == 1
    lines = terminal.text.split("\r\n")
    assert lines[0].startswith("         ...\r\x1b[K\x1b[32mok ")
    assert lines[-1] == "         ...\r\x1b[K"
