"""`jlab-node connect`, the slow path of ~/.jlab/connect: wait, explain, or find another way.

It speaks on stderr alone. Once it has a connection to the endpoint it becomes the relay, so that no
Python stays behind.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from . import endpoint, home, schedulers, sessions, sockets
from .errors import UNAVAILABLE, JlabError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .home import Home
    from .sessions import Published

_TIMEOUT = 5.0  # seconds for the endpoint to answer
_POLL = 0.2  # seconds between two looks
_STOP_TIMEOUT = 25.0  # seconds: JupyterLab alone has 15
_RELAY_DESCRIPTOR = 3


@functools.cache
def say(text: str) -> None:
    """One line for the person at the laptop; the same line only once."""
    print(f"jlab-node: {text}", file=sys.stderr, flush=True)


def connect(
    wanted: str | None, *, greet: str | None, env: Mapping[str, str], user: str
) -> NoReturn:
    """Become the connection to the newest session (called `wanted`); raises JlabError.

    `greet` is said on connecting, after the name of the session and its node; None: nothing is.
    """
    host = socket.gethostname()
    directory = home.locate()
    base = sockets.base_path(env, user)
    while True:
        # Asked in this order, a session that becomes ready in between is not missed.
        starting = [each for each in sockets.starting(base) if _is_wanted(each, wanted)]
        others = _try_each(directory, wanted, greet=greet, host=host)
        if not starting:
            called, option = (f" called {wanted}", f" --name {wanted}") if wanted else ("", "")
            running = f"; there are: {', '.join(others)}" if others else ""
            raise JlabError(
                f"no session{called} to connect to on {host}: start one there with "
                f"`jlab-node run{option}`{running}",
                code=UNAVAILABLE,
            )
        say(f"session {starting[0]} runs on {host}; JupyterLab is starting")
        if _laptop_is_gone():
            raise JlabError("the laptop has ended the connection", code=UNAVAILABLE)
        time.sleep(_POLL)


def stop(published: Published, *, host: str) -> None:
    """End the session's job and wait until it has ended; raises JlabError."""
    record = published.record
    schedulers.cancel(record, host=host)
    for _ in range(int(_STOP_TIMEOUT / _POLL)):
        if schedulers.ended(record, host=host):
            sessions.withdraw(published)
            return
        time.sleep(_POLL)
    raise JlabError(f"session {record.id} was told to stop, but still runs")


def _try_each(directory: Home, wanted: str | None, *, greet: str | None, host: str) -> list[str]:
    """Connect to the first session that can be reached, or say why each could not.

    The names of those that were not wanted.
    """
    published, unreadable = sessions.read_all(directory.sessions)
    for broken in unreadable:
        say(f"the record {sessions.printable(broken.path)} is no use: {broken.why}")
    for each in published:
        if wanted is None or each.record.name == wanted:
            say(_try(each, greet=greet, host=host))
    return sorted({each.record.name for each in published} - {wanted}) if wanted else []


def _try(published: Published, *, greet: str | None, host: str) -> str:
    """Connect to this session and do not return, or say why not."""
    record = published.record
    what = f"session {record.name}"
    how = schedulers.ended(record, host=host)
    if how:
        sessions.withdraw(published)
        return f"{what} is over: {how}; its record is removed"
    if record.ssh_port is None:
        return f"{what} runs on {record.node}, where there is no sshd to let you in"
    if record.scheduler == "local" and record.node != host:
        return f"{what} runs on {record.node}, which is another machine"
    address = ("127.0.0.1" if record.scheduler == "local" else record.node, record.ssh_port)
    where = f"{record.node}:{record.ssh_port}"
    say(f"connecting to {what} at {where}")
    try:
        with socket.create_connection(address, timeout=_TIMEOUT) as connection:
            greeting = endpoint.read_greeting(connection, timeout=_TIMEOUT)
            if greeting == endpoint.greeting(record.nonce):
                if greet is not None:
                    say(f"session {record.name} on {record.node}{greet}")
                _become_relay(connection, directory=published.path.parent.parent)
            if not greeting:
                return f"{what} runs, but {where} hangs up at once"
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        return f"{what} runs, but {where} does not answer: {why}"
    sessions.withdraw(published)
    return f"{what} is over: {where} belongs to another program now; its record is removed"


def _become_relay(connection: socket.socket, *, directory: Path) -> NoReturn:
    connection.settimeout(None)
    os.dup2(connection.fileno(), _RELAY_DESCRIPTOR)
    os.set_inheritable(_RELAY_DESCRIPTOR, True)  # dup2 does not see to it if they are the same
    os.execvp("bash", ["bash", str(directory / "connect"), "--relay"])  # noqa: S606


def _is_wanted(session_id: str, wanted: str | None) -> bool:
    return wanted is None or session_id.split("-", 2)[-1] == wanted


def _laptop_is_gone() -> bool:
    """Whether nobody holds the other ends of stdin and stdout any more; reads no byte."""
    poll = select.poll()
    for descriptor in (0, 1):
        poll.register(descriptor, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
