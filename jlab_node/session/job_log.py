"""The job log: what a session says of itself, which nothing that befalls the log may stop."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING

from .io_thread import IoThread

if TYPE_CHECKING:
    import concurrent.futures

_TIMEOUT = 2.0  # seconds for the last lines

_io = IoThread()  # it may be in a home that does not answer


def log(text: str) -> None:
    """Write one line to the job log, when it takes it; return at once."""
    _io.submit(functools.partial(_write, text))


def _write(text: str) -> None:
    if sys.stderr is None:  # and descriptor 2 may be anything
        return
    # Not through Python's buffer: whoever holds its lock for ever lets no interpreter end.
    with contextlib.suppress(OSError):  # a full disk or a closed terminal ends no session
        os.write(2, f"jlab-node: {text}\n".encode(errors="backslashreplace"))


def write_raw(descriptor: int, said: bytes) -> concurrent.futures.Future[None]:
    """Write what others have said, as it is; return a future that is done when the log has it."""
    return _io.submit(functools.partial(_write_raw, descriptor, said))


def _write_raw(descriptor: int, said: bytes) -> None:
    with contextlib.suppress(OSError):
        while said:
            said = said[os.write(descriptor, said) :]


def flush() -> None:
    """Let the last lines get to the log, if they do so soon: this is the end."""
    _io.flush(timeout=_TIMEOUT)
