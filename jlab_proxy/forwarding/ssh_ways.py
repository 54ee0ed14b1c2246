"""Ways by an ssh that has the port itself: one of the user's, or on Windows one of ours."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .. import messages, port_check
from . import local_ports, port_owners, ssh_forward
from .ssh_forward import ForwardingSsh

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psutil

    from ..paths import Paths
    from ..target import Target


class UsersSshWay:
    """An `ssh jlab+x` of the user's has the port: as good as ours, while it lasts."""

    is_ours = False

    def __init__(
        self, target: Target, forward: local_ports.LocalForward, processes: Sequence[psutil.Process]
    ) -> None:
        self._target, self._forward, self._processes = target, forward, processes
        self.port = forward.port

    @property
    def has_ended(self) -> bool:
        """Whether one of them has lost the port: whoever has it then is a stranger."""
        return not all(port_owners.is_listening(each, self.port) for each in self._processes)

    def lines(self) -> list[str]:
        return []

    @contextlib.contextmanager
    def starting(self) -> Iterator[UsersSshWay]:
        yield self

    def has_arrived(self, _: object) -> bool:
        return not self.has_ended

    def forward_to(self, directory: str) -> bool:
        """Return True: it leads where the block says.

        Raises WrongDirectoryError if that is not where the session is.
        """
        if directory != self._forward.directory:
            raise messages.ssh_leads_elsewhere(
                self._target.host,
                self.port,
                self._target.alias,
                leads_to=self._forward.directory,
                sockets=directory,
            )
        return True

    def login_status(self, address: str) -> int | None:
        status = ssh_forward.login_status(address, by=self._processes)
        return None if self.has_ended else status

    def let_through(self) -> None:
        """Nobody waits at a port that is not ours."""

    def is_usable(self) -> bool:
        """Return True, as far as anybody knows."""
        return True


class WindowsSshWay:
    """ssh listens itself: on Windows it can forward from nothing but ports."""

    is_ours = True

    def __init__(self, paths: Paths, target: Target, forward: local_ports.LocalForward) -> None:
        self._paths, self._target, self._forward = paths, target, forward
        self.port = forward.port
        self._directory = forward.directory
        self._processes: Sequence[psutil.Process] = ()

    @contextlib.contextmanager
    def starting(self) -> Iterator[ForwardingSsh]:
        """Start an ssh of our own; raises PortTakenError."""
        if not port_check.is_free(self.port) and not local_ports.end_left_behind(self.port):
            raise local_ports.port_taken(self.port, self._target)
        forward_options = [
            f"-L{port_check.HOST}:{port}:{PurePosixPath(self._directory, name)}.sock"
            for name, port in {self._forward.name: self.port, **self._forward.exposed}.items()
        ]
        # A connection of its own, since a shared one would end on its own terms.
        options = ["-oControlPath=none", *forward_options]
        with ForwardingSsh(self._paths, self._target.host, options) as made:
            self._processes = made.processes
            yield made

    def has_arrived(self, _: object) -> bool:
        return any(port_owners.is_listening(each, self.port) for each in self._processes)

    def forward_to(self, directory: str) -> bool:
        """Lead there from the next attempt on; return whether it does already."""
        before, self._directory = self._directory, directory
        return directory == before

    def login_status(self, address: str) -> int | None:
        return ssh_forward.login_status(address, by=self._processes)

    def let_through(self) -> None:
        """ssh does."""

    def is_usable(self) -> bool:
        """Return True, as far as anybody knows."""
        return True
