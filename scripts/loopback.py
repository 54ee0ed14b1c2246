"""A throw-away login node and laptop on this machine: a real sshd on loopback, two directories.

For demo, bench and tests. It touches neither ~/.ssh nor ~/.jlab of whoever runs it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What makes a Python measure itself under scripts/coverage, where that runs.
MEASURED = {
    name: os.environ[name]
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_FILE")
    if name in os.environ
}

_SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {root}/login/host_key
AuthorizedKeysFile {root}/login/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
PidFile none
PrintMotd no
Subsystem sftp internal-sftp
SetEnv HOME={home} JLAB_TMPDIR={tmpdir} "PATH={path}"{measured}
{extra}
"""

_CONFIG = """\
Host {alias}
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {root}/laptop/key
    IdentitiesOnly yes
    UserKnownHostsFile {root}/laptop/known_hosts
    StrictHostKeyChecking yes
"""


NOBODY = 65534  # the number of a user who may do nothing

# Prints the number of the shell's process and of each one above it.
ANCESTORS = 'p=$$; while test $p -gt 1; do echo $p; p=$(cut -d" " -f4 /proc/$p/stat); done'


def name_of(process: psutil.Process) -> str:
    """Of its program; "" if it has just ended, as what is found below another may have."""
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def wait_until(condition: object, what: str, *, seconds: float = 60) -> None:
    """Call `condition` until it is true; raises TimeoutError that says `what` did not happen."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def finished(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nobody there to answer it; what it says is captured."""
    return subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> int:
    """A port that nothing has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def jupyterlab_of(session: int) -> psutil.Process:
    """The JupyterLab, or what stands for it, of the `jlab-node run` of this number."""
    for each in psutil.Process(session).children():
        with contextlib.suppress(psutil.Error):  # another child has just ended
            if "--no-browser" in each.cmdline():
                return each
    raise AssertionError("it has none")


class Loopback:
    """A context manager: a login node `alias` and a laptop that knows it."""

    def __init__(self, alias: str = "demo", *, sshd_options: Iterable[str] = ()) -> None:
        self.alias = alias
        self.node_python = self.proxy_python = sys.executable  # each side may be another version
        self._sshd_options = sshd_options
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Loopback:
        self.root = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))  # sockets want short paths
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        self.home = self.root / "login" / "home"
        self.laptop = self.root / "laptop"
        self.tmpdir = self.root / "tmp"
        self.config = self.laptop / "config"
        self.home.mkdir(parents=True)
        self.laptop.mkdir()
        self.tmpdir.mkdir()
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.tmp = self.tmpdir / f"jlab-{self.user}"  # the user's directory on the node
        self.port = free_port()
        self.env = {
            **os.environ,
            "HOME": str(self.home),
            "JLAB_TMPDIR": str(self.tmpdir),
            "SHELL": "/bin/sh",
        }
        _keygen(self.root / "login" / "host_key")
        _keygen(self.laptop / "key")
        shutil.copy(self.laptop / "key.pub", self.root / "login" / "authorized_keys")
        self.add_alias(self.alias, self.port)
        self.start_sshd()

    def add_alias(self, alias: str, port: int) -> None:
        """Let the laptop know the login node by this name and port."""
        host_key = (self.root / "login" / "host_key.pub").read_text()
        with (self.laptop / "known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{port} {host_key}")
        entry = _CONFIG.format(alias=alias, port=port, user=self.user, root=self.root)
        before = self.config.read_text() if self.config.exists() else ""
        self.config.write_text(entry + before)

    def start_sshd(self) -> None:
        """The login node's sshd, running as whoever runs this."""
        config = self.root / "login" / "sshd_config"
        config.write_text(
            _SSHD.format(
                port=self.port,
                root=self.root,
                home=self.home,
                tmpdir=self.tmpdir,
                path=os.environ["PATH"],
                measured="".join(f" {name}={value}" for name, value in MEASURED.items()),
                extra="\n".join(self._sshd_options),
            )
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        assert sshd, "there is no sshd here"
        log = self.root / "login" / "sshd.log"
        process = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(log)], env=self.env)
        self._processes.append(process)
        self.sshd = psutil.Process(process.pid)
        wait_until(lambda: accepts(self.port) or process.poll() is not None, "sshd listens")
        assert process.poll() is None, log.read_text()

    def connections(self) -> list[psutil.Process]:
        """What the login node's sshd has for each connection; not the sshds of sessions."""
        below = self.sshd.children(recursive=True)
        return [each for each in below if name_of(each).startswith("sshd")]

    def __exit__(self, *_: object) -> None:
        for master in self.laptop.glob("jlab/*-*"):
            subprocess.run(
                ["ssh", "-F/dev/null", "-Oexit", f"-S{master}", "x"],
                capture_output=True,
                check=False,
            )
        for process in reversed(self._processes):
            stop(process)
        shutil.rmtree(self.root, ignore_errors=True)

    def node(self, *arguments: str) -> list[str]:
        """Command line of jlab-node; to be run with `self.env`."""
        return [self.node_python, "-m", "jlab_node", *arguments]

    def start_session(
        self, *arguments: str, log: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """`jlab-node run` on the login node, its messages in `log`."""
        with (log or self.root / "job.log").open("ab") as file:
            process = subprocess.Popen(
                self.node("run", *arguments),
                env={**self.env, **(env or {})},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def start_process(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Another way to start jlab-node; nobody reads what it says."""
        process = subprocess.Popen(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.add_process(process)
        return process

    def add_process(self, process: subprocess.Popen[bytes]) -> None:
        """Let it end with all this."""
        self._processes.append(process)

    def records(self) -> list[Path]:
        """The published sessions."""
        return sorted((self.home / ".jlab" / "sessions").glob("[a-z]*"))

    def wait_for_session(self, process: subprocess.Popen[bytes]) -> Path:
        """Its record, once it is there."""

        def mine() -> list[Path]:
            assert process.poll() is None, (self.root / "job.log").read_text()
            return [each for each in self.records() if f"-{process.pid}-" in each.name]

        wait_until(mine, "the session is published")
        return mine()[0]

    def ssh(self, *arguments: str) -> list[str]:
        """Command line of the laptop's ssh."""
        return ["ssh", "-F", str(self.config), *arguments]

    def proxy(self, command: str, *arguments: str) -> list[str]:
        """Command line of the laptop's jlab-proxy."""
        program = Path(self.proxy_python).with_name("jlab-proxy")
        return [str(program), command, "-F", str(self.config), *arguments]


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, patience, SIGKILL; the return code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
