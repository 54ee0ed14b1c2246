"""All on this machine, without root."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from loopback import Loopback, wait_until

from .sites import Site

if TYPE_CHECKING:
    import subprocess


class OnLoopback(Site):
    """All on this machine, without root: jobs are just processes."""

    name = "loopback (one machine, no scheduler)"

    def __init__(self) -> None:
        super().__init__()
        self._made = Loopback("near", sshd_options=["MaxStartups 200"])

    def __enter__(self) -> OnLoopback:
        made = self._made.__enter__()
        made.add_alias("node", made.port)
        self.config, self.masters = str(made.config), str(made.laptop / "jlab")
        self.home, self.python = made.home, sys.executable
        self.login_address, self.login_sshd = ("127.0.0.1", made.port), made.sshd.pid
        self.run(self.login(*self.jlab_node("setup")))
        self.set_up("near")
        return self

    def __exit__(self, *_: object) -> None:
        self._made.__exit__()

    def laptop(self, *command: str) -> list[str]:
        return list(command)

    def login(self, *command: str) -> list[str]:
        wanted = ("HOME", "JLAB_TMPDIR", "SHELL")
        return ["env", *(f"{name}={self._made.env[name]}" for name in wanted), *command]

    job = node = login_root = login

    def end_jobs(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        wait_until(lambda: not self.records(), "the sessions are over", seconds=120)

    def add_alias(self, alias: str, *, port: int) -> None:
        self._made.add_alias(alias, port)
