"""Hosts: who is on which network, and how to start, enter and kill one."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path("/run/jlab-cluster")
CGROUPS = Path("/sys/fs/cgroup")
MARK = "jlab-cluster:"
HERE = Path(__file__).parent
NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", file=sys.stderr, flush=True)


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 30) -> None:
    """Call `condition` until it is true; raises TimeoutError that says `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Host:
    """One host; `site` says whose homes it mounts, `networks` where it has an address."""

    name: str
    site: str = ""
    networks: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        return ROOT / "hosts" / self.name

    @property
    def files(self) -> Path:
        """What differs here from the image: files for it may be put here before it starts."""
        return self.directory / "upper"

    @property
    def pid(self) -> int | None:
        """Its PID 1, as the machine numbers it; None if it is not up."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.directory / "pid").read_text())
            for _ in range(20):
                arguments = _arguments(pid)
                if f"{MARK}{self.name}" in arguments:
                    return pid
                if any(arguments):
                    break
                time.sleep(0.01)  # in the middle of an exec it has none
        return None

    def start(self) -> None:
        """Start it, without a network and without services."""
        for each in ("upper", "work", "root", "home"):
            (self.directory / each).mkdir(parents=True, exist_ok=True)
        (self.directory / "pid").unlink(missing_ok=True)
        _make_cgroups(self.name)
        image = self.name == "image"
        home = self.directory / "home" if image else ROOT / "homes" / self.site
        log = self.directory / "log"
        with log.open("wb") as file:
            subprocess.run(
                [
                    "bash",
                    HERE / "host.bash",
                    MARK + self.name,
                    "/" if image else f"{ROOT}/hosts/image/upper:/",
                    str(home),
                    *NAMESPACES,
                    *([] if image else ["--net"]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                check=True,
            )
        try:
            wait_until(lambda: self.pid or log.stat().st_size, f"{self.name} starts")
            assert self.pid
        except (AssertionError, TimeoutError):
            raise RuntimeError(f"{self.name} does not start: {log.read_text()}") from None

    @property
    def is_ready(self) -> bool:
        """Whether it is up with all that runs on it, not killed half-way there."""
        pid = self.pid
        with contextlib.suppress(OSError):
            return pid is not None and (self.directory / "ready").read_text() == str(pid)
        return False

    def mark_ready(self) -> None:
        (self.directory / "ready").write_text(str(self.pid))

    def kill(self) -> None:
        """Its end, without a warning to anything on it."""
        kill_hosts(self.name)

    def home(self, user: str) -> Path:
        """The user's home, seen from outside."""
        return ROOT / "homes" / self.site / user

    def command(self, arguments: Sequence[str], user: str = "root") -> list[str]:
        """The command line that runs `arguments` there, for root on the machine itself."""
        pid = self.pid
        if pid is None:
            raise RuntimeError(f"{self.name} is not up")
        return [sys.executable, "-IS", str(HERE / "enter.py"), str(pid), user, *arguments]

    def run(
        self,
        arguments: Sequence[str],
        user: str = "root",
        *,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run gives it
        timeout: float = 60,
        check: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it there; its output is captured. With `check` a failure raises RuntimeError."""
        added = ["env", *(f"{name}={value}" for name, value in env.items())] if env else []
        done = subprocess.run(
            self.command([*added, *arguments], user),
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(
                f"on {self.name}: {' '.join(arguments)}: exit code {done.returncode}\n"
                f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done


def kill_hosts(name: str | None = None) -> None:
    """SIGKILL to a host, or to all: with its PID 1 goes everything on it."""
    wanted = {MARK + name} if name else None

    def alive() -> list[int]:
        return [
            pid
            for pid in _processes()
            if any(
                each.startswith(MARK) and (wanted is None or each in wanted)
                for each in _arguments(pid)
            )
        ]

    for pid in alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(), f"{name or 'every host'} ends")


def _processes() -> Iterator[int]:
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def cgroup_trees() -> list[Path]:
    """The roots of the machine's cgroup hierarchies: one, or with cgroup v1 one per controller."""
    return [
        each
        for each in (CGROUPS, *CGROUPS.glob("*/"))
        if each.is_mount() and (each / "cgroup.procs").exists()
    ]


def _make_cgroups(name: str) -> None:
    for tree in cgroup_trees():
        for group in (tree / "jlab-cluster", tree / "jlab-cluster" / name):
            group.mkdir(exist_ok=True)
            for each in ("cpuset.cpus", "cpuset.mems"):  # v1: empty, and so of no use, at first
                with contextlib.suppress(OSError):
                    (group / each).write_text((group.parent / each).read_text())


def remove_cgroups() -> None:
    """Remove what _make_cgroups and the hosts' own programs made."""
    for tree in cgroup_trees():
        for directory, _, _ in os.walk(tree / "jlab-cluster", topdown=False):
            # A group is busy until the kernel is done with the last of the killed.
            wait_until(functools.partial(_remove, Path(directory)), f"{directory} is empty")


def _remove(directory: Path) -> bool:
    with contextlib.suppress(OSError):
        directory.rmdir()
    return not directory.exists()
