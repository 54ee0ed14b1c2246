"""The way of `open` itself: it has the port from beginning to end, and one ssh after the other."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from ..errors import JlabError
from . import socket_directory, ssh_forward
from .carrier import Carrier, listen
from .ssh_forward import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..paths import Paths
    from ..target import Target
    from .local_ports import Lead

_LOCAL = 10.0  # seconds for an ssh of this computer to obey


class OwnWay:
    """We listen, from beginning to end, and carry to sockets which one ssh after the other makes.

    A context manager. Raises OSError at once where the port is taken.
    """

    is_ours = True

    def __init__(self, paths: Paths, target: Target, lead: Lead) -> None:
        self._paths, self._target, self._lead = paths, target, lead
        self.port = lead.port
        self._stack = contextlib.ExitStack()
        made = []
        with contextlib.ExitStack() as stack:
            for name, port in {lead.name: lead.port, **lead.exposed}.items():
                made.append((listen(port), name))
                for each in made[-1][0]:
                    stack.enter_context(each)
            stack.pop_all()
        self._carrier = Carrier()
        for listeners, name in made:
            self._carrier.add(listeners, name)
        self._place = ""  # where ssh's sockets are

    def __enter__(self) -> OwnWay:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._carrier)  # the port is free only after all else
            self._place = stack.enter_context(
                socket_directory.private_directory(self._paths, self.port)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def starting(self) -> Iterator[Forward]:
        """An ssh that takes no forward from the user's config; raises JlabError."""
        if not socket_directory.is_private(self._place):
            raise JlabError(
                f"{self._place} was removed, or opened to other users",
                remedy="type jlab-proxy open again",
            )
        with contextlib.suppress(OSError):
            os.unlink(self._control)  # noqa: PTH108
        options = ["-oClearAllForwardings=yes", "-oControlMaster=yes", "-oControlPersist=no"]
        options += ["-oForwardAgent=no", "-oForwardX11=no"]
        options += [f"-oControlPath={self._control}", "-oStreamLocalBindUnlink=yes"]
        try:
            with Forward(self._paths, self._target.host, options) as made:
                yield made
        finally:
            self._carrier.lead({})

    @property
    def _control(self) -> str:
        return f"{self._place}/{socket_directory.CONTROL_PREFIX}{os.getpid()}"

    def is_in(self, _: object) -> bool:
        """ssh makes its socket when it is."""
        return os.path.exists(self._control)  # noqa: PTH110

    def lead(self, directory: str) -> bool:
        """Let our sockets lead to those in that directory of the node; whether ssh obeys."""
        words = ["ssh", "-F", os.devnull, "-oStreamLocalBindUnlink=yes", "-S", self._control]
        forwards = [f"-L{here}:{directory}/{name}.sock" for name, here in self._sockets.items()]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*words, "-Oforward", *forwards, "--", self._target.host],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOCAL,
                check=False,
            )
            return done.returncode == 0
        return False

    @property
    def _sockets(self) -> dict[str, str]:
        names = [self._lead.name, *self._lead.exposed]
        own = f"{self._place}/{os.getpid()}"  # not those of one that is just ending
        return {name: f"{own}-{number}" for number, name in enumerate(names)}

    def answers(self, address: str) -> int | None:
        return ssh_forward.answers(address, place=self._sockets[self._lead.name])

    def let_through(self) -> None:
        self._carrier.lead(self._sockets)

    def is_whole(self) -> bool:
        """Whether nobody has removed the socket; raises JlabError if nothing is carried."""
        if self._carrier.failure:
            problem = f"port {self.port} is not served any more: {self._carrier.failure}"
            raise JlabError(problem, remedy="type jlab-proxy open again")
        return os.path.exists(self._sockets[self._lead.name])  # noqa: PTH110
