"""Programs whose output is kept up to a bound: what a cluster sends may have no end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, Callable

MAX_OUTPUT = 4_000_000  # bytes of an answer
MAX_MESSAGES = 100_000  # bytes of messages
_POLL_INTERVAL = 0.1  # seconds between two looks at a program that does not close its output
_GRACE = 1.0  # seconds for what has been written by its end
_END_TIMEOUT = 5.0  # seconds to end, once told


class Running:
    """A program that runs; a context manager that ends it.

    `messages`: its stderr is kept as well, else it goes where ours goes. `group`: what it has
    started ends with it. `prepare` is called in the child before the program starts.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        stdin: bytes = b"",
        messages: bool = True,
        group: bool = False,
        env: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._group = group and os.name == "posix"
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if messages else None,
            env=env,
            start_new_session=self._group,
            preexec_fn=prepare if os.name == "posix" else None,  # noqa: PLW1509
        )
        self._out = _BoundedReader(self._process.stdout, MAX_OUTPUT)
        self._errors = _BoundedReader(self._process.stderr, MAX_MESSAGES)
        if self._process.stdin:
            with contextlib.suppress(OSError), self._process.stdin as stream:
                stream.write(stdin)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_TIMEOUT)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.stop()
        self._errors.stop()

    def _send_signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if self._group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int | None:
        """Return its exit code; None if it has not ended in so many seconds, or prints too much."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._out.ended.wait(_POLL_INTERVAL):
            # An old ssh that stays as a master keeps its pipes open.
            if self.has_ended:
                self._out.ended.wait(_GRACE)
                break
            if deadline is not None and time.monotonic() > deadline:
                return None
        if self.has_too_much_output:
            return None
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(left)
            self._errors.ended.wait(_GRACE)
            return code
        return None

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def has_too_much_output(self) -> bool:
        return self._out.is_full

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out.text

    @property
    def stderr(self) -> str:
        """What it has complained of so far, or the beginning of that."""
        return self._errors.text


class _BoundedReader:
    """The beginning of what comes through a pipe, which is read to its end."""

    def __init__(self, stream: IO[bytes] | None, most: int) -> None:
        self._most = most
        self._bytes = bytearray()
        self.is_full = False
        self._is_reading = True
        self.ended = threading.Event()  # also as soon as it is full
        if stream is None:
            self.ended.set()
        else:
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError), stream:
            while self._is_reading and (piece := os.read(stream.fileno(), 1 << 16)):
                self._bytes += piece[: self._most - len(self._bytes)]
                if len(self._bytes) == self._most:
                    self.is_full = True
                    self.ended.set()
        self.ended.set()

    def stop(self) -> None:
        """Read no more: the system tells whoever goes on writing, who ends then."""
        self._is_reading = False

    @property
    def text(self) -> str:
        return bytes(self._bytes).decode("utf-8", errors="replace")
