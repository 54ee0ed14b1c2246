"""The whole: two clusters, a bastion, two laptops."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from . import accounts, image, oar, slurm
from .hosts import CGROUPS, NAMESPACES, ROOT, Host, kill_hosts, remove_cgroups, say
from .network import Networks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOSTS = {
    host.name: host
    for host in (
        Host("laptop", "laptop", ("net",)),
        Host("laptop2", "laptop2", ("net",)),
        Host("bastion", "bastion", ("net",)),
        Host("cal1", "cal1", ("net", "slurm")),
        Host("n1", "cal1", ("slurm",)),
        Host("n2", "cal1", ("slurm",)),
        Host("gricad", "gricad", ("net", "oar")),
        Host("d1", "gricad", ("oar",)),
        Host("d2", "gricad", ("oar",)),
    )
}
COMMON = ("laptop", "laptop2", "bastion")
SCHEDULERS = {"slurm": slurm, "oar": oar}
_PREPARED = ROOT / "prepared"  # the image and the accounts are complete; locked by who uses it
_FOR_A_WHILE = ROOT / "for a while"  # the last who uses it takes it down
# What a host does, all of it, in one word that the kernel says no to.
_TRIAL = """\
mount -t tmpfs trial /tmp
mkdir /tmp/upper /tmp/work /tmp/root
mount -t overlay trial -o lowerdir=/,upperdir=/tmp/upper,workdir=/tmp/work /tmp/root
ip link add name trial type bridge
ip link add name trial0 type veth peer name trial1
"""
# What tests that were killed have left: programs out of the way, rules of the network.
_MEND = """\
for each in /usr/bin/*.away; do [ ! -e "$each" ] || mv "$each" "${each%.away}"; done
for each in $(ip rule | cut -d: -f1); do
    case $each in 0 | 32766 | 32767) ;; *) ip rule delete priority "$each" ;; esac
done
"""


class Cluster:
    """What `scripts/cluster` and the tests have in their hands."""

    def __init__(self) -> None:
        self._networks = Networks(HOSTS.values())

    def why_not(self, scheduler: str = "slurm") -> str | None:
        """Why the cluster cannot be on this machine, in one sentence; or None."""
        if os.geteuid() != 0:
            return "the test cluster needs root"
        for program in ("apt-get", "ip", "unshare", "nsenter", "ssh-keygen"):
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                return f"the test cluster needs {program}"
        if scheduler == "oar" and not (CGROUPS / "cpuset/cgroup.procs").exists():
            return "OAR needs cgroup v1 with cpuset"
        tried = subprocess.run(
            ["unshare", *NAMESPACES, "--net", "--fork", "sh", "-ec", _TRIAL],
            capture_output=True,
            text=True,
            check=False,
        )
        reason = (tried.stderr.strip().splitlines() or ["an unknown reason"])[-1]
        return f"no namespaces, bridges or overlayfs here: {reason}" if tried.returncode else None

    def host(self, name: str) -> Host:
        return HOSTS[name]

    def is_up(self, scheduler: str) -> bool:
        return all(host.is_ready for host in self._hosts_of(scheduler))

    def up(self, schedulers: Sequence[str] = tuple(SCHEDULERS)) -> None:
        """Start what is not up yet, and bring the product there up to date with this checkout."""
        with _lock():
            self._up(schedulers)

    def keep(self) -> None:
        """Whoever uses it leaves it up from now on."""
        _FOR_A_WHILE.unlink(missing_ok=True)

    @contextlib.contextmanager
    def used(self, schedulers: Sequence[str]) -> Iterator[None]:
        """Up while anybody uses it; the last one takes it down if the first one brought it up."""
        with _lock():
            were_up = all(self.is_up(each) for each in schedulers)
            if were_up and _is_used():
                with _umask(0o022):
                    image.sync()
            else:
                self._up(schedulers)
            if not were_up:
                _FOR_A_WHILE.touch()
            using = os.open(_PREPARED, os.O_RDONLY)
            fcntl.flock(using, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with _lock():
                os.close(using)
                if _FOR_A_WHILE.exists() and not _is_used():
                    self._down()

    def wait(self, scheduler: str) -> None:
        """Until its nodes take jobs, whatever it thought of them."""
        module = SCHEDULERS[scheduler]
        module.wait(HOSTS[module.LOGIN], module.NODES)

    def sync(self) -> None:
        """Bring the product on the cluster up to date with this checkout."""
        with _lock(), _umask(0o022):
            image.sync()

    def start(self, name: str) -> None:
        """Bring a host back that was killed, and wait until its scheduler has it again."""
        with _lock(), _umask(0o022):
            self._boot(HOSTS[name])
            for module in SCHEDULERS.values():
                if name in module.NODES:
                    module.wait(HOSTS[module.LOGIN], (name,))

    def down(self) -> None:
        """Leave nothing on this machine."""
        with _lock():
            self._down()

    def _up(self, schedulers: Sequence[str]) -> None:
        for scheduler in schedulers:
            reason = self.why_not(scheduler)
            if reason:
                raise RuntimeError(reason)
        with _umask(0o022):
            if _is_prepared():
                image.sync()
            else:
                self._prepare()
            self._networks.start_switch()
            for scheduler in schedulers:
                self._start(scheduler)

    def _start(self, scheduler: str) -> None:
        dead = [host for host in self._hosts_of(scheduler) if not host.is_ready]
        if dead:
            say(f"starting {scheduler}: {' '.join(host.name for host in dead)}")
        for host in self._hosts_of(scheduler):
            if host in dead:
                self._boot(host)
            else:
                host.run(["sh", "-c", _MEND], check=True)
        self.wait(scheduler)

    def _prepare(self) -> None:
        if ROOT.exists():
            say("something is left of a cluster that was not finished, or is older: taking it down")
        self._down()
        ROOT.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "jlab-cluster", ROOT], check=True)
        image.build()
        accounts.prepare(HOSTS.values())
        _PREPARED.write_text(str(accounts.SHELLS))

    def _boot(self, host: Host) -> None:
        """Start a host and all that runs on it; killed before the end, this can be done again."""
        host.kill()
        (host.files / "etc/hosts").write_text(self._networks.etc_hosts(host))
        modules = [each for each in SCHEDULERS.values() if host.name in (each.LOGIN, *each.NODES)]
        for module in modules:
            module.configure(host)
        host.start()
        self._networks.attach(host)
        accounts.start_sshd(host)
        for module in modules:
            module.start(host)
        others = [each for each in SCHEDULERS.values() if each not in modules]
        programs = [f"/usr/bin/{program}" for each in others for program in each.PROGRAMS]
        host.run(["rm", "-f", *programs], check=True)  # all hosts have the image of both clusters
        host.mark_ready()

    def _hosts_of(self, scheduler: str) -> list[Host]:
        module = SCHEDULERS[scheduler]
        return [HOSTS[name] for name in (*COMMON, module.LOGIN, *module.NODES)]

    def _down(self) -> None:
        kill_hosts()
        remove_cgroups()
        _detach_loops()
        deadline = time.monotonic() + 5
        while ROOT.is_mount():
            lazy = ["-l"] if time.monotonic() > deadline else []
            subprocess.run(["umount", *lazy, ROOT], capture_output=True, check=False)
        with contextlib.suppress(FileNotFoundError):
            ROOT.rmdir()


def _is_prepared() -> bool:
    """Whether image and accounts are there, and those that this version makes."""
    return _PREPARED.exists() and _PREPARED.read_text() == str(accounts.SHELLS)


def _is_used() -> bool:
    """Whether anybody uses it; to be asked under the lock."""
    with contextlib.suppress(FileNotFoundError), _PREPARED.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _detach_loops() -> None:
    """Those of tests that were killed."""
    listed = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        if f"({ROOT}/" in line:
            subprocess.run(["losetup", "--detach", line.split(":")[0]], check=False)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One at a time changes the cluster: a lock on /run itself leaves no file behind."""
    directory = os.open(ROOT.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
