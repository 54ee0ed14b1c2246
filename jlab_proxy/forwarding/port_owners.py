"""Who has a port of this computer, and which processes of the user's hold a way to sessions."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

import psutil

from .. import port_check, ssh

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Sequence

    from ..paths import Paths

_ACCEPTS = 2.0  # seconds that a listener has to accept a connection
_PATIENCE = 8.0  # seconds that an ssh has to end
_NAMES = ("jlab-proxy", "jlab_proxy", "jlab-proxy.exe")
# What is reached at 127.0.0.1 or ::1, the latter by browsers that are told "localhost".
_LOCAL = ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::1", "::")  # noqa: S104


@dataclass(frozen=True)
class Held:
    """Who listens on a port, by IPv4 or by IPv6."""

    processes: tuple[psutil.Process, ...]  # of this user
    by_others: bool  # somebody else does, alone or beside them

    @property
    def by_nobody(self) -> bool:
        return not self.processes and not self.by_others


def look(port: int) -> Held:
    """Who has the port, by now."""
    taken = port_check.taken(port)
    if not taken:
        return Held((), by_others=False)
    try:
        found = [(each.pid, each.laddr.ip) for each in _local(psutil.net_connections("tcp"), port)]
    except psutil.Error:  # elsewhere than on Linux only root may ask for all
        found = list(_own(port))
    processes = {pid: process for pid, _ in found if (process := own(pid))}
    addresses = {address for pid, address in found if pid in processes}
    by_others = any(pid not in processes for pid, _ in found) or any(
        not addresses & {*covering} for covering in taken
    )
    return Held(tuple(processes.values()), by_others)


def is_ours(port: int) -> bool:
    """Whether programs of this user's have the port, and nobody else has it too."""
    held = look(port)
    return bool(held.processes) and not held.by_others


def own(pid: int | None) -> psutil.Process | None:
    """The process, if it is the user's; of those of others Linux tells not even the number."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid else None
        if process and process.username() == psutil.Process().username():
            return process
    return None


def _own(port: int) -> Iterator[tuple[int, str]]:
    """The user's own processes that listen on the port, and at which address."""
    for process in own_processes():
        with contextlib.suppress(psutil.Error):
            for each in _local(process.net_connections(kind="tcp"), port):
                yield process.pid, each.laddr.ip


def _local(connections: Iterable[Any], port: int) -> list[Any]:
    """Those of psutil's connections that listen on the port of this computer."""
    return [
        each
        for each in connections
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.laddr.ip in _LOCAL
    ]


def own_processes() -> Iterator[psutil.Process]:
    """Those of the user."""
    me = psutil.Process().username()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.username() == me:
                yield process


def is_way_to(process: psutil.Process, host: str, paths: Paths) -> bool:
    """Whether that is an ssh to the session, or the one on which others to it ride."""
    with contextlib.suppress(psutil.Error):
        name, words = process.name(), process.cmdline()
        ours = any(word == host or f"{paths.directory}/job-" in word for word in words)
        return name in ("ssh", "ssh.exe") and ours
    return False


def ways_at(port: int, host: str, paths: Paths) -> tuple[psutil.Process, ...]:
    """The ssh to the session that has the port; none where anybody else has it, or has it too."""
    held = look(port)
    ours = not held.by_others and all(is_way_to(each, host, paths) for each in held.processes)
    return held.processes if ours else ()


def listens(process: psutil.Process, port: int) -> bool:
    """Whether that very process still runs, and listens on the port of this computer."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and bool(_local(process.net_connections(kind="tcp"), port))
    return False


def have_accepted(processes: Sequence[psutil.Process], connection: socket.socket) -> bool:
    """Whether one of them is at the other end of a connection to this computer.

    Who listened a moment ago may be another than who does now: only this tells who will hear.
    """
    here, there = (_plain(each) for each in (connection.getsockname(), connection.getpeername()))
    until = time.monotonic() + _ACCEPTS
    while True:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if process.is_running() and any(
                    each.raddr and (_plain(each.laddr), _plain(each.raddr)) == (there, here)
                    for each in process.net_connections(kind="tcp")
                ):
                    return True
        if time.monotonic() > until or not any(each.is_running() for each in processes):
            return False
        time.sleep(_ACCEPTS / 100)


def _plain(address: Any) -> tuple[str, int]:
    """Host and port; IPv4 as such, also of a socket that speaks IPv6."""
    return address[0].removeprefix("::ffff:"), address[1]


def tunnel_words(process: psutil.Process) -> list[str]:
    """The words of an ssh to a session which only forwards, with no shell that hangs on it."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        program = PurePosixPath(words[0]).name if words else ""
        to_session = any(word.startswith("jlab+") for word in words)
        only_forwards = any(re.fullmatch("-[A-Za-z]*N[A-Za-z]*", word) for word in words)
        if program in ("ssh", "ssh.exe") and only_forwards and to_session:
            return words
    return []


def keeper(process: psutil.Process) -> psutil.Process | None:
    """The `jlab-proxy open` that has started this ssh; None: somebody else has."""
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        return parent if parent and is_open(parent) else None
    return None


def is_open(process: psutil.Process) -> bool:
    """Whether that is a `jlab-proxy open`."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return "open" in words and any(PurePath(each).name in _NAMES for each in words)
    return False


def is_left_behind(process: psutil.Process) -> bool:
    """Whether that is the ssh of a `jlab-proxy open` which could not end it."""
    with contextlib.suppress(psutil.Error):
        ours = bool(tunnel_words(process)) and ssh.OPEN in process.environ()
        return ours and keeper(process) is None
    return False


def end(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, and some patience."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
            if process.status() == psutil.STATUS_STOPPED:  # by Ctrl-Z: it hears nothing till then
                process.resume()
    psutil.wait_procs(processes, timeout=_PATIENCE)
