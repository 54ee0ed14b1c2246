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

_ACCEPT_TIMEOUT = 2.0  # seconds that a listener has to accept a connection
_END_TIMEOUT = 8.0  # seconds that an ssh has to end
_PROGRAM_NAMES = ("jlab-proxy", "jlab_proxy", "jlab-proxy.exe")
# What is reached at 127.0.0.1 or ::1, the latter by browsers that are told "localhost".
_LOCAL_ADDRESSES = ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::1", "::")  # noqa: S104


@dataclass(frozen=True)
class Listeners:
    """Who listens on a port, by IPv4 or by IPv6."""

    processes: tuple[psutil.Process, ...]  # of this user
    by_others: bool  # somebody else does, alone or beside them

    @property
    def by_nobody(self) -> bool:
        """Whether nobody listens there."""
        return not self.processes and not self.by_others


def listeners_on(port: int) -> Listeners:
    """Return who listens on the port at this moment."""
    taken = port_check.taken(port)
    if not taken:
        return Listeners((), by_others=False)
    try:
        connections = _listening_at(psutil.net_connections("tcp"), port)
        found = [(connection.pid, connection.laddr.ip) for connection in connections]
    except psutil.Error:  # elsewhere than on Linux only root may ask for all
        found = list(_own_listeners(port))
    processes = {pid: process for pid, _ in found if (process := own_process(pid))}
    addresses = {address for pid, address in found if pid in processes}
    by_others = any(pid not in processes for pid, _ in found) or any(
        not addresses & {*covering} for covering in taken
    )
    return Listeners(tuple(processes.values()), by_others)


def is_only_ours(port: int) -> bool:
    """Return whether programs of this user have the port, and nobody else has it as well."""
    listeners = listeners_on(port)
    return bool(listeners.processes) and not listeners.by_others


def own_process(pid: int | None) -> psutil.Process | None:
    """Return the process if it is the user's; of another's, Linux tells not even the number."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid else None
        if process and process.username() == psutil.Process().username():
            return process
    return None


def _own_listeners(port: int) -> Iterator[tuple[int, str]]:
    """Yield the number and the address of each process of the user that listens on the port."""
    for process in own_processes():
        with contextlib.suppress(psutil.Error):
            for each in _listening_at(process.net_connections(kind="tcp"), port):
                yield process.pid, each.laddr.ip


def _listening_at(connections: Iterable[Any], port: int) -> list[Any]:
    """Return those of psutil's connections that listen on the port of this computer."""
    return [
        each
        for each in connections
        if each.status == psutil.CONN_LISTEN
        and each.laddr.port == port
        and each.laddr.ip in _LOCAL_ADDRESSES
    ]


def own_processes() -> Iterator[psutil.Process]:
    """Yield the processes of the user."""
    me = psutil.Process().username()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.username() == me:
                yield process


def is_session_ssh(process: psutil.Process, host: str, paths: Paths) -> bool:
    """Return whether that is an ssh to the session, or the one on which others to it ride."""
    with contextlib.suppress(psutil.Error):
        name, words = process.name(), process.cmdline()
        ours = any(word == host or f"{paths.directory}/job-" in word for word in words)
        return name in ("ssh", "ssh.exe") and ours
    return False


def session_ssh_at(port: int, host: str, paths: Paths) -> tuple[psutil.Process, ...]:
    """Return the ssh to the session that has the port; () if anybody else has it, or has it too."""
    listeners = listeners_on(port)
    ours = not listeners.by_others and all(
        is_session_ssh(each, host, paths) for each in listeners.processes
    )
    return listeners.processes if ours else ()


def is_listening(process: psutil.Process, port: int) -> bool:
    """Return whether that very process still runs and listens on the port of this computer."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and bool(
            _listening_at(process.net_connections(kind="tcp"), port)
        )
    return False


def have_accepted(processes: Sequence[psutil.Process], connection: socket.socket) -> bool:
    """Return whether one of them is at the other end of a connection to this computer.

    Who listened a moment ago may be another than who does now: only this tells who will hear.
    """
    here, there = (_as_ipv4(each) for each in (connection.getsockname(), connection.getpeername()))
    until = time.monotonic() + _ACCEPT_TIMEOUT
    while True:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if process.is_running() and any(
                    each.raddr and (_as_ipv4(each.laddr), _as_ipv4(each.raddr)) == (there, here)
                    for each in process.net_connections(kind="tcp")
                ):
                    return True
        if time.monotonic() > until or not any(each.is_running() for each in processes):
            return False
        time.sleep(_ACCEPT_TIMEOUT / 100)


def _as_ipv4(address: Any) -> tuple[str, int]:
    """Return host and port; those of IPv4 as such, also of a socket that speaks IPv6."""
    return address[0].removeprefix("::ffff:"), address[1]


def forward_only_argv(process: psutil.Process) -> list[str]:
    """Return the words of an ssh to a session that only forwards; [] for any other process.

    No shell ends with such an ssh.
    """
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        program = PurePosixPath(words[0]).name if words else ""
        to_session = any(word.startswith("jlab+") for word in words)
        only_forwards = any(re.fullmatch("-[A-Za-z]*N[A-Za-z]*", word) for word in words)
        if program in ("ssh", "ssh.exe") and only_forwards and to_session:
            return words
    return []


def owning_open(process: psutil.Process) -> psutil.Process | None:
    """Return the `jlab-proxy open` that has started this ssh; None if somebody else has."""
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        return parent if parent and is_open(parent) else None
    return None


def is_open(process: psutil.Process) -> bool:
    """Return whether that is a `jlab-proxy open`."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return "open" in words and any(PurePath(each).name in _PROGRAM_NAMES for each in words)
    return False


def is_left_behind(process: psutil.Process) -> bool:
    """Return whether that is the ssh of a `jlab-proxy open` which could not end it."""
    with contextlib.suppress(psutil.Error):
        ours = bool(forward_only_argv(process)) and ssh.OPEN in process.environ()
        return ours and owning_open(process) is None
    return False


def terminate(processes: Sequence[psutil.Process]) -> None:
    """Send SIGTERM to each, and wait until they have ended, some seconds at most."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
            if process.status() == psutil.STATUS_STOPPED:  # by Ctrl-Z: it hears nothing till then
                process.resume()
    psutil.wait_procs(processes, timeout=_END_TIMEOUT)
