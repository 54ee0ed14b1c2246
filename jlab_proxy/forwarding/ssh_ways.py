"""Ways by an ssh that has the port itself: one of the user's, or on Windows one of ours."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .. import messages, port_check
from . import local_ports, port_owners, ssh_forward
from .ssh_forward import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psutil

    from ..paths import Paths
    from ..target import Target


class SharedWay:
    """An `ssh jlab+x` of the user's has the port: as good as ours, while it lasts."""

    is_ours = False

    def __init__(
        self, target: Target, lead: local_ports.Lead, processes: Sequence[psutil.Process]
    ) -> None:
        self._target, self._lead, self._processes = target, lead, processes
        self.port = lead.port

    @property
    def has_ended(self) -> bool:
        """Whoever has the port after them is a stranger."""
        return not all(port_owners.listens(each, self.port) for each in self._processes)

    def lines(self) -> list[str]:
        return []

    @contextlib.contextmanager
    def starting(self) -> Iterator[SharedWay]:
        yield self

    def is_in(self, _: object) -> bool:
        return not self.has_ended

    def lead(self, directory: str) -> bool:
        """It leads where the block says; raises JlabError if that is not where the session is."""
        if directory != self._lead.directory:
            raise messages.ssh_leads_elsewhere(
                self._target.host,
                self.port,
                self._target.alias,
                leads_to=self._lead.directory,
                sockets=directory,
            )
        return True

    def answers(self, address: str) -> int | None:
        status = ssh_forward.answers(address, by=self._processes)
        return None if self.has_ended else status

    def let_through(self) -> None:
        """Nobody waits at a port that is not ours."""

    def is_whole(self) -> bool:
        """As far as we know."""
        return True


class SshWay:
    """ssh listens itself: on Windows it can forward from nothing but ports."""

    is_ours = True

    def __init__(self, paths: Paths, target: Target, lead: local_ports.Lead) -> None:
        self._paths, self._target, self._lead = paths, target, lead
        self.port = lead.port
        self._directory = lead.directory
        self._processes: Sequence[psutil.Process] = ()

    @contextlib.contextmanager
    def starting(self) -> Iterator[Forward]:
        if not port_check.is_free(self.port) and not local_ports.end_left_behind(self.port):
            raise local_ports.taken(self.port, self._target)
        forwards = [
            f"-L{port_check.HOST}:{port}:{PurePosixPath(self._directory, name)}.sock"
            for name, port in {self._lead.name: self.port, **self._lead.exposed}.items()
        ]
        # A connection of its own, since a shared one would end on its own terms.
        options = ["-oControlPath=none", *forwards]
        with Forward(self._paths, self._target.host, options) as made:
            self._processes = made.processes
            yield made

    def is_in(self, _: object) -> bool:
        return any(port_owners.listens(each, self.port) for each in self._processes)

    def lead(self, directory: str) -> bool:
        """From the next attempt on."""
        before, self._directory = self._directory, directory
        return directory == before

    def answers(self, address: str) -> int | None:
        return ssh_forward.answers(address, by=self._processes)

    def let_through(self) -> None:
        """ssh does."""

    def is_whole(self) -> bool:
        """As far as we know."""
        return True
