"""How a local port leads to the session: by `open` itself, by an ssh that has it, or by its own.

`choose` finds out which. What the three of them offer is in `Way`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from ..errors import JlabError
from . import local_ports, port_owners
from .held_port_way import HeldPortWay
from .ssh_ways import UsersSshWay, WindowsSshWay

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..paths import Paths
    from ..target import Target


class Connection(Protocol):
    """An ssh that is on its way to the session, or is there."""

    @property
    def has_ended(self) -> bool:
        """Whether it leads nowhere any more."""

    def lines(self) -> list[str]:
        """Return what it has said since the last call."""


class Way(Protocol):
    """What leads from the port to the session. `is_ours`: nobody else can have the port."""

    port: int
    is_ours: bool

    def starting(self) -> AbstractContextManager[Connection]:
        """Start an ssh, which ends with the context; raises JlabError."""

    def has_arrived(self, connection: Connection) -> bool:
        """Return whether that ssh has reached the session's node."""

    def forward_to(self, directory: str) -> bool:
        """Lead to the sockets in that directory of the node; return whether it does by now.

        Raises JlabError if it never will.
        """

    def login_status(self, address: str) -> int | None:
        """Return the HTTP status by which JupyterLab takes the token; None if nobody answers."""

    def let_through(self) -> None:
        """Let what waits at the port be carried to the session."""

    def is_usable(self) -> bool:
        """Return whether it can still lead there; raises JlabError if the port is not served."""


def choose(
    paths: Paths, target: Target, forward: local_ports.LocalForward, *, settling: float = 0
) -> HeldPortWay | UsersSshWay | WindowsSshWay:
    """Return the way by that port; raises PortTakenError if it is somebody else's, or JlabError.

    `settling`: seconds in which a port that has just been used is waited for.
    """
    if os.name == "nt":
        return WindowsSshWay(paths, target, forward)
    for _ in range(2):
        try:
            return HeldPortWay(paths, target, forward, settling=settling)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise JlabError(
                    f"cannot listen on port {forward.port}: {error.strerror}"
                ) from error
        if not local_ports.end_left_behind(forward.port):
            break
    processes = port_owners.session_ssh_at(forward.port, target.host, paths)
    if processes:
        return UsersSshWay(target, forward, processes)
    raise local_ports.port_taken(forward.port, target)
