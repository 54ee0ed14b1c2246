"""`doctor`'s last links: into the session as `ssh jlab+ALIAS` does, and JupyterLab through it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..forwarding import ssh_forward
from ..ssh_config import document, text_file
from .check import FAILURE, OK, Check, skipped
from .login_node import CommandResult, running_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cluster.bounded_output import Running
    from ..paths import Paths
    from ..target import Target

_TUNNEL_TIMEOUT = 40.0  # seconds for ssh to get in
_HTTP_TIMEOUT = 10.0  # seconds for JupyterLab to answer
_POLL_INTERVAL = 0.05  # seconds between two looks for ssh's socket


def look(paths: Paths, target: Target) -> Iterator[Check]:
    """Log in to the session as `ssh jlab+ALIAS` does, and ask JupyterLab something."""
    forward = document.forwards(text_file.read(paths.config)).get(target.host)
    if forward is None:
        remedy = f"jlab-proxy setup {target.alias}"
        yield Check("way in", FAILURE, "the block forwards no socket", remedy)
        return
    with tempfile.TemporaryDirectory(prefix="jlab-") as path:
        yield from _by_ssh(paths, target, f"{path}/s", forward.socket)


def _by_ssh(paths: Paths, target: Target, path: str, there: str) -> Iterator[Check]:
    """Look by an ssh that forwards the unix socket `path`, which nobody else can have."""
    words = ["ssh", *([] if paths.is_default else ["-F", paths.config]), "-N", "-oBatchMode=yes"]
    words += ["-oControlMaster=no", "-oControlPath=none"]  # a way of our own, which ends with us
    words += ["-oForwardAgent=no", "-oForwardX11=no"]
    words += [f"-L{path}:{there}", "--", target.host]
    with running_process(words) as process:
        began = time.monotonic()
        is_open = _wait_for(path, process)
        took = int((time.monotonic() - began) * 1000)
        answer = _http(path) if is_open else ""
        code = process.wait(0) if process.has_ended else None
        result = CommandResult(code, "", process.stderr, took)
    if is_open:
        found = f"ssh is in after {took} ms; the session's host key is the pinned one"
        yield Check("way in", OK, found)
        yield jupyterlab(answer)
    else:
        yield way_in(result, target)
        yield skipped("JupyterLab", "way in")


def way_in(result: CommandResult, target: Target) -> Check:
    """Return the check that says why ssh did not get into the session."""
    setup = f"jlab-proxy setup {target.alias}"
    if "Host key verification failed" in result.stderr:
        found = "what answers for the session has another host key than the pinned one"
        remedy = f"do not remove the pinned key: start a new session; if ~/.jlab is new, {setup}"
        return Check("way in", FAILURE, found, remedy)
    if "Permission denied" in result.stderr:
        found = "the session does not take this computer's key"
        return Check("way in", FAILURE, found, f"{setup}   registers it")
    return Check(
        "way in", FAILURE, f"ssh does not get in: {result.reason}", f"ssh -v {target.host}"
    )


def jupyterlab(answer: str) -> Check:
    """Return the check of what an HTTP request through the tunnel brought."""
    if answer:
        return Check("JupyterLab", OK, f"it answers through the tunnel ({answer})")
    return Check(
        "JupyterLab",
        FAILURE,
        f"the tunnel is there, but nothing answers in it within {_HTTP_TIMEOUT:.0f} s",
        "JupyterLab may be too busy or out of memory: see its log in the job, then end the "
        "session with `jlab-node stop NAME` and start another",
    )


def _wait_for(path: str, process: Running) -> bool:
    """Wait until ssh listens, as it does once it is in; return False if it never does."""
    deadline = time.monotonic() + _TUNNEL_TIMEOUT
    while time.monotonic() < deadline and not process.has_ended:
        if Path(path).is_socket():
            return True
        time.sleep(_POLL_INTERVAL)
    return False


def _http(path: str) -> str:
    """Return status and time of a request that needs no token; "" if no answer came."""
    for scheme in ("http", "https"):
        began = time.monotonic()
        status = ssh_forward.http_status(
            scheme, 80, "/api", timeout=_HTTP_TIMEOUT, socket_path=path
        )
        if status is not None:
            return f"{scheme.upper()} {status} in {(time.monotonic() - began) * 1000:.0f} ms"
    return ""
