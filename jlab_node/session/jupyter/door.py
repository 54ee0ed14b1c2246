"""The door to JupyterLab: what it is given for a session, and what it says of itself.

JupyterLab reads `in_jupyter.py`, with this session's settings, as its configuration. That connects
to the socket that is served here, and the connection stays for as long as both live.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import JlabError
from ...files import writing
from ...runtime import socket_relay
from .. import batch_signals
from ..io_thread import IoThread
from ..time_limit import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ...registry.home import Home
    from ...runtime.session_directory import SessionDirectory

_LISTENS = "jupyter"  # the socket in the session's directory
_ROUNDS, _POLL = 20, 0.05  # of seconds
_TIMEOUT = 30.0  # seconds for an answer of a JupyterLab that may be busy
_HOME_TIMEOUT = 2.0  # seconds for ~/.jlab to forget the configuration


@dataclass(frozen=True)
class Hello:
    """What JupyterLab says of itself when it begins to listen on its socket."""

    base_url: str
    secure: bool  # spoken to with https
    transport: str  # of its kernels: ipc or tcp
    strange: list[str]  # classes of the user's that decide who is let in
    debugger: bool  # whether kernels are told to open one


class Door:
    """One session's JupyterLab; `said` becomes its Hello."""

    def __init__(self, config: Path, sock: Path) -> None:
        self.config = config
        self.sock = sock
        self.said: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._home_io = IoThread()

    def forget_config(self) -> None:
        """JupyterLab has read it. A home that does not answer is not waited for."""
        self._home_io.submit(lambda: shutil.rmtree(self.config.parent, ignore_errors=True))

    def settle(self) -> None:
        """Wait, but not for long, until the configuration is forgotten."""
        self.forget_config()
        self._home_io.flush(timeout=_HOME_TIMEOUT)

    def arguments(self) -> list[str]:
        """What leads JupyterLab here. They are no secret: all that is one stands in the file."""
        return [
            f"--ServerApp.config_file={self.config}",
            f"--ServerApp.sock={self.sock}",
            "--ServerApp.port=8888",  # any other, in a configuration too, would exclude the socket
        ]

    async def open(self, port: int) -> bool:
        """Let JupyterLab listen on `port` of 127.0.0.1 as well; False: it is taken.

        Raises JlabError.
        """
        self._ask({"port": port})
        try:
            answer = await within(_TIMEOUT, self._answers.get())
        except asyncio.TimeoutError:
            raise JlabError("JupyterLab does not open its port") from None
        return answer.get("port") == port

    def exists(self) -> bool:
        """Whether JupyterLab's socket is."""
        return self.sock.is_socket()

    async def start(self) -> None:
        """Let JupyterLab listen on its socket, if that has been removed."""
        self._ask({"listen": True})
        for _ in range(_ROUNDS):
            if self.exists():
                return
            await asyncio.sleep(_POLL)  # it may be standing still: whoever keeps it asks again

    def seen(self) -> None:
        """Nobody is let in without the token: from now on JupyterLab logs whom it refuses."""
        self._ask({"seen": True})

    def shut(self) -> None:
        """Close JupyterLab's port for good: somebody may have come to know the token."""
        self._ask({"shut": True})

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._writer, "it has said something"  # noqa: S101
        self._writer.write(json.dumps(request).encode() + b"\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear what JupyterLab says; when this ends, so does it."""
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError):
            if self._writer:
                return  # another process of this user's
            self._writer = writer
            said = json.loads(await reader.readline())
            self.said.set_result(Hello(**{key: said[key] for key in Hello.__annotations__}))
            while line := await reader.readline():
                self._answers.put_nowait(json.loads(line))


@contextlib.asynccontextmanager
async def opened(
    place: SessionDirectory, home: Home, token: str, *, config: str, debugger: bool
) -> AsyncIterator[Door]:
    """The session's door, for a JupyterLab that is started with its `arguments`.

    `config` is the file that the user has named, "" if Jupyter is to look for it. What JupyterLab
    runs as its configuration lies in ~/.jlab until it has read it, and never on the node, where it
    could come to be another user's. Raises JlabError.
    """
    settings = {
        "token": token,
        "debugger": debugger,
        "config": config,
        "runtime": str(place.paths.jupyter_runtime),
        "sock": str(place.paths.direct),
        "control": str(place.path / _LISTENS),
        "survived": [int(number) for number in batch_signals.SIGNALS],
    }
    text = resources.files(__package__).joinpath("in_jupyter.py").read_text(encoding="utf-8")
    door = Door(_written(home, f"{text}\n\nbegin({settings!r})\n"), place.paths.direct)
    try:
        control = place.path / _LISTENS
        async with socket_relay.serve_unix(control, door.serve, listeners=place.listeners):
            yield door
    finally:
        door.settle()


def _written(home: Home, text: str) -> Path:
    """A private file with that text, in a directory of its own; raises JlabError."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=writing.TEMP_PREFIX, dir=home.path))
        try:
            return writing.write_atomically(directory / writing.TEMP_CONFIG_FILE, text)
        except OSError:
            directory.rmdir()
            raise
    except OSError as error:
        where = error.filename or home.path
        raise JlabError(f"cannot write {where}: {error.strerror}") from error
