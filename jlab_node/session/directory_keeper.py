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
from ..runtime import user_directory
from .job_log import say
from .removals import Removals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable

    from ..runtime.session_directory import SessionDirectory

PERIOD = 1.0  # seconds between two looks
_AGAIN = 0.1  # seconds: somebody may just be removing it
REFRESH = 3600.0  # seconds; whoever removes what is old takes a day at least for old


class Keeper:
    """Looks after one session's directory. Called when it is lost, and found: `lost`, `found`."""

    def __init__(self, place: SessionDirectory) -> None:
        self.lost: list[Callable[[], None]] = []
        self.found: list[Callable[[], None]] = []
        self.place = place
        self._one_at_a_time = asyncio.Lock()
        self._is_lost = False
        self._told = ""

    async def look(self) -> bool:
        """Make anew what is gone; raises JlabError while the place is not ours alone.

        False: some of it is still missing.
        """
        async with self._one_at_a_time:
            try:
                is_whole = self.place.is_whole()
                if not is_whole:
                    await self._make_anew()
                    is_whole = self.place.is_whole()
            except JlabError as error:
                self._lose(error)
                raise
            if self._is_lost:
                self._is_lost, self._told = False, ""
                say(f"{self.place.base} is yours again")
                for call in self.found:
                    call()
            return is_whole

    def _lose(self, error: JlabError) -> None:
        self._tell(
            f"{error}. So nobody gets into this session by ssh, and JupyterLab stands still, until "
            "that is yours again"
        )
        if not self._is_lost:
            self._is_lost = True
            for call in self.lost:
                call()

    async def _make_anew(self) -> None:
        """As far as that can be done: a full disk, say, is no danger."""
        place = self.place
        ran = place.path.exists()
        try:
            await asyncio.to_thread(self._make_directories)
            for listener in [*place.listeners]:
                await listener.begin()
            await asyncio.to_thread(place.take_links)
        except (OSError, JlabError) as error:
            self._tell(f"{place.base} has been cleaned up, and cannot be made anew: {error}")
            return
        kernels = "" if ran else "; restart the kernels that a page cannot reach any more"
        say(f"{place.base} has been cleaned up by somebody; it is made anew{kernels}")

    def _make_directories(self) -> None:
        user_directory.make(self.place.base)
        with user_directory.locked(self.place.base):
            self.place.make_anew()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            say(text)

    async def keep(self, *, period: float = PERIOD, refresh: float = REFRESH) -> None:
        """Until cancelled: look, at once when something is removed, and refresh what ages."""
        refreshed, is_whole = time.monotonic(), True
        with contextlib.closing(Removals(self.place.base, self.place.path)) as removals:
            while True:
                removals.watch()  # before the look: a moment between the two would be missed
                with contextlib.suppress(JlabError):
                    is_whole = await self.look()
                    self.place.shorten_logs()
                    if time.monotonic() - refreshed >= refresh:
                        await asyncio.to_thread(renew, self.place)
                        refreshed = time.monotonic()
                await removals.wait(timeout=period if is_whole else min(period, _AGAIN))


def renew(place: SessionDirectory) -> None:
    """Let all that belongs to the session look as if it had just been used."""
    now = time.time_ns()
    for path in (place.base, *place.base.glob("*"), place.path, *_all_in(place.path)):
        with contextlib.suppress(OSError):
            # The newest of several sessions is told by when its socket was made.
            modified = path.lstat().st_mtime_ns if path.suffix == ".sock" else now
            os.utime(path, ns=(now, modified), follow_symlinks=False)


def _all_in(directory: Path) -> Iterator[Path]:
    for root, directories, names in os.walk(directory):
        for name in (*directories, *names):
            yield directory.joinpath(root, name)
