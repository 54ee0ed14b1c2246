"""How a local port leads to the session: by `open` itself, by an ssh that has it, or by its own.

Each way offers the same: `starting` an attempt, whether the ssh `is_in`, to `lead` to the session's
sockets, who `answers` there, to `let_through` what waits at the port, and that it `is_whole`.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from ..errors import JlabError
from . import local_ports, port_owners
from .own_way import OwnWay
from .ssh_ways import SharedWay, SshWay

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..paths import Paths
    from ..target import Target


class Connection(Protocol):
    """An ssh that is on its way to the session, or is there."""

    @property
    def has_ended(self) -> bool: ...

    def lines(self) -> list[str]: ...


class Way(Protocol):
    """What leads from the port to the session. `is_ours`: nobody else can have the port."""

    port: int
    is_ours: bool

    def starting(self) -> AbstractContextManager[Connection]: ...

    def is_in(self, connection: Connection) -> bool: ...

    def lead(self, directory: str) -> bool: ...

    def answers(self, address: str) -> int | None: ...

    def let_through(self) -> None: ...

    def is_whole(self) -> bool: ...


def choose(paths: Paths, target: Target, lead: local_ports.Lead) -> OwnWay | SharedWay | SshWay:
    """The way by that port; raises JlabError: PortTakenError if that is somebody else's."""
    if os.name == "nt":
        return SshWay(paths, target, lead)
    for _ in range(2):
        try:
            return OwnWay(paths, target, lead)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise JlabError(f"cannot listen on port {lead.port}: {error.strerror}") from error
        if not local_ports.end_left_behind(lead.port):
            break
    processes = port_owners.ways_at(lead.port, target.host, paths)
    if processes:
        return SharedWay(target, lead, processes)
    raise local_ports.taken(lead.port, target)
