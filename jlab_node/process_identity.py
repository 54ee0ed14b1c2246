"""Which process is meant by a number: numbers are used again, a start time beside them is not."""

from __future__ import annotations

import contextlib
from pathlib import Path

_PROC = Path("/proc")


def identity(pid: int) -> str:
    """The process `pid` in one word: number, start and boot; raises OSError where it is gone.

    The start is in clock ticks since the boot, so that no change of the clock moves it.
    """
    # The name of the program stands in parentheses, and may hold any of them.
    fields = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace").rpartition(")")[2]
    return f"{pid}:{fields.split()[19]}:{_boot()}"


def is_gone(process: str) -> bool:
    """Whether the process of that identity has certainly ended; False where nobody can tell."""
    pid, _, _ = process.partition(":")
    try:
        return not (pid.isdigit() and identity(int(pid)) == process)
    except (FileNotFoundError, ProcessLookupError):
        return _PROC.joinpath("self").exists()
    except (OSError, IndexError):
        return False


def _boot() -> str:
    with contextlib.suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""
