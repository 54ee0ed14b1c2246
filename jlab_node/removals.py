"""Waits until something is removed from a directory, or the directory itself: by inotify(7)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_DELETED, _DELETED_ITSELF, _MOVED_ITSELF = 0x200, 0x400, 0x800
_AGAIN = 0.1  # seconds, while there is no such directory
_ENOUGH = 65536  # bytes of events at once


class Removals:
    """Of one directory, whatever lies at that path. Where nothing can tell, only time passes."""

    def __init__(self, path: Path) -> None:
        self._path = os.fsencode(path)
        self._libc = ctypes.CDLL(None)
        start = getattr(self._libc, "inotify_init1", None)
        self._descriptor = start(os.O_NONBLOCK | os.O_CLOEXEC) if start else -1

    async def wait(self, *, timeout: float) -> None:
        """Until something is removed, or for `timeout` seconds."""
        if self._descriptor < 0:
            await asyncio.sleep(timeout)
            return
        # Again each time: another directory may be there by now.
        events = _DELETED | _DELETED_ITSELF | _MOVED_ITSELF
        watched = self._libc.inotify_add_watch(self._descriptor, self._path, events) >= 0
        loop, removed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, removed.set)
        try:
            await asyncio.wait_for(removed.wait(), timeout if watched else min(timeout, _AGAIN))
        except asyncio.TimeoutError:
            pass
        finally:
            loop.remove_reader(self._descriptor)
            with contextlib.suppress(OSError):
                os.read(self._descriptor, _ENOUGH)

    def close(self) -> None:
        """Wait no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
