"""The record of the session that runs in this process, from when it is published to its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import records, tombstones

if TYPE_CHECKING:
    from pathlib import Path

    from .record import Record


class OwnRecord:
    """The record of a session that runs here: nobody else changes it, and only through this."""

    def __init__(self, directory: Path, record: Record) -> None:
        self.directory = directory
        self._stored = records.publish(directory, record)
        self._mtime = records.mtime_ns(self._stored.path) / 1e9
        self._is_over = False

    @property
    def record(self) -> Record:
        """The record as it was published last."""
        return self._stored.record

    def update(self, **changes: Any) -> None:
        """Publish these new values. The session is no newer for that. Raises JlabError."""
        if self._is_over or records.is_replaced(self._stored):
            return
        record = replace(self.record, **changes)
        self._stored = records.publish(self.directory, record, mtime=self._mtime)

    def remove(self, *, job_lives_on: bool) -> None:
        """Remove the record, for good; `job_lives_on`: and let nobody wait for that job."""
        self._is_over = True
        if job_lives_on:
            tombstones.mark_ended(self._stored)
        records.remove(self._stored)  # also where no tombstone could be made
