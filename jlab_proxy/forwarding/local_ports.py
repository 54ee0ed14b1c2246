"""Ports of this computer: which one is to lead to a session, and who has one that is taken."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import psutil

from .. import messages, port_check
from ..errors import printable
from ..port_check import HOST
from ..ssh_config import document, text_file
from . import carrier, port_owners

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Callable

    from ..errors import PortTakenError
    from ..paths import Paths
    from ..target import Target

FIRST_EXTRA = 8787  # what Dask's dashboard has where it is free


@dataclass(frozen=True)
class LocalForward:
    """Which ports of this computer are to lead to which sockets of the node."""

    port: int
    name: str  # of the session's socket, without .sock
    directory: str  # on the node, as far as the config's block knows
    exposed: Mapping[str, int] = field(default_factory=dict)  # by name, the ports of what else


def forward_for(paths: Paths, target: Target, exposed: Sequence[str] = ()) -> LocalForward:
    """Return where the local port of a session leads, and new ports for what it exposes.

    A session without a block of its own borrows from that of its cluster. The new ports are such
    as need no waiting for. Raises JlabError.
    """
    blocks = document.forwards(text_file.read(paths.config))
    own = blocks.get(target.host)
    cluster = own or (blocks.get(f"jlab+{target.alias}") if target.session else None)
    if cluster is None:
        raise messages.no_local_port(target.name, setup=target.alias)
    taken = {each.port for each in blocks.values()}
    port = own.port if own else _first(port_check.is_free, document.FIRST_PORT, taken)
    taken.add(port)
    ports = {}
    for name in exposed:
        ports[name] = _first(_can_listen, FIRST_EXTRA, taken)
        taken.add(ports[name])
    socket = PurePosixPath(cluster.socket)
    return LocalForward(
        port, socket.stem if own else str(target.session), str(socket.parent), ports
    )


def ports_of_blocks(paths: Paths) -> dict[str, int]:
    """Return the port of each of our blocks, by host; raises JlabError."""
    return document.ports(text_file.read(paths.config))


def port_of_block(text: str, host: str, *, wished: int | None) -> int:
    """Return the local port for the block of `host` in the text of the config file.

    That is the one that is wished for, or that the block has, or the first that no other block and
    no program has. Raises JlabError if the wished one belongs to another block.
    """
    port = wished or document.unused_port(text, host, is_free=port_check.is_free)
    for other, taken in document.ports(text).items():
        if taken == port and other != host:
            raise messages.port_of_another_block(port, other)
    return port


def at_next_free_port(forward: LocalForward, paths: Paths) -> LocalForward:
    """Return the same forward at the next port that needs no waiting for; raises JlabError.

    Ports of what it exposes that somebody has taken meanwhile are replaced as well.
    """
    taken = {forward.port, *forward.exposed.values(), *ports_of_blocks(paths).values()}
    port = _first(_can_listen, forward.port + 1, taken)
    taken.add(port)
    exposed = dict(forward.exposed)
    for name, before in exposed.items():
        if not _can_listen(before):
            exposed[name] = _first(_can_listen, before + 1, taken)
            taken.add(exposed[name])
    return replace(forward, port=port, exposed=exposed)


def _first(fits: Callable[[int], bool], first: int, taken: Iterable[int]) -> int:
    return next(port for port in range(first, 65536) if port not in taken and fits(port))


def _can_listen(port: int) -> bool:
    """Return whether `open` could have the port at once: not even a connection of it is ending.

    Any other user can keep such connections at as many ports as he likes.
    """
    if not port_check.is_free(port):
        return False
    try:
        listeners = carrier.listen(port, settling=0)
    except OSError:
        return False
    for each in listeners:
        each.close()
    return True


def end_left_behind(port: int) -> bool:
    """End the ssh that an `open` of an older version has left there; return whether one was."""
    processes = port_owners.listeners_on(port).processes
    left = [process for process in processes if port_owners.is_left_behind(process)]
    port_owners.terminate(left)
    return bool(left)


def port_taken(port: int, target: Target) -> PortTakenError:
    """Return the error that says who has the port."""
    listeners = port_owners.listeners_on(port)
    if listeners.by_others or not listeners.processes:
        return messages.port_taken_by_other_user(port, target.alias)
    owner, command = listeners.processes[0], ""
    with contextlib.suppress(psutil.Error):
        command = printable(" ".join(owner.cmdline()))
    is_ours = bool(port_owners.forward_only_argv(owner)) or port_owners.is_open(owner)
    return messages.port_taken(port, target.alias, pid=owner.pid, command=command, is_ours=is_ours)


def address(port: int) -> str:
    """Return the address at which a browser of this computer reaches the port."""
    return f"http://{HOST}:{port}/"
