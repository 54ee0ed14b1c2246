"""What JupyterLab and its kernels print, on its way into the job log: as it comes, up to a budget.

Other users of a node can make a kernel print (ipykernel reports what reaches its ports and is
not for it), and the job log lies in a home with a quota. And a home that does not answer must hold
up jlab-node alone. So there is a pipe in between, which is read whatever becomes of the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import stat
import threading
from typing import TYPE_CHECKING

from ..errors import PlainText
from . import job_log
from .job_log import log
from .rate_limit import TokenBucket

if TYPE_CHECKING:
    from types import TracebackType

AT_ONCE = 100 << 20  # bytes
PER_SECOND = (10 << 20) / 3600  # bytes
_RESUME_FRACTION = 0.01  # of the budget: less is not worth a beginning
_MAX_UNWRITTEN = 8 << 20  # bytes that the log has not taken yet
_LOG_TIMEOUT = 2.0  # seconds in which it has to take some of them
_CHUNK = 1 << 16  # bytes
_PIPE = 1 << 20  # bytes
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, which Python knows by name since 3.10
_TIMEOUT = 2.0  # seconds for what is still in a pipe at the end


class Output:
    """Two descriptors for children; None where they can have our own.

    A context manager, which ends after those children. `budget`: bytes at once, bytes a second.
    """

    def __init__(self, budget: tuple[float, float] = (AT_ONCE, PER_SECOND)) -> None:
        self._budget = TokenBucket(*budget)
        self._pipes: list[_Pipe] = []
        self.stdout: int | None = None
        self.stderr: int | None = None

    def __enter__(self) -> Output:
        out, error = _file(1), _file(2)
        if error is not None:
            self.stderr = self._pipe(2)
        if out is not None:
            self.stdout = self.stderr if out == error else self._pipe(1)
        return self

    def _pipe(self, target: int) -> int:
        self._pipes.append(_Pipe(target, self._budget))
        return self._pipes[-1].entrance

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for each in self._pipes:
            each.end()


def _file(descriptor: int) -> tuple[int, int] | None:
    """Return which file that is; None: one that does not grow, such as /dev/null."""
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        if not stat.S_ISCHR(found.st_mode) or os.isatty(descriptor):
            return found.st_dev, found.st_ino
    return None


class _Pipe:
    """One of them, and the thread that reads it."""

    def __init__(self, target: int, budget: TokenBucket) -> None:
        self._exit, self.entrance = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._exit, _SET_PIPE_SIZE, _PIPE)
        self._target = target
        self._plain = PlainText() if os.isatty(target) else None
        self._budget = budget
        self._written = self._taken = 0  # bytes: by us, and of these by the log
        self._progress = threading.Condition()
        self._is_stuck = False
        self._left_out: list[int] = []  # bytes, lines; [] while nothing is
        self._within_a_line = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let what has been written get to the log."""
        os.close(self.entrance)
        self._thread.join(_TIMEOUT)

    def _read(self) -> None:
        while chunk := os.read(self._exit, _CHUNK):
            if self._takes(len(chunk)):
                self._go_on()
                self._write(chunk)
            else:
                self._leave_out(chunk)
        self._go_on()
        os.close(self._exit)

    def _takes(self, length: int) -> bool:
        if not self._keeps_up():
            return False
        if self._left_out and self._budget.available < self._budget.capacity * _RESUME_FRACTION:
            return False
        return self._budget.take(length)

    def _keeps_up(self) -> bool:
        """Return whether the log takes what it is given; wait for one that is slow."""
        with self._progress:
            while self._written - self._taken > _MAX_UNWRITTEN:
                if self._is_stuck or not self._progress.wait(_LOG_TIMEOUT):
                    self._is_stuck = True
                    return False
        return True

    def _write(self, chunk: bytes) -> None:
        if self._plain:
            chunk = self._plain.of(chunk)
        self._written += len(chunk)
        self._within_a_line = not chunk.endswith(b"\n")
        written = job_log.write_raw(self._target, chunk)
        written.add_done_callback(functools.partial(self._has_taken, len(chunk)))

    def _has_taken(self, length: int, _: object) -> None:
        with self._progress:
            self._taken += length
            self._is_stuck = False
            self._progress.notify()

    def _leave_out(self, chunk: bytes) -> None:
        if not self._left_out:
            self._left_out = [0, 0]
            if self._within_a_line:
                self._write(b"\n")
            log("JupyterLab and its kernels print more than this log takes: what follows is cut")
        self._left_out[0] += len(chunk)
        self._left_out[1] += chunk.count(b"\n")

    def _go_on(self) -> None:
        if self._left_out:
            length, lines = self._left_out
            self._left_out = []
            log(f"{lines} lines of JupyterLab and its kernels ({length >> 10} KiB) were left out")
