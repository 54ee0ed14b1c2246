"""A scheduler asked by a session, in a process that ends with the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FAILED, JlabError
from ..schedulers.base import CommandResult

if TYPE_CHECKING:
    from .child_processes import Children

_TIMEOUT = 60.0  # seconds for the scheduler to answer


async def ask(children: Children, command: list[str]) -> CommandResult:
    """Return the scheduler's answer. No answer, or no such command here, is a failure as well."""
    try:
        return CommandResult(*await children.output(command, timeout=_TIMEOUT))
    except JlabError:
        return CommandResult(FAILED, "")
