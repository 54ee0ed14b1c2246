"""Keeps a session's directory through the clean-ups of its node, and away from other users.

In /tmp files are removed that nobody has used for days, or all of them (`rm -rf /tmp/*`). What is
gone is made anew. Where another user has the place by then, nothing that leads there is used any
more: no ssh connection is served, those that there are end, and JupyterLab stands still, since it
would write to and read from there; what kernels compute goes on. Once the place is ours again, so
is all the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..runtime import runtime_directory
from .deletion_watch import DeletionWatch
from .job_log import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable

    from ..runtime.session_directory import SessionDirectory

CHECK_INTERVAL = 1.0  # seconds between two looks
_RETRY_INTERVAL = 0.1  # seconds: somebody may just be removing it
TOUCH_INTERVAL = 3600.0  # seconds; whoever removes what is old takes a day at least for old


class DirectoryKeeper:
    """Looks after one session's directory. Called when it is lost, and found: `lost`, `found`."""

    def __init__(self, session_dir: SessionDirectory) -> None:
        self.on_lost: list[Callable[[], None]] = []
        self.on_restored: list[Callable[[], None]] = []
        self.session_dir = session_dir
        self._lock = asyncio.Lock()
        self._is_lost = False
        self._logged = ""

    async def check(self) -> bool:
        """Make anew what is gone; return False if some of it is still missing.

        Raises JlabError while the place is not ours alone.
        """
        async with self._lock:
            try:
                is_whole = self.session_dir.is_complete()
                if not is_whole:
                    await self._make_anew()
                    is_whole = self.session_dir.is_complete()
            except JlabError as error:
                self._note_loss(error)
                raise
            except Exception as error:  # whatever it is: what cannot be looked at is not ours
                place = self.session_dir.runtime_dir
                unknown = JlabError(f"{place} cannot be looked at: {error!r}")
                self._note_loss(unknown)
                raise unknown from error
            if self._is_lost:
                self._is_lost, self._logged = False, ""
                log(f"{self.session_dir.runtime_dir} is yours again")
                for call in self.on_restored:
                    call()
            return is_whole

    def refuse_if_lost(self) -> None:
        """Look at the place as it is now; raises JlabError where it is not ours alone."""
        if self._is_lost:
            raise JlabError(self._logged)
        runtime_directory.check(self.session_dir.runtime_dir)

    def _note_loss(self, error: JlabError) -> None:
        self._log_once(
            f"{error}. So nobody gets into this session by ssh, and JupyterLab stands still, until "
            "that is yours again"
        )
        if not self._is_lost:
            self._is_lost = True
            for call in self.on_lost:
                call()

    async def _make_anew(self) -> None:
        """Make anew what is gone, as far as that can be done: a full disk, say, is no danger."""
        session_dir = self.session_dir
        try:
            ran = session_dir.path.exists()
            await asyncio.to_thread(self._make_directories)
            for listener in [*session_dir.listeners]:
                await listener.start()
            await asyncio.to_thread(session_dir.claim_links)
        except (OSError, JlabError) as error:
            self._log_once(
                f"{session_dir.runtime_dir} has been cleaned up, and cannot be made anew: {error}"
            )
            return
        kernels = "" if ran else "; restart the kernels that a page cannot reach any more"
        log(f"{session_dir.runtime_dir} has been cleaned up by somebody; it is made anew{kernels}")

    def _make_directories(self) -> None:
        runtime_directory.make(self.session_dir.runtime_dir)
        with runtime_directory.locked(self.session_dir.runtime_dir):
            self.session_dir.restore()

    def _log_once(self, text: str) -> None:
        if text != self._logged:
            self._logged = text
            log(text)

    async def keep(
        self, *, period: float = CHECK_INTERVAL, refresh: float = TOUCH_INTERVAL
    ) -> None:
        """Look, until cancelled: at once when something is removed, and refresh what ages.

        `period` and `refresh` are in seconds.
        """
        refreshed, is_whole = time.monotonic(), True
        with contextlib.closing(
            DeletionWatch(self.session_dir.runtime_dir, self.session_dir.path)
        ) as deletions:
            while True:
                deletions.watch()  # before the look: a moment between the two would be missed
                with contextlib.suppress(JlabError, OSError):
                    is_whole = await self.check()
                    self.session_dir.shorten_logs()
                    if time.monotonic() - refreshed >= refresh:
                        await asyncio.to_thread(touch_all, self.session_dir)
                        refreshed = time.monotonic()
                await deletions.wait(timeout=period if is_whole else min(period, _RETRY_INTERVAL))
                if self._is_lost:  # whoever has the place can make as many events as they like
                    await asyncio.sleep(_RETRY_INTERVAL)


def touch_all(session_dir: SessionDirectory) -> None:
    """Let all that belongs to the session look as if it had just been used."""
    now = time.time_ns()
    for path in (
        session_dir.runtime_dir,
        *session_dir.runtime_dir.glob("*"),
        session_dir.path,
        *_all_in(session_dir.path),
    ):
        with contextlib.suppress(OSError):
            # The newest of several sessions is told by when its socket was made.
            modified = path.lstat().st_mtime_ns if path.suffix == ".sock" else now
            os.utime(path, ns=(now, modified), follow_symlinks=False)


def _all_in(directory: Path) -> Iterator[Path]:
    for root, directories, names in os.walk(directory):
        for name in (*directories, *names):
            yield directory.joinpath(root, name)
