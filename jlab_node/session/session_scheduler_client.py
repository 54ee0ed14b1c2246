"""A scheduler asked by a session, in a process that ends with the session."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import schedulers
from ..errors import FAILED, JlabError
from ..schedulers.base import CommandResult, is_complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..schedulers.base import Scheduler, Status
    from .child_processes import Children

_ANSWER_TIMEOUT = 60.0  # seconds for the scheduler to answer


async def ask(children: Children, command: list[str]) -> CommandResult:
    """Return the scheduler's answer. No answer, or no such command here, is a failure as well."""
    try:
        env = schedulers.without_options(os.environ)
        return CommandResult(*await children.output(command, env=env, timeout=_ANSWER_TIMEOUT))
    except JlabError:
        return CommandResult(FAILED, "")


async def list_jobs(children: Children, scheduler: Scheduler, user: str) -> Sequence[Status] | None:
    """Return the user's queued and running jobs; None: the scheduler does not answer."""
    read: Sequence[Status] | None = None  # the last that could be read
    for command in scheduler.list_jobs_commands(user):
        found = scheduler.parse_job_list(await ask(children, command))
        read = read if found is None else found
        if is_complete(found):
            break
    return read
