"""`jlab-node ls`: the sessions that run, and the jobs that will become one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import sanitize
from ..jobs import detection, messages
from ..registry import home, records
from ..schedulers import local
from .json_output import print_json, public
from .status import MAX_AGE, pending_sessions, running_sessions

if TYPE_CHECKING:
    from ..registry.records import StoredRecord
    from ..schedulers.base import Status


def ls(*, as_json: bool) -> None:
    """Print the sessions, newest first, and the jobs; raises JlabError."""
    directory = home.open_state_dir()
    _, unreadable = records.read_all(directory.sessions)
    published = running_sessions(directory, user=home.user())
    pending = pending_sessions(directory, None)
    jobs = pending.current_jobs(max_age=MAX_AGE)
    if as_json:
        # Another cluster's sessions are that one's to list; a machine's own are nobody else's.
        machines = [each for each in published.elsewhere if each.record.scheduler == local.NAME]
        found = [public(each.record) for each in (*published.here, *machines)]
        print_json({"sessions": found, "jobs": [_queued(each) for each in jobs]})
        return
    if pending.problem:
        print(f"jlab-node: {sanitize(pending.problem)}", file=sys.stderr)
    elif not published.here and not jobs:
        start = messages.how_to_start(detection.site())
        print(f"no session is running: start one with `{start}`")
    everywhere = [*published.here, *published.elsewhere]
    width = max((len(each.record.name) for each in everywhere), default=0)
    for each in everywhere:
        record = each.record
        job = f"{record.scheduler} {record.job_id}"
        note = "" if each in published.here else "  (not of this cluster, or machine)"
        print(f"{record.name:{width}}  {record.node}  {job}  {_times(each)}{note}")
    for status in jobs:
        print(sanitize(messages.waiting([status], now=time.time())))
    for broken in unreadable:
        print(
            f"jlab-node: {broken.path.parent / records.shown_name(broken.path)} is no use: "
            f"{broken.reason}",
            file=sys.stderr,
        )


def _queued(status: Status) -> dict[str, Any]:
    return {
        "job_id": status.job_id,
        "name": status.name,
        "state": status.state.value,
        "text": messages.waiting([status], now=time.time()),
        "starts_at": status.starts_at,
    }


def _times(published: StoredRecord) -> str:
    def text(when: int | None) -> str:
        return "?" if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))

    record = published.record
    ends = f", ends {text(record.ends_at)}" if record.ends_at else ""
    return f"since {text(record.started)}{ends}"
