"""Ports of this computer: which one leads to a session, and who has one that is taken."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import psutil

from . import holders, local_port, sshconfig
from .errors import JlabError
from .local_port import HOST
from .screen import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .paths import Paths
    from .target import Target

FIRST_EXTRA = 8787  # what Dask's dashboard has where it is free


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
    if local_port.is_free(port):
        return False
    with contextlib.suppress(psutil.Error):
        return any(
            target.host in each.cmdline() and not holders.tunnel_words(each)
            for each in holders.look(port).processes
        )
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
    return f"-L{HOST}:{port}:{PurePosixPath(socket).with_name(name)}.sock"


def _free_from(first: int, taken: Iterable[int]) -> int:
    ports = (port for port in range(first, 65536) if port not in taken)
    return next(port for port in ports if local_port.is_free(port))


def check_free(port: int, target: Target) -> None:
    """Raises JlabError, which says who has the port. What an `open` that was killed left goes."""
    if local_port.is_free(port):
        return
    left = [each for each in holders.look(port).processes if holders.is_left_behind(each)]
    holders.end(left)
    if left and local_port.is_free(port):
        return
    raise taken(port, target)


def taken(port: int, target: Target) -> JlabError:
    """A sentence about who has the port."""
    held = holders.look(port)
    if held.by_others or not held.processes:
        return JlabError(
            f"{HOST}:{port} is taken by a program of another user: choose another port with "
            f"jlab-proxy setup {target.alias} --port N"
        )
    found, command = held.processes[0], ""
    with contextlib.suppress(psutil.Error):
        command = printable(" ".join(found.cmdline()))
    remedy = f"jlab-proxy setup {target.alias} --port N chooses another port"
    if holders.tunnel_words(found):
        remedy = f"jlab-proxy close {target.alias} ends it"
    return JlabError(f"{HOST}:{port} is taken by process {found.pid} ({command}): {remedy}")
