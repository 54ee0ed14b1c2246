"""A session in ~/.jlab/sessions: its claim to its id, and the record by which others find it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from .. import schedulers
from ..jobs import claims, submission
from ..registry.own_record import OwnRecord
from .io_thread import IoThread
from .job_log import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ..jobs.claims import Claim
    from ..registry.home import Home
    from ..registry.record import Record
    from .identity import SessionIdentity

HOME_TIMEOUT = 10.0  # seconds for a file in ~/.jlab to be written
_RELEASE_TIMEOUT = 2.0  # seconds for the last of them


@contextlib.contextmanager
def claimed(home: Home, identity: SessionIdentity) -> Iterator[Claim]:
    """Claim the session's id in the job for as long as this lasts; raises JlabError."""
    draft = identity.claim_record()
    if draft.scheduler == schedulers.local.NAME:
        claims.refuse_nested(home.sessions, draft)
    claim = claims.take(home.sessions, draft, nodes=identity.job.nodes)
    try:
        yield claim
    finally:
        # The last thing; no signal cuts it short. Else whoever comes next sees that we have ended.
        home_io = IoThread()
        home_io.submit(claim.release)
        home_io.flush(timeout=_RELEASE_TIMEOUT)


@contextlib.asynccontextmanager
async def published(home: Home, record: Record, home_io: IoThread) -> AsyncIterator[OwnRecord]:
    """Let the session be found for as long as this lasts; raises JlabError."""
    publication = OwnRecord(home.sessions, record)

    def withdraw() -> None:
        # The job may have more to do, and takes a moment to end in any case.
        publication.remove(job_lives_on=record.scheduler != schedulers.local.NAME)
        submission.start_cooldown(home)

    try:
        yield publication
    finally:
        try:
            await home_io.run(withdraw, timeout=HOME_TIMEOUT)
        except asyncio.TimeoutError:
            log(f"{home.path} does not answer: the record of this session may stay there")
