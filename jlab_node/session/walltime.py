"""The end of the job: warn in its log before it comes, and follow when the scheduler moves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING

from .. import schedulers
from ..errors import JlabError
from ..jobs import messages
from . import job_log, session_scheduler_client
from .registration import HOME_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from typing import Callable

    from ..registry.own_record import OwnRecord
    from ..registry.record import Record
    from ..schedulers.base import CommandResult
    from .child_processes import Children
    from .io_thread import IoThread

WARNINGS = (30 * 60, 10 * 60, 5 * 60)  # seconds before the end
_REFRESH = 600.0  # seconds between two questions where the end is; it can be moved


@contextlib.contextmanager
def followed(publication: OwnRecord, children: Children, home_io: IoThread) -> Iterator[None]:
    """Warn before the job's end, and publish a new end when the scheduler moves it."""
    record = publication.record
    if record.scheduler == schedulers.local.NAME:
        yield
        return

    async def ask(command: list[str]) -> CommandResult:
        return await session_scheduler_client.ask(children, command)

    async def moved(ends_at: int) -> bool:
        amend = functools.partial(publication.update, ends_at=ends_at)
        try:
            await home_io.run(amend, timeout=HOME_TIMEOUT)
        except (JlabError, asyncio.TimeoutError):  # a full disk: the old end stands, and is wrong
            return False
        return True

    following = asyncio.ensure_future(follow(record, ask=ask, moved=moved, log=job_log.log))
    try:
        yield
    finally:
        following.cancel()


async def follow(
    record: Record,
    *,
    ask: Callable[[list[str]], Awaitable[CommandResult]],
    moved: Callable[[int], Awaitable[bool]],
    log: Callable[[str], None],
) -> None:
    """Log the warnings that fall due, and tell `moved` of each new end, until cancelled.

    Where that fails, `moved` is told again the next time.
    """
    scheduler = schedulers.TABLE[record.scheduler]
    ends_at = known = record.ends_at
    while ends_at is not None:
        left = ends_at - time.time()
        due = max((each for each in WARNINGS if each < left), default=0)
        pause = left - due if left > 0 else _REFRESH  # some sites let a job outlive its end
        await asyncio.sleep(max(min(pause, _REFRESH), 1.0))
        found = scheduler.parse_job_status(
            record.job_id, await ask(scheduler.job_status_commands(record.job_id)[0])
        )
        ends_at = (found and found.ends_at) or ends_at
        if ends_at != known and await moved(ends_at):
            known = ends_at
        if due and ends_at - time.time() <= due:
            log(warning(record, ends_at, now=time.time()))


def warning(record: Record, ends_at: int, *, now: float) -> str:
    """Say what the job log says when the end is near; `ends_at` and `now` are in Unix seconds."""
    scheduler = schedulers.TABLE[record.scheduler]
    minutes = round((ends_at - now) / 60)
    extend = scheduler.extend_command(record.job_id)
    how = f"; for an hour more, type on the login node: {extend}" if extend else ""
    when = messages.clock(ends_at, now=now)
    title = scheduler.DISPLAY_NAME
    return f"{title} ends this job in {minutes} minutes, at {when}: save your work{how}"
