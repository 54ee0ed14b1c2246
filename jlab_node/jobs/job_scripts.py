"""The texts of jobs' scripts, by which one knows what a job will start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import matching, scheduler_client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..schedulers.base import Scheduler, Status

_MAX_ASKED = 10  # jobs for whose scripts the scheduler is asked at once


class JobScripts:
    """The scripts of the jobs of one scheduler, each read once."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._texts: dict[str, str] = {}  # by the id of the job

    def read(self, jobs: Iterable[Status]) -> None:
        """Read those that are not known yet; of few jobs the scheduler is asked for them."""
        asked = 0
        for job in jobs:
            if job.job_id not in self._texts:
                may_ask = asked < _MAX_ASKED and matching.session_names(job, "") in (None, [])
                self._texts[job.job_id] = _text(job, self._scheduler if may_ask else None)
                asked += may_ask

    def text(self, job: Status) -> str:
        """Return the text of the job's script as it was read; "" where it could not be."""
        return self._texts.get(job.job_id, "")


def _text(job: Status, scheduler: Scheduler | None) -> str:
    """Return the text of the job's script, "" where it cannot be read; it may be asked for."""
    texts = map(scheduler_client.read_text, matching.script_paths(job))
    found = next((text for text in texts if text), "")
    command = [] if found or not scheduler else scheduler.script_command(job.job_id)
    if not command or not scheduler:
        return found
    return _at_path(scheduler.parse_script(scheduler_client.ask(command)))


def _at_path(text: str) -> str:
    """Return what is in the file that `text` names, or `text` itself, which is a script."""
    is_path = text.startswith("/") and "\n" not in text
    return scheduler_client.read_text(text) if is_path else text
