"""Ports of this computer: which one leads to a session, and who has one that is taken."""

from __future__ import annotations

import contextlib
import re
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

import psutil

from . import connect, sshconfig
from .errors import JlabError
from .screen import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .paths import Paths
    from .target import Target

FIRST_EXTRA = 8787  # what Dask's dashboard has where it is free
_PATIENCE = 8.0  # seconds that an ssh has to end
_NAMES = ("jlab-proxy", "jlab_proxy", "jlab-proxy.exe")


def lead(paths: Paths, target: Target) -> tuple[int, list[str]]:
    """The local port for a session, and the options of ssh that make it lead there.

    A session without a block of its own borrows from that of its cluster; so does one whose port a
    shell to it has. Raises JlabError.
    """
    blocks = sshconfig.forwards(sshconfig.read(paths.config))
    own = blocks.get(target.host)
    cluster = own or (blocks.get(f"jlab+{target.alias}") if target.session else None)
    if cluster is None:
        raise JlabError(
            f"no port of this computer leads to {target.name}: jlab-proxy setup {target.alias}"
        )
    if own is not None and not _is_a_shells(own.port, target):
        check_free(own.port, target)
        port = own.port
    else:
        port = _free_from(sshconfig.FIRST_PORT, {each.port for each in blocks.values()})
    name = PurePosixPath(own.socket).stem if own else str(target.session)
    # Also where the block says the same: it does so only while nothing else has the port.
    return port, [_option(port, cluster.socket, name)]


def _is_a_shells(port: int, target: Target) -> bool:
    """Whether an ssh to the session has the port that does more than forward."""
    if connect.is_free(port):
        return False
    with contextlib.suppress(psutil.Error):
        found = next(holders(port), None)
        words = found.cmdline() if found else []
        return target.host in words and found is not None and not tunnel_words(found)
    return False


def for_exposed(
    paths: Paths, target: Target, names: Sequence[str]
) -> tuple[list[str], dict[str, int]]:
    """Options of ssh that forward what the session exposes, and the local port of each name."""
    blocks = sshconfig.forwards(sshconfig.read(paths.config))
    socket = (blocks.get(target.host) or blocks[f"jlab+{target.alias}"]).socket
    taken = {each.port for each in blocks.values()}
    options, ports = [], {}
    for name in names:
        ports[name] = _free_from(FIRST_EXTRA, taken)
        taken.add(ports[name])
        options.append(_option(ports[name], socket, name))
    return options, ports


def _option(port: int, socket: str, name: str) -> str:
    """The forward to the socket of that name, in the same directory of the node."""
    return f"-L{port}:{PurePosixPath(socket).with_name(name)}.sock"


def _free_from(first: int, taken: Iterable[int]) -> int:
    ports = (port for port in range(first, 65536) if port not in taken)
    return next(port for port in ports if connect.is_free(port))


def check_free(port: int, target: Target) -> None:
    """Raises JlabError, which says who has the port. What an `open` that was killed left goes."""
    if connect.is_free(port):
        return
    found = next(holders(port), None)
    if found and _is_left_behind(found):
        end([found])
        if connect.is_free(port):
            return
    if found is None:
        raise JlabError(
            f"localhost:{port} is taken by a program of another user: choose another port with "
            f"jlab-proxy setup {target.alias} --port N"
        )
    command = ""
    with contextlib.suppress(psutil.Error):
        command = printable(" ".join(found.cmdline()))
    remedy = f"jlab-proxy setup {target.alias} --port N chooses another port"
    if tunnel_words(found):
        remedy = f"jlab-proxy close {target.alias} ends it"
    raise JlabError(f"localhost:{port} is taken by process {found.pid} ({command}): {remedy}")


def _is_left_behind(process: psutil.Process) -> bool:
    """Whether that is the ssh of a `jlab-proxy open` which could not end it."""
    with contextlib.suppress(psutil.Error):
        ours = bool(tunnel_words(process)) and connect.OPEN in process.environ()
        return ours and keeper(process) is None
    return False


def keeper(process: psutil.Process) -> psutil.Process | None:
    """The `jlab-proxy open` that has started this ssh; None: somebody else has."""
    with contextlib.suppress(psutil.Error):
        parent = process.parent()
        words = parent.cmdline() if parent else []
        if "open" in words and any(PurePath(each).name in _NAMES for each in words):
            return parent
    return None


def end(processes: Sequence[psutil.Process]) -> None:
    """SIGTERM, and some patience."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(processes, timeout=_PATIENCE)


def holders(port: int) -> Iterator[psutil.Process]:
    """The user's own processes that listen on the port."""
    for process in own_processes():
        with contextlib.suppress(psutil.Error):
            if any(
                each.laddr.port == port and each.status == psutil.CONN_LISTEN
                for each in process.net_connections(kind="tcp")
            ):
                yield process


def own_processes() -> Iterator[psutil.Process]:
    """Those of the user."""
    me = psutil.Process().username()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.username() == me:
                yield process


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
