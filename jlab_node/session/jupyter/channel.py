"""The channel to JupyterLab: what it is given for a session, and what it says of itself.

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

_SOCKET_NAME = "jupyter"  # the socket in the session's directory
_ATTEMPTS, _POLL = 20, 0.05  # of seconds
_RESPONSE_TIMEOUT = 30.0  # seconds for an answer of a JupyterLab that may be busy
_HOME_TIMEOUT = 2.0  # seconds for the configuration in ~/.jlab to be removed


@dataclass(frozen=True)
class Hello:
    """What JupyterLab says of itself when it begins to listen on its socket."""

    base_url: str
    secure: bool  # spoken to with https
    transport: str  # of its kernels: ipc or tcp
    strange: list[str]  # classes of the user's that decide who is let in
    debugger: bool  # whether kernels are told to open one


class JupyterChannel:
    """The connection of one session's JupyterLab; `hello` becomes what it says of itself."""

    def __init__(self, config: Path, sock: Path) -> None:
        self.config = config
        self.sock = sock
        self.hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._responses: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._home_io = IoThread()

    def remove_config(self) -> None:
        """Begin to remove the configuration, which JupyterLab has read; return at once."""
        self._home_io.submit(lambda: shutil.rmtree(self.config.parent, ignore_errors=True))

    def flush(self) -> None:
        """Wait until the configuration is removed, but not for a home that does not answer."""
        self.remove_config()
        self._home_io.flush(timeout=_HOME_TIMEOUT)

    def arguments(self) -> list[str]:
        """Return the options that lead JupyterLab here; all that is secret stands in the file."""
        return [
            f"--ServerApp.config_file={self.config}",
            f"--ServerApp.sock={self.sock}",
            "--ServerApp.port=8888",  # any other, in a configuration too, would exclude the socket
        ]

    async def open_port(self, port: int) -> bool:
        """Let JupyterLab listen on `port` of 127.0.0.1 as well; return False if that is taken.

        Raises JlabError where JupyterLab does not answer.
        """
        self._send({"port": port})
        try:
            answer = await within(_RESPONSE_TIMEOUT, self._responses.get())
        except asyncio.TimeoutError:
            raise JlabError("JupyterLab does not open its port") from None
        return answer.get("port") == port

    def exists(self) -> bool:
        """Return whether JupyterLab's socket is there."""
        return self.sock.is_socket()

    async def start(self) -> None:
        """Let JupyterLab listen on its socket, if that has been removed."""
        self._send({"listen": True})
        for _ in range(_ATTEMPTS):
            if self.exists():
                return
            await asyncio.sleep(_POLL)  # it may be standing still: whoever keeps it asks again

    def unmute(self) -> None:
        """Let JupyterLab log whom it refuses: nobody was let in without the token."""
        self._send({"seen": True})

    def close_port(self) -> None:
        """Close JupyterLab's port for good: somebody may have come to know the token."""
        self._send({"shut": True})

    def _send(self, request: dict[str, Any]) -> None:
        assert self._writer, "it has said something"  # noqa: S101
        self._writer.write(json.dumps(request).encode() + b"\n")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in what JupyterLab says, until it ends; it ends when this does."""
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError):
            if self._writer:
                return  # another process of this user's
            self._writer = writer
            hello = json.loads(await reader.readline())
            self.hello.set_result(Hello(**{key: hello[key] for key in Hello.__annotations__}))
            while line := await reader.readline():
                self._responses.put_nowait(json.loads(line))


@contextlib.asynccontextmanager
async def open_channel(
    session_dir: SessionDirectory, home: Home, token: str, *, config: str, debugger: bool
) -> AsyncIterator[JupyterChannel]:
    """Open the session's channel, for a JupyterLab that is started with its `arguments`.

    `config` is the file that the user has named, "" if Jupyter is to look for it. What JupyterLab
    runs as its configuration lies in ~/.jlab until it has read it, and never on the node, where it
    could come to be another user's. Raises JlabError.
    """
    settings = {
        "token": token,
        "debugger": debugger,
        "config": config,
        "runtime": str(session_dir.paths.jupyter_runtime),
        "sock": str(session_dir.paths.direct),
        "control": str(session_dir.path / _SOCKET_NAME),
        "survived": [int(number) for number in batch_signals.SIGNALS],
    }
    text = resources.files(__package__).joinpath("in_jupyter.py").read_text(encoding="utf-8")
    channel = JupyterChannel(
        _write_config(home, f"{text}\n\nbegin({settings!r})\n"), session_dir.paths.direct
    )
    try:
        control = session_dir.path / _SOCKET_NAME
        async with socket_relay.serve_unix(control, channel.serve, listeners=session_dir.listeners):
            yield channel
    finally:
        channel.flush()


def _write_config(home: Home, text: str) -> Path:
    """Write a private file with that text, in a directory of its own; raises JlabError."""
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
