"""Which process that is: numbers are used again, and are the same on two machines.

An identity is `<number>.<start>.<namespace>.<boot>`: when the process started, in clock ticks since
the machine did, which no clock that is set moves; the PID namespace (a container has one of its
own) in which it has that number; and which start of which machine that is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_START, _STATE = 19, 0  # places in /proc/PID/stat, counted from behind the command's name
_ENDED = ("Z", "X")


def identity(pid: int) -> str:
    """Return that of the process with that number here; "" if there is none, or nobody can tell."""
    where, start = own_namespace(), _start(pid)
    return f"{pid}.{start}.{where}" if where and start else ""


def own_namespace() -> str:
    """Return what the processes that this one sees have in common; "" where nobody can tell."""
    with contextlib.suppress(OSError, ValueError):
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115
            return ""  # it is the /proc of another namespace
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return f"{namespace.strip('pid:[]')}.{boot.strip().replace('-', '')}"
    return ""


def namespace_of(known: str) -> str:
    """Return where the process with that identity is seen under its number."""
    return known.split(".", 2)[-1]


def pid_of(known: str) -> int:
    """Return the number of the process with that identity."""
    return int(known.partition(".")[0])


def is_alive(known: str) -> bool | None:
    """Return whether the process with that identity runs; None: it cannot be seen from here.

    That is so in another namespace, and on another machine or before this one was started again.
    """
    if not known or namespace_of(known) != own_namespace():
        return None
    return identity(pid_of(known)) == known


def is_in_another_namespace(known: str) -> bool:
    """Return whether that process is (or was) in another container of this machine."""
    boot = known.rpartition(".")[2] == own_namespace().rpartition(".")[2]
    return bool(known) and boot and namespace_of(known) != own_namespace()


def _start(pid: int) -> str:
    """Return when the process started, in clock ticks; "" if it has ended, or there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return "" if fields[_STATE] in _ENDED else fields[_START]
    return ""
