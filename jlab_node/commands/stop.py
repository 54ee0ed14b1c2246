"""End a session and its job, or a job that would have become one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..identifiers import is_job_id
from ..jobs import claims, detection, job_of_record, messages, scheduler_client, submission
from ..registry import home, records
from .json_output import print_json
from .status import MAX_AGE, pending_sessions, running_sessions

if TYPE_CHECKING:
    from typing import Callable

    from ..registry.home import Home
    from ..registry.records import StoredRecord

_TIMEOUT = 25.0  # seconds: JupyterLab alone has 15
_POLL = 0.3


def stop(name: str, *, as_json: bool) -> None:
    """End the session NAME, or the queued job of that number, and print which; raises JlabError."""
    directory = home.open_state_dir()
    published = running_sessions(directory, user=home.user())
    site = detection.site()
    pending = pending_sessions(directory, None)
    jobs = pending.current_jobs(max_age=MAX_AGE)
    if is_job_id(name) and not any(
        name in (each.record.id, each.record.name) for each in published.here
    ):
        jobs = pending.current_jobs(max_age=0)  # it may have been submitted just now
    if site and name in [job.job_id for job in jobs]:
        scheduler_client.cancel_job(site.scheduler, name)
        _wait_until(lambda: scheduler_client.is_out_of_list(site.scheduler, name), f"job {name}")
        stopped, said = name, f"{messages.job(site.scheduler.NAME, name)} is cancelled"
    else:
        found = records.find_session([*published.here, *published.elsewhere], name)
        end_session(directory, found)
        stopped, said = found.record.id, f"session {found.record.id} is stopped"
    if as_json:
        print_json({"stopped": stopped})
    else:
        print(said)


def end_session(directory: Home, published: StoredRecord) -> None:
    """End the session's job and wait until it has ended; raises JlabError."""
    record = published.record
    job_of_record.cancel(record)
    _wait_until(lambda: job_of_record.has_left_queue(record), f"session {record.id}")
    records.remove(published)
    claims.remove(directory.sessions, record)
    submission.clear_cooldown(directory)


def _wait_until(has_ended: Callable[[], bool], what: str) -> None:
    """Return when that is so; raises JlabError: that a job is to end does not mean that it does."""
    deadline = time.monotonic() + _TIMEOUT
    while not has_ended():
        if time.monotonic() > deadline:
            raise JlabError(f"{what} was told to stop, but has not ended yet")
        time.sleep(_POLL)
