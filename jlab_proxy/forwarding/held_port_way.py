"""The way of `open` itself: it has the port from beginning to end, and one ssh after the other."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from ..errors import JlabError
from . import socket_directory, ssh_forward
from .carrier import Carrier, listen
from .ssh_forward import ForwardingSsh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..paths import Paths
    from ..target import Target
    from .local_ports import LocalForward

_LOCAL_SSH_TIMEOUT = 10.0  # seconds for an ssh of this computer to obey


class HeldPortWay:
    """Listens from beginning to end, and carries to the sockets that one ssh after the other makes.

    A context manager. Raises OSError at once where a port is taken, and after `settling` seconds
    where the session's own has just been used.
    """

    is_ours = True

    def __init__(
        self, paths: Paths, target: Target, forward: LocalForward, *, settling: float = 0
    ) -> None:
        self._paths, self._target, self._forward = paths, target, forward
        self.port = forward.port
        self._stack = contextlib.ExitStack()
        made = []
        with contextlib.ExitStack() as stack:
            for name, port in {forward.name: forward.port, **forward.exposed}.items():
                wait = settling if port == forward.port else 0
                made.append((listen(port, settling=wait), name))
                for each in made[-1][0]:
                    stack.enter_context(each)
            stack.pop_all()
        self._carrier = Carrier()
        for listeners, name in made:
            self._carrier.add(listeners, name)
        self._directory = ""  # where ssh's sockets are

    def __enter__(self) -> HeldPortWay:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._carrier)  # the port is free only after all else
            self._directory = stack.enter_context(
                socket_directory.private_directory(self._paths, self.port)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def starting(self) -> Iterator[ForwardingSsh]:
        """Start an ssh that takes no forward from the user's config; raises JlabError."""
        if not socket_directory.is_private(self._directory):
            raise JlabError(
                f"{self._directory} was removed, or opened to other users",
                remedy="type jlab-proxy open again",
            )
        with contextlib.suppress(OSError):
            os.unlink(self._control_path)  # noqa: PTH108
        options = ["-oClearAllForwardings=yes", "-oControlMaster=yes", "-oControlPersist=no"]
        options += ["-oForwardAgent=no", "-oForwardX11=no"]
        options += [f"-oControlPath={self._control_path}", "-oStreamLocalBindUnlink=yes"]
        try:
            with ForwardingSsh(self._paths, self._target.host, options) as made:
                yield made
        finally:
            self._carrier.set_sockets({})

    @property
    def _control_path(self) -> str:
        return f"{self._directory}/{socket_directory.CONTROL_PREFIX}{os.getpid()}"

    def has_arrived(self, _: object) -> bool:
        """Return whether ssh has made its socket, which it does when it is there."""
        return os.path.exists(self._control_path)  # noqa: PTH110

    def forward_to(self, directory: str) -> bool:
        """Let our sockets lead to those in that directory of the node; return whether ssh obeys."""
        words = ["ssh", "-F", os.devnull, "-oStreamLocalBindUnlink=yes", "-S", self._control_path]
        forward_options = [
            f"-L{here}:{directory}/{name}.sock" for name, here in self._sockets.items()
        ]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                [*words, "-Oforward", *forward_options, "--", self._target.host],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOCAL_SSH_TIMEOUT,
                check=False,
            )
            return done.returncode == 0
        return False

    @property
    def _sockets(self) -> dict[str, str]:
        names = [self._forward.name, *self._forward.exposed]
        own = f"{self._directory}/{os.getpid()}"  # not those of one that is just ending
        return {name: f"{own}-{number}" for number, name in enumerate(names)}

    def login_status(self, address: str) -> int | None:
        return ssh_forward.login_status(address, socket_path=self._sockets[self._forward.name])

    def let_through(self) -> None:
        self._carrier.set_sockets(self._sockets)

    def is_usable(self) -> bool:
        """Return whether nobody has removed the socket; raises JlabError if nothing is carried."""
        if self._carrier.failure:
            problem = f"port {self.port} is not served any more: {self._carrier.failure}"
            raise JlabError(problem, remedy="type jlab-proxy open again")
        return os.path.exists(self._sockets[self._forward.name])  # noqa: PTH110
