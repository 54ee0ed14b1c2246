"""Starting JupyterLab: on its private socket first, and on a port when nobody else gets in."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import portpicker

from ...errors import FAILED, JlabError
from ...registry.record import NO_PORT, RecordError, check
from .. import batch_signals
from ..job_log import log
from . import program, why_silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..child_processes import Child, Children
    from .channel import Hello, JupyterChannel

_POLL = 0.05  # seconds between two looks whether it answers
_REPORT_INTERVAL = 30.0  # seconds between two lines that say it does not yet
_MOUNT_TIMEOUT = 3  # seconds that a container may take to bring in its directories
_PORTS_TO_TRY = 20
_CLOSE_TIME = 0.1  # seconds that JupyterLab has to close its port before it stands still


class RunningJupyter:
    """A JupyterLab that lets us in, and nobody else."""

    def __init__(self, process: Child, channel: JupyterChannel, port: int) -> None:
        self.process = process
        self.hello = channel.hello.result()
        self.port = port  # of 127.0.0.1; NO_PORT: it has its socket alone
        self._channel = channel
        self._stopping: asyncio.TimerHandle | None = None

    async def check_refusal(self) -> None:
        """Make sure that still nobody is let in without the token, unless it has ended by now.

        Raises JlabError.
        """
        where = self._channel.sock if self.port == NO_PORT else self.port
        while not await asyncio.to_thread(
            program.requires_token, where, base_url=self.hello.base_url, tls=self.hello.secure
        ):
            if self.process.ended.done():
                return
            await asyncio.sleep(_POLL)
        self._channel.unmute()

    def suspend(self) -> None:
        """Close the port and stop JupyterLab, while another user has the session's directory.

        That user may have read what a browser sent there, the token too. So the port is closed for
        good: without it the token opens nothing to anybody else. JupyterLab stops as soon as it has
        had time to close it.
        """
        if self.port != NO_PORT:
            self._channel.close_port()
            log(f"JupyterLab's port {self.port} is closed for good; its socket is there as ever")
            self.port = NO_PORT
        loop = asyncio.get_running_loop()
        self._stopping = loop.call_later(_CLOSE_TIME, self.process.signal, signal.SIGSTOP)

    def resume(self) -> None:
        """Let JupyterLab go on, if it was suspended."""
        if self._stopping:
            self._stopping.cancel()
        self.process.signal(signal.SIGCONT)


async def start(
    command: list[str],
    extra: Sequence[str],
    *,
    env: Mapping[str, str],
    token: str,
    channel: JupyterChannel,
    children: Children,
    socket_only: bool,
) -> RunningJupyter:
    """Start JupyterLab and wait until it answers, however long it takes; raises JlabError."""
    began = time.monotonic()
    ours = program.arguments(channel.arguments(), extra, is_root=os.geteuid() == 0)
    server = children.start([*command, *ours], env=env, ignoring=batch_signals.SIGNALS)
    hello = await _hello(server, channel, began)
    await _wait_until_ready(server, channel, hello, token)
    port = NO_PORT if socket_only or hello.strange else await _open_port(channel)
    log(f"JupyterLab answers, {time.monotonic() - began:.1f} s after its start")
    _warn(hello)
    return RunningJupyter(server, channel, port)


async def _hello(server: Child, channel: JupyterChannel, began: float) -> Hello:
    """Return what JupyterLab says of itself, however long that takes.

    `began` is when it was started, by the monotonic clock. Raises JlabError where it has ended,
    does not see the session's directories, or listens elsewhere.
    """
    reported, seconds_unseen = began, 0
    either: list[asyncio.Future[Any]] = [server.ended, channel.hello]
    while not channel.hello.done():
        await asyncio.wait(either, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        _raise_if_ended(server)
        needed = (channel.sock.parent, channel.config.parent)
        unseen = [each for each in needed if why_silent.cannot_see(server.pid, each)]
        seconds_unseen = seconds_unseen + 1 if unseen else 0
        if seconds_unseen > _MOUNT_TIMEOUT:
            raise JlabError(
                f"JupyterLab does not see {unseen[0].parent}",
                remedy="a container needs that directory "
                "of this node (apptainer: --bind; docker, podman: --volume)",
            )
        if time.monotonic() - reported > _REPORT_INTERVAL:
            reported = time.monotonic()
            _raise_if_listening_elsewhere(server)
            log(f"JupyterLab has not answered for {reported - began:.0f} s; still waiting")
    hello = channel.hello.result()
    channel.remove_config()
    try:
        check("base_url", hello.base_url)
    except RecordError as error:
        raise JlabError(f"JupyterLab cannot be published: {error}") from error
    return hello


async def _wait_until_ready(
    server: Child, channel: JupyterChannel, hello: Hello, token: str
) -> None:
    """Return when JupyterLab lets us in; raises JlabError if it lets others in, or has ended.

    It is asked on its private socket: whatever it answers, nobody else can hear it.
    """
    while not await asyncio.to_thread(
        program.is_ready, channel.sock, token=token, base_url=hello.base_url, tls=hello.secure
    ):
        _raise_if_ended(server)
        await asyncio.sleep(_POLL)


def _raise_if_ended(server: Child) -> None:
    if server.ended.done():
        code = server.ended.result()
        raise JlabError(
            f"jupyter-lab ended with exit code {code} before it answered",
            remedy="its own messages stand above",
            exit_code=code or FAILED,
        )


def _raise_if_listening_elsewhere(server: Child) -> None:
    """Raise JlabError if it takes connections at a port: then it does not know what it was told."""
    address = why_silent.listens_on(server.pid)
    if address:
        raise JlabError(
            f"the program that was started listens on {address}, not where jlab-node told it to",
            remedy="jlab-node needs JupyterLab 3 or newer",
        )


def _free_port() -> int:
    """Return a port for JupyterLab, free right now, that this process was not given before.

    Raises JlabError.
    """
    try:
        return int(portpicker.pick_unused_port())
    except portpicker.NoFreePortFoundError as error:
        raise JlabError("no port is free on this node") from error


async def _open_port(channel: JupyterChannel) -> int:
    """Let JupyterLab listen on a free port, and return which; raises JlabError."""
    for _ in range(_PORTS_TO_TRY):
        port = _free_port()
        if await channel.open_port(port):
            return port
        log(f"another program took port {port} first: trying the next one")
    raise JlabError(f"{_PORTS_TO_TRY} ports in a row were taken by other programs")


def _warn(hello: Hello) -> None:
    """Log what is the user's own choice, and has a price."""
    if hello.strange:
        log(
            f"{', '.join(hello.strange)} decides who gets in, so JupyterLab opens no port: "
            "it is reached by its socket alone"
        )
    if hello.transport != "ipc":
        log(
            f"kernels speak over {hello.transport}, as your configuration says: other users of "
            "this node can read what they run"
        )
