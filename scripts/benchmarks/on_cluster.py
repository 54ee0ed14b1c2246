"""On the test cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from loopback import wait_until

from .sites import Site

if TYPE_CHECKING:
    import subprocess

_CONFIG = """\
Host {alias}
    HostName {host}
    Port {port}
    HostKeyAlias {host_key}
    User {user}
    UserKnownHostsFile {directory}/known_hosts
    StrictHostKeyChecking yes
"""
_USER, _OWNER, _NODE_PORT = "u4", "l4", 2223
# Users have no ssh to the nodes there; what `ssh -J` is to reach is another sshd on one of them.
_NODE_SSHD = """
sed /^AllowUsers/d /etc/ssh/sshd_config >/etc/ssh/bench_config
echo 'PidFile /run/bench.pid' >>/etc/ssh/bench_config
kill $(cat /run/bench.pid 2>/dev/null) 2>/dev/null
while ! /usr/sbin/sshd -f /etc/ssh/bench_config -p {port}; do sleep 0.1; done
"""


class OnCluster(Site):
    """The test cluster: a laptop, the login node cal1, the node n1 with real Slurm jobs."""

    name = "test cluster (Slurm; hosts are namespaces of one machine)"
    has_scheduler = True
    python = "/opt/jlab/bin/python"

    def __enter__(self) -> OnCluster:
        from testcluster import Cluster

        self._cluster = Cluster()
        self._was_up = self._cluster.is_up("slurm")
        self._cluster.up(["slurm"])
        self._laptop, self._login, self._node = map(self._cluster.host, ("laptop", "cal1", "n1"))
        self.home = self._login.home(_USER)
        self._directory = f"/home/{_OWNER}/bench"
        self.config, self.masters = f"{self._directory}/config", f"{self._directory}/jlab"
        self.login_address = ("cal1", 22)
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        self._clear()
        self.login_sshd = int(self._login.run(["cat", "/run/sshd.pid"], check=True).stdout)
        self._node.run(["sh", "-c", _NODE_SSHD.format(port=_NODE_PORT)], check=True)
        key = self._node.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"], check=True).stdout
        known = self._laptop.home(_OWNER) / ".ssh/known_hosts"
        self._on_laptop_disk("known_hosts", f"{known.read_text()}n1 {key}")
        self.run(self.login(*self.jlab_node("setup")))
        self._add("node", "n1", _NODE_PORT, "n1")
        self._add("near", "cal1", 22, "cal1")
        self.set_up("near")

    def _clear(self) -> None:
        """Nothing of a run that was killed."""
        self._login.run(["scancel", "-u", _USER])
        wait_until(
            lambda: not self._login.run(["squeue", "-hu", _USER]).stdout, "no jobs", seconds=60
        )
        self._laptop.run(["rm", "-rf", self._directory], _OWNER, check=True)
        self._laptop.run(["mkdir", "-m700", self._directory], _OWNER, check=True)
        self._login.run(["sh", "-c", "rm -rf ~/.jlab"], _USER, check=True)
        self._node.run(["sh", "-c", f"rm -rf /tmp/jlab-{_USER}"], _USER)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            self._laptop.run(["sh", "-c", self.end_masters()], _OWNER)
            self._clear()
            self._node.run(["sh", "-c", "kill $(cat /run/bench.pid)"])
        if not self._was_up:
            self._cluster.down()

    def laptop(self, *command: str) -> list[str]:
        return self._laptop.command(command, _OWNER)

    def login(self, *command: str) -> list[str]:
        return self._login.command(command, _USER)

    def login_root(self, *command: str) -> list[str]:
        return self._login.command(command)

    def job(self, *command: str) -> list[str]:
        return self.login("srun", "--quiet", "--nodelist=n1", "--time=120", *command)

    def node(self, *command: str) -> list[str]:
        return self._node.command(command)

    def end_jobs(self, process: subprocess.Popen[bytes]) -> None:
        self._login.run(["scancel", "-u", _USER])
        process.wait(60)
        # Slurm kills what has not ended within its KillWait, as some of very many have not.
        self.run(self.login("sh", "-c", "rm -f ~/.jlab/sessions/*"))

    def add_alias(self, alias: str, *, port: int) -> None:
        self._add(alias, "127.0.0.1", port, "cal1")

    def _add(self, alias: str, host: str, port: int, host_key: str) -> None:
        names = {"alias": alias, "host": host, "port": port, "host_key": host_key}
        entry = _CONFIG.format(**names, user=_USER, directory=self._directory)
        config = self._laptop.home(_OWNER) / "bench/config"
        before = config.read_text() if config.exists() else ""
        self._on_laptop_disk("config", entry + before)

    def _on_laptop_disk(self, name: str, text: str) -> None:
        command = ["sh", "-c", f"cat >{self._directory}/{name}"]
        self._laptop.run(command, _OWNER, input=text, check=True)
