"""`jlab-node connect`, the slow path of ~/.jlab/connect: wait, explain, or find another way.

It speaks on stderr alone. Once it has a connection to the session it becomes the relay, so that no
Python stays behind.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from .. import schedulers
from ..errors import UNAVAILABLE, JlabError
from ..jobs import claims, messages, scheduler_client, submission
from ..jobs.pending import Upcoming
from ..registry import home, records
from ..registry.records import Published, Unreadable
from ..runtime import session_lookup, user_directory
from ..schedulers.base import State
from ..terminal import Screen
from . import routes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..registry.record import Record
    from ..schedulers.base import Status

_POLL = 0.3  # seconds between two looks at the records
_EAGER = 10.0  # seconds of waiting in which the scheduler is asked often
_SELDOM, _OFTEN = 15.0, 2.0  # seconds between two questions to the scheduler
_UNTIL_LISTED = 20.0  # seconds for a new job to be listed
_MOST_TOLD = 3  # records that are no use
_RELAY_DESCRIPTOR = 3


@dataclass(frozen=True)
class Wish:
    """What the laptop asks for."""

    session: str | None  # None: the newest
    columns: int | None  # of the laptop's terminal; None: it has none
    may_submit: bool  # if the user has opted in
    tried: str | None  # the file of a record whose node did not even refuse
    words: Sequence[str]  # as they came: the relay announces the session by them


class Connection:
    """One attempt to get into a session, from the first look to the relay."""

    def __init__(self, wish: Wish, *, env: Mapping[str, str], user: str) -> None:
        self.wish = wish
        self._user = user
        self._began = time.monotonic()
        self.screen = Screen(wish.columns)
        self.screen.status("looking for your session", waited=0, passing=True)
        self.home = home.find()
        self.site = scheduler_client.site()
        self._shelf = records.Shelf(self.home.sessions)
        self._base = user_directory.base_path(env, user)
        self._upcoming = Upcoming(self.home, self.site, user=user, wanted=wish.session)
        self._tried: set[str] = set()  # the tokens of records that led nowhere
        self._an_end_was_told = False  # how a session ended that was to be connected to
        self._unreachable: list[str] = []  # sessions that run, but cannot be reached
        self._elsewhere: list[str] = []  # sessions of another cluster that has this home
        self._awaited: Status | None = None  # the job that was waited for last
        self._submitted_at: float | None = None

    def establish(self) -> NoReturn:
        """Become the connection; raises JlabError when there is nothing to wait for."""
        while True:
            # Asked in this order, a session that becomes ready in between is not missed.
            starting = self._starting_here()
            jobs_ahead = self._jobs_ahead()
            led_nowhere = len(self._tried)
            self._try_each()
            if len(self._tried) > led_nowhere:
                continue  # which took time, and removed records
            if starting or jobs_ahead or self._upcoming.problem or self._is_to_be_listed():
                self._awaited = jobs_ahead[0] if jobs_ahead else self._awaited
                self._tell(starting, jobs_ahead)
            elif self._upcoming.is_known:
                self._submit_or_give_up()
                continue
            if laptop_is_gone():
                raise JlabError("the laptop has ended the connection", code=UNAVAILABLE)
            time.sleep(_POLL)

    def _is_to_be_listed(self) -> bool:
        """Whether a job was submitted just now: some schedulers take a moment to list it."""
        return (
            self._submitted_at is not None and time.monotonic() - self._submitted_at < _UNTIL_LISTED
        )

    def _starting_here(self) -> list[str]:
        found = session_lookup.starting(self._base)
        return [each for each in found if self._is_wanted(each.split("-", 2)[-1])]

    def _is_wanted(self, name: str) -> bool:
        return self.wish.session in (None, name)

    def _jobs_ahead(self) -> list[Status]:
        """The jobs that will be a session, the one that is nearest to it first."""
        waited = time.monotonic() - self._began
        return self._upcoming.jobs(max_age=_OFTEN if waited < _EAGER else _SELDOM)

    def _try_each(self) -> None:
        """Connect to the first session that can be reached, or say why each could not."""
        for each in self._untried():
            self._try(each)

    def _untried(self) -> Iterator[Published]:
        """The newest first; no more are read than are taken.

        How one session ended is told; of the other ones that are over, how many there are.
        """
        cleared = 0
        for each in self._readable():
            if each.record.token in self._tried:
                continue
            self._tried.add(each.record.token)
            if self._an_end_was_told and self._upcoming.is_over(each.record):
                cleared += records.withdraw(each)
                continue
            if cleared:
                self.screen.say(messages.cleared(cleared))
                cleared = 0
            yield each
        if cleared:
            self.screen.say(messages.cleared(cleared))

    def _readable(self) -> Iterator[Published]:
        """What is wanted; says which records are no use."""
        unreadable = 0
        for each in self._shelf.look(name=self.wish.session):
            if isinstance(each, Published):
                yield each
                continue
            unreadable += 1
            if unreadable <= _MOST_TOLD:
                file = records.printable(each.path)
                self.screen.say(f"the record {file} is no use: {each.why}")
        more = unreadable - _MOST_TOLD
        if more > 0:
            self.screen.say(f"so {'is' if more == 1 else 'are'} {more} more")

    def _other_names(self) -> list[str]:
        """The sessions that there are, and are not wanted."""
        if self.wish.session is None:
            return []
        published, _ = records.read_all(self.home.sessions)
        living = scheduler_client.living(published, self._user)
        return sorted({each.record.name for each in living} - {self.wish.session})

    def _try(self, published: Published) -> None:
        """Connect to this session and do not return, or say why not."""
        record = published.record
        if not scheduler_client.can_tell(record):
            self._elsewhere.append(messages.elsewhere(record))
            return
        try:
            if record.ssh_port is None:
                _refuse_if_over(record)
                raise routes.Closed("there is no sshd to let you in")
            self._climb(published)
        except routes.Over as over:
            self._is_over(published, str(over))
        except routes.Closed as closed:
            self._unreachable.append(f"session {record.name} runs on {record.node}, but {closed}")

    def _climb(self, published: Published) -> None:
        """Every way in turn; raises Over or Closed."""
        record = published.record
        silent = published.path.name == self.wish.tried
        failures = []
        if silent:
            failures.append(f"TCP to port {record.ssh_port}: no answer")
        else:
            try:
                self._go(published, routes.tcp(record))
            except routes.Closed as closed:
                failures.append(f"TCP to port {record.ssh_port}: {closed}")
        _refuse_if_over(record)
        if record.scheduler == schedulers.local.NAME:
            raise routes.Closed(f"it does not answer ({failures[0]})")
        for name, command, timeout in routes.others(record, self.home.path, silent=silent):
            self.screen.status(
                f"session {record.name} on {record.node}: trying {name} ({failures[-1]})",
                waited=time.monotonic() - self._began,
                passing=True,
            )
            try:
                self._go(published, routes.through(command, timeout=timeout))
            except routes.Closed as closed:
                why = str(closed).removeprefix(f"{name}: ")  # most programs say their name as well
                failures.append(f"{name}: {why}")
            except routes.Over as over:
                if name != "ssh":
                    raise routes.Over(messages.death(record.scheduler, record.job_id)) from None
                # From outside of the job, its /tmp and its processes may look like none.
                failures.append(f"{name}: {over}, as far as can be seen from outside of the job")
        _refuse_if_over(record)  # by now
        raise routes.Closed(messages.no_way(failures))

    def _go(self, published: Published, way: routes.Way) -> NoReturn:
        """Hand over to the relay."""
        self.screen.clear()
        sys.stdout.buffer.write(way.first_line)
        sys.stdout.buffer.flush()
        way.connection.settimeout(None)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and so would the relay
        os.dup2(way.connection.fileno(), _RELAY_DESCRIPTOR)
        os.set_inheritable(_RELAY_DESCRIPTOR, True)  # dup2 does not see to it if they are the same
        script = str(self.home.path / "connect")
        relay = f"--relay={published.path.name}"
        os.execvp("bash", ["bash", script, *self.wish.words, relay])  # noqa: S606

    def _is_over(self, published: Published, how: str) -> None:
        """Say so, and leave nothing behind that others would run into."""
        record = published.record
        status = scheduler_client.of(record)
        lives_on = status is not None and status.state is State.RUNNING
        # By its node's clock one only guesses that the job was started again: then it stays, for
        # the job's new session to replace, and is passed over.
        guessed = scheduler_client.is_anew(record, status) and not record.job_started
        if lives_on and not guessed:
            records.bury(published)
        elif not lives_on:
            records.withdraw(published)
        if not guessed:
            claims.forget(self.home.sessions, record)
        over = scheduler_client.has_ended(status)  # of a job that lives on, that is the planned end
        if over:
            self._upcoming.forget(record.job_id)
        submission.note_end(self.home, at=status.ends_at if status and over else None)
        removed = "" if guessed else "; its record is removed"
        self.screen.say(f"session {record.name} is over: {how}{removed}")
        self._an_end_was_told = True
        if self._awaited and self._awaited.job_id == record.job_id:
            self._awaited = None  # not in vain

    def _submit_or_give_up(self) -> None:
        """Nothing runs and nothing waits."""
        self.screen.clear()
        if self._unreachable:
            raise JlabError("\n".join(self._unreachable), code=UNAVAILABLE)
        if self.site and self._awaited:
            found = (
                scheduler_client.look(self.site.scheduler, self._awaited.job_id) or self._awaited
            )
            if not self._upcoming.has_session(found):
                raise JlabError(messages.in_vain(found), code=UNAVAILABLE)
        command = submission.command(self.home, self.wish.session) if self.wish.may_submit else ""
        if self.site is None or not command:
            text = self._upcoming.nothing(names=self._other_names())
            raise JlabError("\n".join([*self._elsewhere, text]), code=UNAVAILABLE)
        self.screen.say(
            submission.submit(
                self.home,
                command,
                self.site.scheduler,
                by_a_person=self.wish.columns is not None,
                is_needed=self._is_needed,
            )
        )
        self._submitted_at = time.monotonic()
        self._upcoming.jobs(max_age=0)

    def _is_needed(self) -> bool:
        """Whether there still is neither a job nor a session; raises JlabError."""
        if self._upcoming.jobs(max_age=0):
            return False
        if self._upcoming.problem:
            raise JlabError(f"nothing is submitted: {self._upcoming.problem}", code=UNAVAILABLE)
        return all(
            isinstance(each, Unreadable) or each.record.token in self._tried
            for each in self._shelf.look(name=self.wish.session)
        )

    def _tell(self, starting: list[str], ahead: list[Status]) -> None:
        for line in "\n".join(self._unreachable).splitlines():
            self.screen.say(line)
        if ahead:
            text = messages.waiting(ahead, now=time.time())
        elif starting:
            text = messages.starting(starting[0], host=socket.gethostname())
        elif self._upcoming.problem:
            text = f"{self._upcoming.problem}; asking again"
        else:
            text = "a job was submitted; it is not listed yet"
        self.screen.status(text, waited=time.monotonic() - self._began)


def _refuse_if_over(record: Record) -> None:
    """Raises Over if the scheduler says that the record's job is, and Closed if it stands still."""
    status = scheduler_client.of(record)
    if status is None:
        return
    if status.state is not State.RUNNING:
        raise routes.Over(messages.end(record.scheduler, record.job_id, status))
    if scheduler_client.is_anew(record, status):
        raise routes.Over(messages.restart(record.scheduler, record.job_id))
    if status.why:
        raise routes.Closed(f"{messages.job(record.scheduler, record.job_id)} {status.why}")


def laptop_is_gone(descriptors: Sequence[int] = (0, 1)) -> bool:
    """Whether nobody holds the other ends of stdin and stdout any more; reads no byte."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
