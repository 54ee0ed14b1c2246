"""JupyterLab: its command line, its environment, and whether it really answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from . import ports
from .errors import JlabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = ports.HOST

# A unix socket's path has at most 107 bytes; kernels make "kernel-<uuid>-ipc-<n>" in the runtime
# directory.
_SOCKET_PATH = 107
_KERNEL_SOCKET = len("/kernel-00000000-0000-0000-0000-000000000000-ipc-10")

_OURS = re.compile(
    r"--((\w+App|\w*IdentityProvider)\.)?(ip|port|port[-_]retries|sock|token|open_browser)(=.*|$)",
    re.DOTALL,
)
_TRANSPORT = re.compile(r"--(\w*KernelManager\.)?transport(=.*|$)", re.DOTALL)
_TIMEOUT = 10  # seconds for one request
_REFUSED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


def find(command: str | None) -> list[str]:
    """The words that start jupyter-lab: those given, or the one on PATH, or the one beside us."""
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise JlabError(f"--jupyter: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise JlabError(f"--jupyter: there is no command {words[0] if words else ''!r} here")
        return words
    beside = Path(sys.executable).with_name("jupyter-lab")
    found = shutil.which("jupyter-lab") or shutil.which(str(beside))
    if found is None:
        raise JlabError(
            "jupyter-lab is not on PATH: activate the environment that has it, or install it "
            "(pip install jupyterlab), or name it: jlab-node run --jupyter /path/to/jupyter-lab"
        )
    return [found]


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse what would undo our own settings; raises JlabError."""
    for argument in arguments:
        if _OURS.fullmatch(argument):
            option = argument.partition("=")[0]
            raise JlabError(f"jlab-node sets {option} itself: leave it out after --")


def arguments(port: int, extra: Sequence[str], *, is_root: bool) -> list[str]:
    """What follows the command's own words."""
    ours = [
        "--no-browser",
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",  # its own search binds, closes and binds again
    ]
    if is_root:
        ours.append("--allow-root")
    if not any(_TRANSPORT.fullmatch(argument) for argument in extra):
        # Over tcp, other users of the node can read what runs.
        ours.append("--KernelManager.transport=ipc")
    return [*ours, *extra]


# JupyterLab's debugger starts a server on a port without a password, which goes on listening when
# the debugger is switched off: whoever is on the node could run code as the user.
PAGE_CONFIG = Path("labconfig", "page_config.json")
PAGE_CONFIG_TEXT = '{"disabledExtensions": {"@jupyterlab/debugger-extension": true}}\n'


def environment(
    env: Mapping[str, str], *, token: str, runtime: Path, settings: Path
) -> dict[str, str]:
    """`env` with the token, which may stand in no command line, and directories of the session.

    `settings` is looked at before the user's own configuration: it holds PAGE_CONFIG.
    """
    if len(str(runtime)) + _KERNEL_SOCKET > _SOCKET_PATH:
        raise JlabError(
            f"{runtime} is too long a path for the sockets of kernels: set JLAB_TMPDIR to a "
            "shorter directory on this node"
        )
    path = [str(settings), *filter(None, [env.get("JUPYTER_CONFIG_PATH")])]
    return {
        **env,
        "JUPYTER_TOKEN": token,
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(path),
    }


def accepts(port: int) -> bool:
    """Whether anything listens on the port: cheap to ask, and says nothing about who."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def belongs_to(port: int, pid: int) -> bool:
    """Whether the process `pid` or a descendant of it holds the listening socket of `port`."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return False
    return any(_listens(each, port) for each in family)


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp4")
    except psutil.Error:
        return False
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr == (HOST, port) for each in connections
    )


def base_url(runtime: Path) -> str:
    """What the server says of itself in its runtime directory, "/" where it says nothing."""
    return str(_said(runtime, "base_url") or "/")


def scheme(runtime: Path) -> str:
    """How the server wants to be spoken to: with a certificate of the user's it is https."""
    return "https" if _said(runtime, "secure") is True else "http"


def _said(runtime: Path, key: str) -> object:
    for path in runtime.glob("jpserver-*.json"):
        try:
            return json.loads(path.read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def answers(port: int, *, token: str, runtime: Path) -> bool:
    """Whether it lets us in, and nobody else. Only for a port that `belongs_to` our child.

    False: not yet. Raises JlabError when the user's own configuration sees to it that it never
    will: to publish an open server would be to give the account away.
    """
    path, tls = f"{base_url(runtime)}api/status", scheme(runtime) == "https"
    with_token = _status(port, path, {"Authorization": f"token {token}"}, tls=tls)
    if with_token in _REFUSED:
        raise JlabError(
            "JupyterLab does not take the token that jlab-node gave it: your Jupyter configuration "
            "sets a token or identity provider of its own; take that out (`jupyter --paths` says "
            "where the files are)"
        )
    if with_token != http.client.OK:
        return False
    if _said(runtime, "token") == token:
        return True
    without = _status(port, path, {}, tls=tls)
    if without == http.client.OK:
        raise JlabError(
            "JupyterLab lets everybody in without a token: your Jupyter configuration sets an "
            "empty one; take that out (`jupyter --paths` says where the files are)"
        )
    return without in _REFUSED


def _status(port: int, path: str, headers: dict[str, str], *, tls: bool) -> int | None:
    """HTTP status of `path`. Not urllib: a proxy in the environment would get the token."""
    connection = (
        http.client.HTTPSConnection(HOST, port, timeout=_TIMEOUT, context=_any_certificate())
        if tls
        else http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)
    )
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, UnicodeError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _any_certificate() -> ssl.SSLContext:
    """For a process that is known to be our own child, whoever has signed its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
