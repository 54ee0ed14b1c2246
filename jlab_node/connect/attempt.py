"""`jlab-node connect`, the slow path of ~/.jlab/connect: wait, explain, or find another way.

It speaks on stderr alone. Once it has a connection to the session it becomes the relay, so that no
Python stays behind.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from ..errors import UNAVAILABLE, JlabError
from ..jobs import job_of_record, messages
from ..registry import home, records
from ..registry.records import StoredRecord
from ..runtime import runtime_directory, session_lookup
from ..terminal import Screen
from . import candidates, ended_sessions, try_routes
from .client import client_disconnected
from .job_watch import JobWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..registry.record import Record
    from ..schedulers.base import Status
    from .request import ConnectRequest
    from .routes import OpenRoute

LOOK_INTERVAL = 0.3  # seconds between two looks at the records
_MAX_REPORTED = 3  # invalid records
_RELAY_DESCRIPTOR = 3


class ConnectAttempt:
    """One attempt to get into a session, from the first look at the records to the relay."""

    def __init__(self, request: ConnectRequest, *, env: Mapping[str, str], user: str) -> None:
        self._request = request
        self._began = time.monotonic()
        self._screen = Screen(request.columns, tagged=request.tagged)
        self._show("looking for your session")
        self._home = home.open_state_dir()
        self._watch = JobWatch(self._home, request, user=user)
        self._records = records.RecordCache(self._home.sessions)
        self._runtime_dir = runtime_directory.locate(env, user)
        self._tried: set[str] = set()  # the tokens of records that led nowhere
        self._an_end_was_told = False  # how a session ended that was to be connected to
        self._unreachable: list[str] = []  # sessions that run, but cannot be reached
        self._elsewhere: list[str] = []  # sessions of another cluster that has this home

    def run(self) -> NoReturn:
        """Become the connection; raises JlabError when there is nothing to wait for."""
        while True:
            # Asked in this order, a session that becomes ready in between is not missed.
            starting = session_lookup.starting(self._runtime_dir, name=self._request.session)
            pending = self._watch.pending(waited=self._waited())
            found = self._records.records(name=self._request.session)
            tried_before = len(self._tried)
            for batch in candidates.batches(found, tried=self._tried, has_ended=self._is_cleared):
                _report_invalid(self._screen, batch)
                self._remove_ended(batch.ended)
                if batch.candidate:
                    outcome = self._connect_to(batch.candidate)
                    if isinstance(outcome, try_routes.Connected):
                        self._screen.clear()
                        become_relay(outcome.route, self._relay_command(batch.candidate))
                    self._note(batch.candidate, outcome)
            if len(self._tried) == tried_before:  # else it took time, and removed records
                self._wait_or_submit(starting, pending)

    def _is_cleared(self, record: Record) -> bool:
        """Return whether a record is removed untried: only once the end of one session is told."""
        return self._an_end_was_told and self._watch.has_ended(record)

    def _remove_ended(self, ended: Sequence[StoredRecord]) -> None:
        """Remove the records of sessions that have ended beside the one whose end was told."""
        self._tried |= {each.record.token for each in ended}
        removed = ended_sessions.remove(ended)
        if removed:
            self._screen.say(messages.records_removed(removed))

    def _connect_to(self, published: StoredRecord) -> try_routes.Outcome:
        self._tried.add(published.record.token)
        return try_routes.connect_to(
            published.record,
            self._home.path,
            unresponsive=published.path.name == self._request.unresponsive_record,
            show=self._show,
        )

    def _note(self, published: StoredRecord, outcome: try_routes.Outcome) -> None:
        """Keep, or say, why the session of a record could not be connected to."""
        record = published.record
        if isinstance(outcome, try_routes.Elsewhere):
            self._elsewhere.append(outcome.text)
        elif isinstance(outcome, try_routes.Unreachable):
            where = f"session {record.name} runs on {record.node}"
            self._unreachable.append(f"{where}, but {outcome.why}")
        elif isinstance(outcome, try_routes.Ended):
            self._clear_ended(published, outcome.how)

    def _clear_ended(self, published: StoredRecord, how: str) -> None:
        """Leave nothing behind that others would run into, and say how the session ended."""
        record = published.record
        status = job_of_record.job_status_of(record)
        is_removed = ended_sessions.clear(self._home, published, status)
        self._watch.start_cooldown(record, status)
        removed = "; its record is removed" if is_removed else ""
        self._screen.say(f"session {record.name} is over: {how}{removed}")
        self._an_end_was_told = True

    def _wait_or_submit(self, starting: Sequence[str], pending: Sequence[Status]) -> None:
        """Wait a moment if a session may come, or submit a job; raises JlabError if none will."""
        waiting = self._watch.wait_for(pending, starting)
        if waiting:
            for line in "\n".join(self._unreachable).splitlines():
                self._screen.say(line)
            self._screen.status(waiting, waited=self._waited())
        elif self._watch.is_fresh:
            self._screen.clear()
            if self._unreachable:
                raise JlabError("\n".join(self._unreachable), exit_code=UNAVAILABLE)
            done = self._watch.submit(has_session=self._has_untried, elsewhere=self._elsewhere)
            self._screen.say(done)
            return
        if client_disconnected():
            raise JlabError("the laptop has ended the connection", exit_code=UNAVAILABLE)
        time.sleep(LOOK_INTERVAL)

    def _has_untried(self) -> bool:
        """Return whether a session has been published that was not tried."""
        return any(
            isinstance(each, StoredRecord) and each.record.token not in self._tried
            for each in self._records.records(name=self._request.session)
        )

    def _relay_command(self, published: StoredRecord) -> list[str]:
        script = str(self._home.path / "connect")
        return ["bash", script, *self._request.arguments, f"--relay={published.path.name}"]

    def _waited(self) -> float:
        """Return the seconds since the attempt began."""
        return time.monotonic() - self._began

    def _show(self, text: str) -> None:
        """Show what is done just now, on a terminal only."""
        self._screen.status(text, waited=self._waited(), transient=True)


def _report_invalid(screen: Screen, batch: candidates.Batch) -> None:
    """Say which records are no use; of many, how many there are once all are read."""
    for invalid in batch.invalid[:_MAX_REPORTED]:
        name = records.shown_name(invalid.path)
        screen.say(f"the record {name} is no use: {invalid.reason}")
    more = len(batch.invalid) - _MAX_REPORTED
    if more > 0 and not batch.candidate:
        one = "1 more record is no use"
        screen.say(one if more == 1 else f"{more} more records are no use")


def become_relay(route: OpenRoute, command: list[str]) -> NoReturn:
    """Pass on what the session's sshd has said, and let `command` carry the rest of it."""
    sys.stdout.buffer.write(route.first_line)
    sys.stdout.buffer.flush()
    route.connection.settimeout(None)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and so would the relay
    os.dup2(route.connection.fileno(), _RELAY_DESCRIPTOR)
    os.set_inheritable(_RELAY_DESCRIPTOR, True)  # dup2 does not see to it if they are the same
    os.execvp(command[0], command)  # noqa: S606
