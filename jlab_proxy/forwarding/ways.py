"""How a local port leads to the session: by `open` itself, by an ssh that has it, or by its own.

Each way offers the same: `starting` an attempt, whether the ssh `is_in`, to `lead` to the session's
sockets, who `answers` there, to `let_through` what waits at the port, and that it `is_whole`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import subprocess
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from .. import messages, port_check
from ..cluster import client
from ..errors import JlabError
from ..ssh_config import keys
from . import local_ports, port_owners, ssh_forward
from .carrier import Carrier, listen
from .ssh_forward import Forward

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psutil

    from ..paths import Paths
    from ..target import Target

_LOCAL = 10.0  # seconds for an ssh of this computer to obey
# ssh adds a point and 16 letters while it makes its own socket; macOS and BSD take 103 bytes.
_LONGEST = 103 - len("/c1234567.") - 16
_PLAIN = re.compile(r"/[A-Za-z0-9._/@+-]*")  # what ssh takes as it is in all places
_PREFIX, _CONTROL = "way-", "c"


class Connection(Protocol):
    """An ssh that is on its way to the session, or is there."""

    @property
    def has_ended(self) -> bool: ...

    def lines(self) -> list[str]: ...


class Way(Protocol):
    """What leads from the port to the session. `is_ours`: nobody else can have the port."""

    port: int
    is_ours: bool

    def starting(self) -> contextlib.AbstractContextManager[Connection]: ...

    def is_in(self, connection: Connection) -> bool: ...

    def lead(self, directory: str) -> bool: ...

    def answers(self, address: str) -> int | None: ...

    def let_through(self) -> None: ...

    def is_whole(self) -> bool: ...


class OwnWay:
    """We listen, from beginning to end, and carry to sockets which one ssh after the other makes.

    A context manager. Raises OSError at once where the port is taken.
    """

    is_ours = True

    def __init__(self, paths: Paths, target: Target, lead: local_ports.Lead) -> None:
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
            self._place = stack.enter_context(_private_directory(self._paths, self.port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def starting(self) -> Iterator[Forward]:
        """An ssh that takes no forward from the user's config; raises JlabError."""
        if not _is_private(self._place):
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
        return f"{self._place}/{_CONTROL}{os.getpid()}"

    def is_in(self, _: Connection) -> bool:
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

    def is_in(self, _: Connection) -> bool:
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

    def is_in(self, _: Connection) -> bool:
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


@contextlib.contextmanager
def _private_directory(paths: Paths, port: int) -> Iterator[str]:
    """For the sockets of ssh: ~/.ssh/jlab/way-PORT, or one in /tmp if that path is too long.

    Whoever has the port may have the directory: what is in it was left by one that was killed.
    Raises JlabError.
    """
    made = f"{paths.directory}/{_PREFIX}{port}"
    is_usable = len(os.fsencode(made)) <= _LONGEST and _PLAIN.fullmatch(made)
    try:
        keys.make_directory(paths)
    except JlabError:  # it is another user's, say, who could move ours away
        is_usable = None
    try:
        if is_usable and _takes_sockets(made):
            _clear(made)
        else:
            made = tempfile.mkdtemp(prefix="jlab-")
    except OSError as error:
        raise JlabError(f"cannot make a directory for sockets: {error.strerror}") from error
    try:
        yield made
    finally:
        _clear(made)
        with contextlib.suppress(OSError):
            os.rmdir(made)  # noqa: PTH106


def _takes_sockets(directory: str) -> bool:
    """Whether it can be made, is ours alone, and on a file system that knows sockets."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        Path(directory).mkdir(mode=0o700, exist_ok=True)
        if not _is_private(directory):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/probe")  # noqa: PTH108
        probe.bind(f"{directory}/probe")
        return True
    return False


def _is_private(directory: str) -> bool:
    """Whether it is there, and nobody else's."""
    with contextlib.suppress(OSError):
        found = os.lstat(directory)
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        return is_ours and not found.st_mode & 0o077
    return False


def _clear(directory: str) -> None:
    """Remove the sockets in it, and end the ssh that has made them."""
    try:
        found = list(Path(directory).iterdir())
    except FileNotFoundError:
        return
    for each in found:
        if each.name.startswith(_CONTROL):
            client.ssh_succeeds(["ssh", "-F", os.devnull, "-S", str(each), "-Oexit", "--", "x"])
        with contextlib.suppress(OSError):  # that ssh removes them as well, a moment later
            if stat.S_ISSOCK(each.lstat().st_mode):
                each.unlink()
