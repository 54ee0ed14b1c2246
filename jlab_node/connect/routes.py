"""Ways from the login node into a session, in the order of trying: TCP, a step in the job, ssh.

All end at the same `sshd -i`, so host key and environment are the same whichever is used. A way
that works leaves an open socket; what failed says why.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn

from .. import schedulers
from ..errors import UNAVAILABLE
from ..registry import home
from ..runtime import handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..registry.record import Record

TCP_TIMEOUT = 3.0  # seconds for the endpoint to say its first line
_BANNER_TIMEOUT = 20.0  # seconds for its sshd to start
_ATTEMPTS = 3
_STEP_TIMEOUT = 15.0  # seconds; a scheduler that is busy takes its time
_STEP_TIMEOUT_DEAD = 3.0  # when nothing on the node answers
_SSH_TIMEOUT = 5.0
_SSH_CONNECT_TIMEOUT = 1  # seconds; login and compute nodes are neighbours
_LONGEST_NOISE = 16 * 1024
_SENTENCE = re.compile(rb"jlab-node: ([ -~]+)\r?\n")  # by which the endpoint says why not


class Closed(Exception):  # noqa: N818
    """This way is closed; the text says why."""


class Over(Exception):  # noqa: N818
    """The session is over; the text says how one knows."""


@dataclass(frozen=True)
class Way:
    """An open connection to the session's sshd, and what it has said already."""

    connection: socket.socket
    first_line: bytes = b""


def tcp(record: Record) -> Way:
    """Straight to the endpoint; again where it hangs up, as it may when there is a crowd."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(EOFError):
            return _tcp(record)
    raise Closed("it hangs up at once")


def _tcp(record: Record) -> Way:
    """One attempt; raises EOFError where it hangs up, and Closed, Over."""
    host = "127.0.0.1" if record.scheduler == schedulers.local.NAME else record.node
    with contextlib.ExitStack() as stack:
        try:
            address = (host, record.ssh_port)
            connection = socket.create_connection(address, timeout=TCP_TIMEOUT)
            stack.callback(connection.close)
            _prove(connection, record)
            banner = _banner(connection, timeout=_BANNER_TIMEOUT)
        except ConnectionResetError as error:
            raise EOFError from error
        except (OSError, UnicodeError) as error:
            raise Closed(str(getattr(error, "strerror", None) or error)) from error
        stack.pop_all()
        return Way(connection, banner)


def _prove(connection: socket.socket, record: Record) -> None:
    """By its first line the endpoint shows that it is this session's, and we that we may come."""
    greeting = handshake.read_line(connection, timeout=TCP_TIMEOUT)
    if greeting == handshake.greeting(record.nonce):
        if record.knock:
            connection.sendall(handshake.knock(record.knock))
    elif greeting:
        raise Over(f"{record.node}:{record.ssh_port} belongs to another program now")


def others(
    record: Record, directory: Path, *, silent: bool
) -> Iterator[tuple[str, list[str], float]]:
    """Name, command and timeout of each further way; `silent`: the port did not even refuse.

    Then the node may be dead, or behind a firewall. Port 22 tells: a dead node is not waited for.
    All of them run ~/.jlab/connect (in `directory`) on the node, which connects to the endpoint
    there: nothing is run that lies on the node. Raises Closed where that is of another version.
    """
    if (directory / "connect").read_text("utf-8", "replace") != home.connect_script():
        raise Closed("~/.jlab/connect is of another version: type `jlab-node setup` there")
    scheduler = schedulers.TABLE[record.scheduler]
    enter = ["bash", "~/.jlab/connect", shlex.quote(f"--inside={record.id}")]
    step = scheduler.step(record.job_id, record.node, enter)
    if step:
        name = next(word for word in step if "=" not in word and word != "env")
        dead = silent and not _says_something(record.node)
        yield name, step, _STEP_TIMEOUT_DEAD if dead else _STEP_TIMEOUT
    options = ["-T", "-oBatchMode=yes", f"-oConnectTimeout={_SSH_CONNECT_TIMEOUT}"]
    options += ["-oClearAllForwardings=yes", "-oForwardX11=no", "-oForwardAgent=no"]
    yield "ssh", ["ssh", *options, "--", record.node, *enter], _SSH_TIMEOUT


def _says_something(node: str) -> bool:
    """Whether the node's port for ssh answers at all, be it that it is closed."""
    try:
        socket.create_connection((node, 22), timeout=_SSH_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except (OSError, UnicodeError):
        return False
    return True


def through(command: list[str], *, timeout: float) -> Way:
    """The stdin and stdout of a command that ends up in `sshd -i` on the node."""
    ours, theirs = socket.socketpair()
    # A file, so that what the command says much later blocks nobody.
    with _scratch_file() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=errors.fileno(),
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},  # what it says is read
            )
        except OSError as error:
            ours.close()
            raise Closed(f"{command[0]}: {error.strerror}") from error
        finally:
            theirs.close()
        try:
            return Way(ours, _banner(ours, timeout=timeout))
        except (OSError, EOFError) as error:
            gave_up = not isinstance(error, EOFError)
            said = _said(errors) if gave_up else ""  # not what it says of being ended
            ours.close()
            _end(process, at_once=gave_up)
            said = said if gave_up else _said(errors)
            _explain(process.returncode, said, str(error))


def _scratch_file() -> IO[bytes]:
    """On a full disk it forgets all: then only the reason of a failure is lost."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "w+b")  # noqa: PTH123


def _said(errors: IO[bytes]) -> str:
    """What a command has written there so far; its own place in the file stays where it is."""
    return os.pread(errors.fileno(), _LONGEST_NOISE, 0).decode("utf-8", errors="replace")


def _banner(connection: socket.socket, *, timeout: float) -> bytes:
    """The line by which sshd begins; sites' scripts may print lines before it.

    Raises EOFError where the command has ended, and OSError, also with a reason that is given.
    """
    deadline = time.monotonic() + timeout
    noise = 0
    why = None
    while noise < _LONGEST_NOISE:
        line = handshake.read_line(connection, timeout=deadline - time.monotonic())
        if line.startswith(b"SSH-"):
            return line
        if not line:
            raise ConnectionError(why[1].decode()) if why else EOFError("it ended at once")
        why = _SENTENCE.fullmatch(line)
        noise += len(line)
    raise ConnectionError("it printed too much")


def _explain(code: int | None, said: str, otherwise: str) -> NoReturn:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if code == UNAVAILABLE:
        raise Over("its jlab-node has ended")
    raise Closed(lines[-1].rstrip(".") if lines else otherwise)


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Let it end by itself, for its exit code; make it end if it does not.

    `at_once`: with all that it has started, whether it has ended itself or not.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if number == signal.SIGKILL or not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.5)
                return
        try:
            os.killpg(process.pid, number)
        except PermissionError:  # oarsh is root's by now; it ends when it notices that we are gone
            return
        except ProcessLookupError:
            continue
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
