"""Routes from the login node into a session, in the order of trying: TCP, a step in the job, ssh.

All end at the same `sshd -i`, so host key and environment are the same whichever is used. A route
that works leaves an open socket; one that does not says why.
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
_TCP_ATTEMPTS = 3
_STEP_TIMEOUT = 15.0  # seconds; a scheduler that is busy takes its time
_STEP_TIMEOUT_DEAD = 3.0  # when nothing on the node answers
_SSH_TIMEOUT = 5.0
_SSH_CONNECT_TIMEOUT = 1  # seconds; login and compute nodes are neighbours
_MAX_NOISE_BYTES = 16 * 1024
_REASON_LINE = re.compile(rb"jlab-node: ([ -~]+)\r?\n")  # by which the endpoint says why not


class RouteUnavailable(Exception):  # noqa: N818
    """This route does not lead to the session; the text says why."""


class SessionEnded(Exception):  # noqa: N818
    """The session has ended; the text says how one knows."""


@dataclass(frozen=True)
class Route:
    """A command that ends up in `sshd -i` on the node."""

    name: str
    command: list[str]
    timeout: float  # seconds
    is_outside: bool = False  # it enters the node, but not the job


@dataclass(frozen=True)
class OpenRoute:
    """An open connection to the session's sshd, and what it has said already."""

    connection: socket.socket
    first_line: bytes = b""


def tcp(record: Record) -> OpenRoute:
    """Connect straight to the endpoint; raises RouteUnavailable, SessionEnded.

    Where it hangs up, as it may when there is a crowd, it is tried again.
    """
    for _ in range(_TCP_ATTEMPTS):
        with contextlib.suppress(EOFError):
            return _tcp(record)
    raise RouteUnavailable("it hangs up at once")


def _tcp(record: Record) -> OpenRoute:
    """Try once; raises EOFError where the endpoint hangs up, and RouteUnavailable, SessionEnded."""
    host = "127.0.0.1" if record.scheduler == schedulers.local.NAME else record.node
    with contextlib.ExitStack() as stack:
        try:
            address = (host, record.ssh_port)
            connection = socket.create_connection(address, timeout=TCP_TIMEOUT)
            stack.callback(connection.close)
            _authenticate_endpoint(connection, record)
            banner = _banner(connection, timeout=_BANNER_TIMEOUT)
        except ConnectionResetError as error:
            raise EOFError from error
        except (OSError, UnicodeError) as error:
            raise RouteUnavailable(str(getattr(error, "strerror", None) or error)) from error
        stack.pop_all()
        return OpenRoute(connection, banner)


def _authenticate_endpoint(connection: socket.socket, record: Record) -> None:
    """Make sure that the endpoint is this session's, and show it that we may come.

    It proves itself by its first line, and we by the record's client token. Raises SessionEnded,
    OSError.
    """
    banner = handshake.read_line(connection, timeout=TCP_TIMEOUT)
    if banner == handshake.server_banner(record.nonce):
        if record.knock:
            connection.sendall(handshake.client_token(record.knock))
    elif banner:
        raise SessionEnded(f"{record.node}:{record.ssh_port} belongs to another program now")


def fallback_routes(record: Record, state_dir: Path, *, unresponsive: bool) -> Iterator[Route]:
    """Yield each route but TCP, in the order of trying; `unresponsive`: the port did not refuse.

    Then the node may be dead, or behind a firewall. Port 22 tells: a dead node is not waited for.
    All of them run ~/.jlab/connect (in `state_dir`) on the node, which connects to the endpoint
    there: nothing is run that lies on the node. Raises RouteUnavailable where that script is of
    another version.
    """
    if (state_dir / "connect").read_text("utf-8", "replace") != home.connect_script():
        raise RouteUnavailable(
            "~/.jlab/connect is of another version: type `jlab-node setup` there"
        )
    scheduler = schedulers.TABLE[record.scheduler]
    entry_script = ["bash", "~/.jlab/connect", shlex.quote(f"--inside={record.id}")]
    step = scheduler.run_in_job(record.job_id, record.node, entry_script)
    if step:
        name = next(word for word in step if "=" not in word and word != "env")
        dead = unresponsive and not _port_answers(record.node)
        yield Route(name, step, _STEP_TIMEOUT_DEAD if dead else _STEP_TIMEOUT)
    options = ["-T", "-oBatchMode=yes", f"-oConnectTimeout={_SSH_CONNECT_TIMEOUT}"]
    options += ["-oClearAllForwardings=yes", "-oForwardX11=no", "-oForwardAgent=no"]
    command = ["ssh", *options, "--", record.node, *entry_script]
    yield Route("ssh", command, _SSH_TIMEOUT, is_outside=True)


def _port_answers(node: str) -> bool:
    """Return whether the node's port for ssh answers at all, be it that it is closed."""
    try:
        socket.create_connection((node, 22), timeout=_SSH_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except (OSError, UnicodeError):
        return False
    return True


def via_command(command: list[str], *, timeout: float) -> OpenRoute:
    """Return the stdin and stdout of a command that ends up in `sshd -i` on the node.

    `timeout`: seconds for sshd's first line. Raises RouteUnavailable, SessionEnded.
    """
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
                env={**schedulers.without_options(os.environ), "LC_ALL": "C"},  # its words are read
            )
        except OSError as error:
            ours.close()
            raise RouteUnavailable(f"{command[0]}: {error.strerror}") from error
        finally:
            theirs.close()
        try:
            return OpenRoute(ours, _banner(ours, timeout=timeout))
        except (OSError, EOFError) as error:
            gave_up = not isinstance(error, EOFError)
            said = _stderr_so_far(errors) if gave_up else ""  # not what it says of being ended
            ours.close()
            _terminate_group(process, at_once=gave_up)
            said = said if gave_up else _stderr_so_far(errors)
            _raise_for_exit(process.returncode, said, str(error))


def _scratch_file() -> IO[bytes]:
    """Return a temporary file, or on a full disk one that forgets all.

    Then only the reason of a failure is lost.
    """
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "w+b")  # noqa: PTH123


def _stderr_so_far(errors: IO[bytes]) -> str:
    """Return what a command has written to the file so far, and leave its own place there."""
    return os.pread(errors.fileno(), _MAX_NOISE_BYTES, 0).decode("utf-8", errors="replace")


def _banner(connection: socket.socket, *, timeout: float) -> bytes:
    """Return the line by which sshd begins; sites' scripts may print lines before it.

    Raises EOFError where the command has ended, and OSError, also with a reason that is given.
    """
    deadline = time.monotonic() + timeout
    noise = 0
    why = None
    while noise < _MAX_NOISE_BYTES:
        line = handshake.read_line(connection, timeout=deadline - time.monotonic())
        if line.startswith(b"SSH-"):
            return line
        if not line:
            raise ConnectionError(why[1].decode()) if why else EOFError("it ended at once")
        why = _REASON_LINE.fullmatch(line)
        noise += len(line)
    raise ConnectionError("it printed too much")


def _raise_for_exit(code: int | None, said: str, otherwise: str) -> NoReturn:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if code == UNAVAILABLE:
        raise SessionEnded("its jlab-node has ended")
    raise RouteUnavailable(lines[-1].rstrip(".") if lines else otherwise)


def _terminate_group(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
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
