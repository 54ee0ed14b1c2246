"""Why a JupyterLab that was started does not call back, as far as its processes show."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def cannot_see(pid: int, directory: Path) -> bool:
    """Return whether `pid`, or a process below it, has no `directory`: it is in a container.

    False as well where the system does not tell.
    """
    for process in _family(pid):
        root = Path(f"/proc/{process.pid}/root")
        with contextlib.suppress(OSError):
            if not (root / directory.relative_to("/")).exists() and (root / "proc").exists():
                return True
    return False


def listens_on(pid: int) -> str:
    """Return an address on which `pid`, or a process below it, takes connections; "": on none."""
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    return f"{each.laddr.ip}:{each.laddr.port}"
    return ""


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []
