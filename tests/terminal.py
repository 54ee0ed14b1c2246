"""A command on a terminal, as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

from loopback import wait_until


class Terminal:
    """It, from its start to its end."""

    def __init__(self, command: list[str]) -> None:
        self.text = ""
        self._pid, self._descriptor = pty.fork()
        if not self._pid:
            os.execvp(command[0], command)

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("4H", rows, columns, 0, 0)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def read_until(self, pattern: str, *, seconds: float = 60) -> str:
        """What it has shown once that matches; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {pattern!r} within {seconds:.0f} s in {self.text!r}")
            if not self._read():
                assert re.search(pattern, self.text), f"no {pattern!r} in {self.text!r}"
        return self.text

    def _read(self) -> bool:
        if not select.select([self._descriptor], [], [], 0.2)[0]:
            return True
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            data = os.read(self._descriptor, 65536)
            self.text += data.decode(errors="replace")
            return bool(data)
        return False

    def wait(self, *, seconds: float = 60) -> int:
        """Its exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read()
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                while select.select([self._descriptor], [], [], 0)[0] and self._read():
                    pass  # its last words
                self._close()
                return os.waitstatus_to_exitcode(status)
        raise TimeoutError(f"it has not ended: {self.text!r}")

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1  # its number may be another's soon
        with contextlib.suppress(OSError):
            os.close(descriptor)

    def end(self) -> None:
        """Close the window: what runs there hears a hang-up."""
        self._close()
        with contextlib.suppress(ChildProcessError, TimeoutError):
            wait_until(lambda: os.waitpid(self._pid, os.WNOHANG)[0], "it ends", seconds=20)
