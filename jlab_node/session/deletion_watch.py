"""Waits until something is removed from a directory, or that itself: by inotify(7)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

from .time_limit import within

if TYPE_CHECKING:
    from pathlib import Path

_DELETED, _DELETED_ITSELF, _MOVED_ITSELF = 0x200, 0x400, 0x800
_RETRY_INTERVAL = 0.1  # seconds, while there is no such directory
_BUFFER_SIZE = 65536  # bytes of events at once


class DeletionWatch:
    """Of some directories, whatever lies at the paths. Where nothing can tell, only time passes."""

    def __init__(self, *paths: Path) -> None:
        self._paths = [os.fsencode(path) for path in paths]
        self._is_watched = False
        self._libc = ctypes.CDLL(None)
        start = getattr(self._libc, "inotify_init1", None)
        self._descriptor = start(os.O_NONBLOCK | os.O_CLOEXEC) if start else -1

    def watch(self) -> None:
        """Begin with what is there now: what is removed from it from now on ends a `wait`."""
        events = _DELETED | _DELETED_ITSELF | _MOVED_ITSELF
        if self._descriptor >= 0:
            add = self._libc.inotify_add_watch
            watches = [add(self._descriptor, path, events) for path in self._paths]
            self._is_watched = min(watches) >= 0

    async def wait(self, *, timeout: float) -> None:
        """Wait until something is removed, or for `timeout` seconds."""
        if self._descriptor < 0:
            await asyncio.sleep(timeout)
            return
        if not self._is_watched:
            timeout = min(timeout, _RETRY_INTERVAL)
        loop, removed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, removed.set)
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(timeout, removed.wait())
        finally:
            loop.remove_reader(self._descriptor)
            with contextlib.suppress(OSError):
                os.read(self._descriptor, _BUFFER_SIZE)

    def close(self) -> None:
        """Wait no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
