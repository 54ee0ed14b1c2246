"""One session of a name in a job, whoever starts how many at once: claims in ~/.jlab/sessions.

    .claim-1-slurm-12-lab    the record of the session to be, from its start to its end

A claim is made by a hard link, which only one of many can make, on every file system: nothing
here trusts a lock. A killed session leaves its claim. Who finds that it has ended makes the next
one, `.claim-2-...`, and has the id unless there is a claim by then that was not there before.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from .. import process_id
from ..errors import JlabError
from ..files import private, writing
from ..registry.clock_tolerance import RESTART
from ..registry.record import Record, parse, render
from ..runtime import handshake
from ..schedulers import local
from . import job_of_record

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from .liveness import JobSnapshot

_NAME = re.compile(r"\.claim-([0-9]{1,9})-(.+)", re.DOTALL)
_STARTING_PERIOD = 600.0  # seconds in which a session without a port to ask may be about to start
_PROBE_TIMEOUT = 3.0  # seconds for one that can be asked
_WRITE_TIMEOUT = 10.0  # seconds after which nobody is still writing a claim
_ATTEMPTS, _POLL = 100, 0.1  # of seconds: until a claim that was made just now can be read


class Claim:
    """A session's right to its id: the record that it has begun with."""

    def __init__(self, path: Path, record: Record) -> None:
        self.path = path
        self.record = record

    def update(self, record: Record) -> None:
        """Let others know where they can ask whether the session lives."""
        with contextlib.suppress(OSError, JlabError):
            if _is_of(self.path, self.record.token):
                writing.write_atomically(self.path, render(record))

    def release(self) -> None:
        """Let another session have the id."""
        with contextlib.suppress(OSError):
            if _is_of(self.path, self.record.token):
                self.path.unlink()


def take(directory: Path, draft: Record, *, nodes: Container[str] = ()) -> Claim:
    """Claim the id of a session that is about to start; raises JlabError if the job has it.

    The claim's record has an id of its own if the plain one is that of a job with the same number
    on another machine or cluster which has this home. `nodes`: those of the job, if known.
    """
    try:
        for suffix in _suffixes(draft):
            claim = _take(directory, replace(draft, id_suffix=suffix), nodes)
            if claim:
                return claim
    except OSError as error:
        raise JlabError(f"cannot write in {directory}: {error.strerror}") from error
    raise JlabError(f"{directory} has too many sessions with the number {draft.job_id}")


def _suffixes(draft: Record) -> Iterator[str]:
    yield ""
    where = draft.node.partition(".")[0] if draft.scheduler == local.NAME else draft.cluster
    plain = re.sub(r"[^A-Za-z0-9.]", "_", where or draft.node)[:24]
    yield from (f"{plain}.{secrets.token_hex(2)}" for _ in range(10))


def _take(directory: Path, draft: Record, nodes: Container[str]) -> Claim | None:
    """Return the claim, or None if the id is that of a job elsewhere. Raises JlabError, OSError."""
    for _ in range(_ATTEMPTS):
        number = max(_numbers(directory, draft.id), default=0)
        ended = set()
        for path in (directory / draft.id, _path(directory, number, draft.id)):
            rival = _read(path)
            if rival is None:
                continue
            if _is_elsewhere(rival, draft, nodes):
                return None
            if _is_alive(rival, draft, path):
                raise _already_runs(rival.node, draft)
            ended.add(rival.token)
        claim = Claim(_path(directory, number + 1, draft.id), draft)
        if writing.create_exclusively(claim.path, render(draft)):
            others = [_path(directory, each, draft.id) for each in _numbers(directory, draft.id)]
            others.remove(claim.path)
            if all(_is_stale(each, ended) for each in others):
                for each in others:
                    each.unlink(missing_ok=True)
                return claim
            claim.release()  # we were slow: somebody has begun since we looked
        time.sleep(random.uniform(0, 2 * _POLL))  # noqa: S311
    raise _already_runs(draft.node, draft)


def _is_stale(path: Path, ended: Container[str]) -> bool:
    """Return whether a claim is of a session that is known to have ended, or of none."""
    found = _read(path)
    if found is not None:
        return found.token in ended
    try:
        return writing.age(path) > _WRITE_TIMEOUT
    except FileNotFoundError:
        return True


def refuse_nested(directory: Path, draft: Record) -> None:
    """Refuse a session in a terminal of one of its name, where each is a job of its own."""
    family = {process_id.identity(each.pid) for each in psutil.Process().parents()}
    for _, claim in _all(directory):
        if claim.process in family and (claim.scheduler, claim.name) == (local.NAME, draft.name):
            raise JlabError(
                f"session {draft.name} runs here already, and you are inside it",
                remedy="start a second one with --name NAME",
            )


def remove(directory: Path, record: Record) -> None:
    """Remove the claims of a session that is over, as its record tells."""
    for path, claim in _all(directory):
        if claim.token == record.token:
            with contextlib.suppress(OSError):
                path.unlink()


def prune(directory: Path, snapshots: Sequence[JobSnapshot]) -> None:
    """Remove the claims of sessions that have surely ended, and could not do so themselves."""
    for path, claim in _all(directory):
        if process_id.is_alive(claim.process) is False or any(
            each.job_has_ended(claim) for each in snapshots
        ):
            with contextlib.suppress(OSError):
                path.unlink()


def _already_runs(node: str, draft: Record) -> JlabError:
    return JlabError(
        f"session {draft.name} of this job runs on {node} already",
        remedy="start a second one with --name NAME",
    )


def _is_elsewhere(rival: Record, draft: Record, nodes: Container[str]) -> bool:
    """Return whether a claim is of a job of this number on another machine or cluster."""
    if draft.scheduler != local.NAME:
        known = bool(nodes) and rival.node not in nodes
        return known or not rival.is_of(draft.scheduler, draft.cluster)
    if rival.process and draft.process:
        return process_id.namespace_of(rival.process) != process_id.namespace_of(draft.process)
    return rival.node != draft.node


def _is_alive(rival: Record, draft: Record, path: Path) -> bool:
    """Return whether the session of this job has not ended; where nobody can tell, it has not."""
    lives = process_id.is_alive(rival.process)
    if lives is not None:
        return lives
    if draft.scheduler == local.NAME:
        return False  # of an older version, and its number is ours
    if rival.ssh_port is not None:
        lives = handshake.is_session_at(
            rival.node, rival.ssh_port, rival.nonce, timeout=_PROBE_TIMEOUT
        )
    elif not rival.process:
        lives = False
    elif writing.age(path) > _STARTING_PERIOD and not _is_of(path.parent / rival.id, rival.token):
        lives = False  # it never came so far as to be published
    if lives is None:
        began = draft.job_started or job_of_record.times(draft)[0]
        lives = not (rival.job_started and began and began - rival.job_started > RESTART)
    return lives


def _path(directory: Path, number: int, session_id: str) -> Path:
    return directory / f".claim-{number}-{session_id}"


def _numbers(directory: Path, session_id: str) -> list[int]:
    found = map(_NAME.fullmatch, os.listdir(directory))  # noqa: PTH208
    return [int(each[1]) for each in found if each and each[2] == session_id]


def _all(directory: Path) -> Iterator[tuple[Path, Record]]:
    for path in directory.glob(".claim-*"):
        claim = _read(path)
        if claim:
            yield path, claim


def _read(path: Path) -> Record | None:
    with contextlib.suppress(OSError, ValueError, JlabError):
        return parse(private.read_own(path))
    return None


def _is_of(path: Path, token: str) -> bool:
    found = _read(path)
    return found is not None and found.token == token
