"""Where it is measured: a laptop, a login node, and a node where sessions run."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback import free_port, wait_until

from . import probe, road

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PORT = 18888  # of the laptop, for the first alias; the next ones follow


class Site:
    """What both sites offer; the names of command methods say where the command runs."""

    name: str
    config: str  # the laptop's ssh config
    masters: str  # where its shared connections are
    home: Path  # the user's on the cluster, seen from here
    python: str  # on every host
    has_scheduler = False
    login_sshd: int  # as the login node numbers it

    def __init__(self) -> None:
        self._ports = iter(range(PORT, PORT + 100))

    def laptop(self, *command: str) -> list[str]:
        raise NotImplementedError

    def login(self, *command: str) -> list[str]:
        raise NotImplementedError

    def job(self, *command: str) -> list[str]:
        """As the user, in a job."""
        raise NotImplementedError

    def node(self, *command: str) -> list[str]:
        """On that node, as somebody who may look at all processes."""
        raise NotImplementedError

    def jlab_node(self, *words: str) -> list[str]:
        return [self.python, "-m", "jlab_node", *words]

    def jupyter(self) -> list[str]:
        return [str(Path(self.python).with_name("jupyter-lab"))]

    def login_root(self, *command: str) -> list[str]:
        """On the login node, as somebody who may look at all processes."""
        raise NotImplementedError

    def end_jobs(self, process: subprocess.Popen[bytes]) -> None:
        """End what `job` has started; no record is left of it."""
        raise NotImplementedError

    def add_alias(self, alias: str, *, port: int) -> None:
        """Let the laptop reach the login node through its own `port`."""
        raise NotImplementedError

    login_address: tuple[str, int]  # as the laptop sees it

    def ssh(self, *words: str) -> list[str]:
        """The words of ssh on the laptop."""
        return ["ssh", "-F", self.config, *words]

    def plain(self, alias: str, *words: str) -> list[str]:
        """Plain OpenSSH to the node by way of the login node."""
        return self.ssh("-J", alias, *words)

    def set_up(self, alias: str, *options: str) -> None:
        """As the README says."""
        command = [str(Path(self.python).with_name("jlab-proxy")), "setup", "-F", self.config]
        self.run(self.laptop(*command, alias, "--yes", "--port", str(next(self._ports)), *options))

    def end_masters(self) -> str:
        """Shell command after which the next connection is a first one."""
        return (
            f"for m in {self.masters}/login-* {self.masters}/job-*; do [ ! -S $m ] || "
            "ssh -F/dev/null -Oexit -S $m x 2>/dev/null; done; :"
        )

    def run(self, command: Sequence[str], text: str = "") -> str:
        """stdout of a command that has to succeed.

        In files: an ssh that stays to be shared never closes a pipe that it has inherited.
        """
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(
                command, input=text, text=True, stdout=said, stderr=errors, check=False
            )
            for file in (said, errors):
                file.seek(0)
            if done.returncode:
                raise RuntimeError(f"exit code {done.returncode}: {errors.read()[-1500:]}")
            return said.read()

    def probe(self, name: str) -> list[str]:
        """The command that measures by that function of probe.py, wherever it is run."""
        return [self.python, "-c", Path(probe.__file__).read_text(encoding="utf-8"), name]

    def ask(self, where: Any, what: str, **arguments: object) -> Any:
        """What that function of probe.py finds at `where`, one of the methods above."""
        said = self.run(where(*self.probe(what)), json.dumps(arguments) + "\n")
        return json.loads(said.splitlines()[-1])

    @contextlib.contextmanager
    def road(self, alias: str, milliseconds: float, *options: str) -> Iterator[str]:
        """An alias of the login node at that distance, set up for sessions."""
        port = free_port()
        text = Path(road.__file__).read_text(encoding="utf-8")
        host, to = self.login_address
        words = ["-c", text, str(port), host, str(to), str(milliseconds)]
        command = self.laptop(self.python, *words)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout and process.stdout.readline() == b"ready\n"
                self.add_alias(alias, port=port)
                self.set_up(alias, *options)
                yield alias
            finally:
                self.run(self.laptop("sh", "-c", self.end_masters()))
                process.terminate()

    def records(self) -> dict[str, Path]:
        """The published sessions by their names."""
        found = (self.home / ".jlab/sessions").glob("[a-z]*")
        return {path.name.rpartition("-")[2]: path for path in found}

    @contextlib.contextmanager
    def sessions(self, *names: str, options: str = "") -> Iterator[list[float]]:
        """Sessions of these names, started at once in one job; seconds until each was published."""
        began = self.home / "began"
        began.unlink(missing_ok=True)
        run = shlex.join(self.jlab_node("run"))
        lines = [f"{run} --name {name} {options} &" for name in names]
        script = "\n".join(["date +%s.%N >began.new", "mv began.new began", *lines, "wait"])
        command = self.job("sh", "-c", f"cd; {script}")
        with (self.home.parent / "bench.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(
                lambda: set(names) <= self.records().keys() or process.poll() is not None,
                f"{len(names)} sessions are published",
                seconds=60 + 10 * len(names),
            )
            assert process.poll() is None, Path(log.name).read_text()[-1500:]
            since = float(began.read_text())
            yield [self.records()[name].stat().st_mtime - since for name in names]
        finally:
            self.end_jobs(process)
