"""The one door to child processes: start them, learn of their end, stop the whole tree."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING

import psutil

from ..errors import JlabError
from . import descriptors
from .time_limit import within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# prctl(2): Linux only, and harmless to miss elsewhere.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_KILL_ROUNDS = 50
_POLL = 0.05  # seconds


class Child:
    """A started process; `ended` becomes its exit code, 128+n when signal n killed it."""

    def __init__(self, popen: subprocess.Popen[bytes], ended: asyncio.Future[int]) -> None:
        self._popen = popen
        self.ended = ended

    @property
    def pid(self) -> int:
        return self._popen.pid

    def signal(self, number: int) -> None:
        """Send a signal to it and its process group, if it has not ended."""
        if not self.ended.done():
            _signal_group(self.pid, number)

    def settle(self, wait_status: int) -> None:
        """Note the end that waitpid(2) reported."""
        code = os.waitstatus_to_exitcode(wait_status)
        self._popen.returncode = code
        if not self.ended.done():
            self.ended.set_result(code if code >= 0 else 128 - code)


class Children:
    """All child processes of this one, adopted orphans of theirs included.

    `stdout`, `stderr`: the descriptors of those for which `start` names none; None: our own.

    An async context manager: at its end every child gets SIGTERM, `grace` seconds to obey, and
    then no descendant is left alive.
    """

    def __init__(
        self, *, grace: float, stdout: int | None = None, stderr: int | None = None
    ) -> None:
        self._grace = grace
        self._stdout = stdout
        self._stderr = stderr
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._descriptors = descriptors.raise_limit()
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)
        self._known: dict[int, Child] = {}
        if self._prctl is not None:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        ignoring: Sequence[signal.Signals] = (),
    ) -> Child:
        """Start `command` in a session of its own, so that a Ctrl-C here is not one there.

        It gets SIGTERM when this process dies, however that happens. Raises JlabError.
        """
        try:
            popen = subprocess.Popen(
                command,
                env=env,
                stdin=stdin,
                stdout=self._stdout if stdout is None else stdout,
                stderr=self._stderr if stderr is None else stderr,
                start_new_session=True,
                preexec_fn=functools.partial(self._prepare, ignoring),  # noqa: PLW1509
            )
        except OSError as error:
            raise JlabError(f"cannot start {command[0]}: {error.strerror}") from error
        child = Child(popen, self._loop.create_future())
        self._known[popen.pid] = child
        return child

    async def output(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Return exit code and stdout of a command that says little; raises JlabError.

        `timeout` is in seconds.
        """
        with _scratch_file() as file:
            child = self.start(command, env=env, stdout=file.fileno(), stderr=subprocess.DEVNULL)
            try:
                code = await within(timeout, asyncio.shield(child.ended))
            except asyncio.TimeoutError:
                _signal_group(child.pid, signal.SIGKILL)
                raise JlabError(f"{command[0]} has not ended for {timeout:.0f} s") from None
            file.seek(0)
            return code, file.read().decode("utf-8", errors="replace")

    def _prepare(self, ignored: Sequence[signal.Signals]) -> None:
        """Run in the child, before it becomes the command."""
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        descriptors.lower_limit(self._descriptors)
        if self._prctl is not None:
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != self._pid:  # it died before that
                os._exit(1)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                child = self._known.pop(pid, None)
                if child is not None:
                    child.settle(status)

    async def __aenter__(self) -> Children:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            # Whole groups: a child may be a wrapper around the one that matters.
            groups = [pid for pid in self._known if _signal_group(pid, signal.SIGTERM)]
            deadline = self._loop.time() + self._grace
            while any(_signal_group(pid, 0) for pid in groups) and self._loop.time() < deadline:
                await asyncio.sleep(_POLL)
        finally:
            await self._kill_all()

    async def _kill_all(self) -> None:
        """Kill every descendant and wait until they are gone, 5 s at most.

        In rounds, since a process can fork while its family is being counted.
        """
        for _ in range(_KILL_ROUNDS):
            self._reap()
            family = psutil.Process().children(recursive=True)
            if not family:
                return
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            await asyncio.sleep(0.1)


def _scratch_file() -> IO[bytes]:
    """Return a temporary file; raises JlabError."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise JlabError(f"no temporary file can be made: {error.strerror}") from error


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group (0: none, just look); whether there is such a group."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # a set-uid program, such as OAR's: it is there, and ends by itself
        return True
    return True
