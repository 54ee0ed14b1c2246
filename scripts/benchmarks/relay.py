"""JupyterLab through the session's unix socket, beside its port, both through one ssh."""

from __future__ import annotations

import contextlib
import re
import subprocess
from typing import TYPE_CHECKING

from loopback import wait_until

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site

_BY_SOCKET, _BY_PORT = 18990, 18991  # of the laptop
_BIG = "big.bin"


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    (site.home / _BIG).write_bytes(bytes(effort.of(20_000_000, 2_000_000)))
    (site.home / _BIG).chmod(0o644)
    try:
        with site.sessions("lab"), _forwards(site) as token:
            small = _get(site, token, "/api/status", effort.rounds, effort.of(300, 30))
            big = _get(site, token, f"/files/{_BIG}", effort.rounds, effort.of(5, 1))
    finally:
        (site.home / _BIG).unlink()
    for what, taken, column, unit in (
        ("JupyterLab by its socket, /api/status", small, 0, "requests/s"),
        ("JupyterLab by its socket, a file of 20 MB", big, 1, "MB/s"),
    ):
        ours, theirs = ([each[column] for each in taken[name]] for name in ("socket", "port"))
        yield Row(what, "ssh -L to its port", unit, ours, theirs, 0.95, at_least=True)


def _get(
    site: Site, token: str, path: str, rounds: int, count: int
) -> dict[str, list[list[float]]]:
    ports = {"port": _BY_PORT, "socket": _BY_SOCKET}
    taken: dict[str, list[list[float]]] = site.ask(
        site.laptop, "get", ports=ports, token=token, path=path, rounds=rounds, count=count
    )
    return taken


@contextlib.contextmanager
def _forwards(site: Site) -> Iterator[str]:
    """Both ways to JupyterLab, through one connection to the job; its token."""
    record = site.records()["lab"].read_text()
    port, token, sockets = (
        re.search(rf"^{key}=(.*)$", record, re.MULTILINE)[1]  # type: ignore[index]
        for key in ("port", "token", "socket_dir")
    )
    forwards = [f"-L{_BY_SOCKET}:{sockets}/lab.sock", f"-L{_BY_PORT}:127.0.0.1:{port}"]
    command = site.laptop(*site.ssh("-N", "-oExitOnForwardFailure=yes", *forwards, "jlab+near"))
    test = f"exec 3<>/dev/tcp/127.0.0.1/{_BY_PORT}"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or not subprocess.run(
                        site.laptop("bash", "-c", test), stderr=subprocess.DEVNULL, check=False
                    ).returncode
                ),
                "the forwards are there",
            )
            yield token
        finally:
            process.terminate()
