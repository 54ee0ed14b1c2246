"""`jlab-proxy close`: end tunnels and shared connections. No more lsof and kill."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import psutil

from . import login, names, ports, ssh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .paths import Paths

_PATIENCE = 5.0  # seconds that an ssh has to end


def close(paths: Paths, alias: str) -> list[str]:
    """Close what is open to the cluster; what that was. Raises JlabError."""
    closed = [f"closed the tunnel of process {pid}" for pid in _end_tunnels(paths, alias)]
    if _end_jobs_masters(paths, alias):
        closed.append("closed the shared connection to a session")
    if login.find(paths, alias).end_shared():
        closed.append("closed the shared connection to the login node")
    return closed


def _end_tunnels(paths: Paths, alias: str) -> list[int]:
    """SIGTERM to each `ssh -N jlab+ALIAS...` of this user and this config file."""
    found = [
        process
        for process in ports.own_processes()
        if _leads_to(ports.tunnel_words(process), paths, alias)
    ]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(found, timeout=_PATIENCE)
    return [process.pid for process in found]


def _leads_to(words: Sequence[str], paths: Paths, alias: str) -> bool:
    """`words`: of an ssh."""
    files = [words[at + 1] for at in range(len(words) - 1) if words[at] == "-F"]
    if files != ([] if paths.is_default else [paths.config]):
        return False
    host = f"jlab+{alias}"
    return any(word == host or word.startswith(f"{host}+") for word in words)


def _end_jobs_masters(paths: Paths, alias: str) -> bool:
    """Those of `setup --mux`: each session that was seen may have one."""
    hosts = [
        f"jlab+{alias}",
        *(f"jlab+{alias}+{name}" for name in names.seen(paths).get(alias, [])),
    ]
    return any([_succeeds(ssh.end_master(paths, host)) for host in hosts])  # noqa: C419 (each one)


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0
