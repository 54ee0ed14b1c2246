"""JupyterLab by the session's unix socket, and by `jlab-proxy open`, beside ssh to its port.

A local port of `ssh -L` that leads to a unix socket is slower for large files, whoever listens on
that: ssh leaves Nagle's algorithm on there. So both ways are measured from a local socket as well,
which `open` has too.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from loopback import wait_until

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site

_BY_SOCKET, _BY_PORT = 18990, 18991  # of the laptop
_NAGLE = "ssh's own: it leaves Nagle on at a local port that leads to a socket"
_BIG = "big.bin"


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    (site.home / _BIG).write_bytes(bytes(effort.of(20_000_000, 2_000_000)))
    (site.home / _BIG).chmod(0o644)
    try:
        with site.sessions("lab"), _opened(site) as port, _forwards(site) as token:
            ends = {
                "port": _BY_PORT,
                "socket": _BY_SOCKET,
                "open": port,
                "local socket, port": _local(site, "port"),
                "local socket, socket": _local(site, "socket"),
            }
            asked = {"ends": ends, "token": token, "rounds": effort.rounds}
            small = _get(site, path="/api/status", count=effort.of(300, 30), **asked)
            big = _get(site, path=f"/files/{_BIG}", count=effort.of(5, 1), **asked)
    finally:
        (site.home / _BIG).unlink()
    for way, name, against, least in (
        ("its socket", "socket", "port", 0.95),
        ("its socket, from a local socket", "local socket, socket", "local socket, port", 0.95),
        ("jlab-proxy open", "open", "port", 0.9),
    ):
        for what, taken, column, unit in (
            ("/api/status", small, 0, "requests/s"),
            ("a file of 20 MB", big, 1, "MB/s"),
        ):
            ours, theirs = ([each[column] for each in taken[by]] for by in (name, against))
            note = _NAGLE if (name, column) == ("socket", 1) else ""
            yield Row(
                f"JupyterLab by {way}, {what}",
                "ssh -L to its port",
                unit,
                ours,
                theirs,
                least,
                at_least=True,
                note=note,
            )


def _local(site: Site, target: str) -> str:
    return f"{site.masters}/bench-{target}"


def _get(site: Site, **asked: object) -> dict[str, list[list[float]]]:
    taken: dict[str, list[list[float]]] = site.ask(site.laptop, "get", **asked)
    return taken


@contextlib.contextmanager
def _opened(site: Site) -> Iterator[int]:
    """The port that `jlab-proxy open` holds."""
    program = str(Path(site.python).with_name("jlab-proxy"))
    command = site.laptop(program, "open", "-F", site.config, "near", "--no-browser")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            address = re.match(rb"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            assert address, "no address"
            yield int(address[1])
        finally:
            process.terminate()


@contextlib.contextmanager
def _forwards(site: Site) -> Iterator[str]:
    """Both ways to JupyterLab, through one connection to the job; its token."""
    record = site.records()["lab"].read_text()
    port, token, sockets = (
        re.search(rf"^{key}=(.*)$", record, re.MULTILINE)[1]  # type: ignore[index]
        for key in ("port", "token", "socket_dir")
    )
    targets = {"socket": f"{sockets}/lab.sock", "port": f"127.0.0.1:{port}"}
    forwards = [f"-L{_BY_SOCKET}:{targets['socket']}", f"-L{_BY_PORT}:{targets['port']}"]
    forwards += [f"-L{_local(site, name)}:{target}" for name, target in targets.items()]
    options = ["-oExitOnForwardFailure=yes", "-oStreamLocalBindUnlink=yes"]
    command = site.laptop(*site.ssh("-N", *options, *forwards, "jlab+near"))
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
