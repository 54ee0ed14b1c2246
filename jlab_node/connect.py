"""`jlab-node connect`, the slow path of ~/.jlab/connect: wait, explain, or find another way.

It speaks on stderr alone. Once it has a connection to the session it becomes the relay, so that no
Python stays behind.
"""

from __future__ import annotations

import glob
import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from . import expected, home, jobs, ladder, schedulers, sessions, sockets, submit, wording
from .errors import UNAVAILABLE, JlabError
from .queue import Queue
from .schedulers.job import State
from .screen import Screen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .schedulers.job import Status
    from .sessions import Published

_POLL = 0.3  # seconds between two looks at the records
_EAGER = 10.0  # seconds of waiting in which the scheduler is asked often
_SELDOM, _OFTEN = 15.0, 2.0  # seconds between two questions to the scheduler
_STOP_TIMEOUT = 25.0  # seconds: JupyterLab alone has 15
_RELAY_DESCRIPTOR = 3


@dataclass(frozen=True)
class Wish:
    """What the laptop asks for."""

    session: str | None = None  # None: the newest
    columns: int | None = None  # of the laptop's terminal; None: it has none
    tried: str | None = None  # the file of a record whose node did not even refuse
    words: Sequence[str] = ()  # as they came: the relay announces the session by them


class Connection:
    """One attempt to get into a session, from the first look to the relay."""

    def __init__(self, wish: Wish, *, env: Mapping[str, str], user: str) -> None:
        self.wish = wish
        self.screen = Screen(wish.columns)
        self.home = home.locate()
        self.site = jobs.site()
        self._base = sockets.base_path(env, user)
        self._queue = (
            Queue(self.site.scheduler, user=user, directory=self.home.path / "queue")
            if self.site
            else None
        )
        self._tried: set[str] = set()  # the tokens of records that led nowhere
        self._unreachable: list[str] = []  # sessions that run, but cannot be reached
        self._elsewhere: list[str] = []  # sessions of another cluster that has this home
        self._expected: list[Status] = []  # as of the queue's last answer
        self._awaited: Status | None = None  # the job that was waited for last
        self._began, self._began_at = time.monotonic(), time.time()

    def establish(self) -> NoReturn:
        """Become the connection; raises JlabError when there is nothing to wait for."""
        home.remember_site(self.home, self.site)
        while True:
            # Asked in this order, a session that becomes ready in between is not missed.
            starting = self._starting_here()
            jobs_ahead = self._jobs_ahead()
            led_nowhere = len(self._tried)
            names = self._try_each()
            if len(self._tried) > led_nowhere:
                continue  # which took time, and removed records
            if starting or jobs_ahead or self._no_answer():
                self._awaited = jobs_ahead[0] if jobs_ahead else self._awaited
                self._tell(starting, jobs_ahead)
            elif self._knows():
                self._submit_or_give_up(names)
                continue
            if _laptop_is_gone():
                raise JlabError("the laptop has ended the connection", code=UNAVAILABLE)
            time.sleep(_POLL)

    def _starting_here(self) -> list[str]:
        found = sockets.starting(self._base)
        return [each for each in found if self._is_wanted(each.split("-", 2)[-1])]

    def _is_wanted(self, name: str) -> bool:
        return self.wish.session in (None, name)

    def _jobs_ahead(self, *, max_age: float | None = None) -> list[Status]:
        """The jobs that will be a session, the one that is nearest to it first."""
        if self._queue is None:
            return []
        waited = time.monotonic() - self._began
        if max_age is None:
            max_age = _OFTEN if waited < _EAGER else _SELDOM
        if self._queue.look(max_age=max_age):
            self._expected = [each for each in self._queue.jobs if self._is_expected(each)]
        return [
            each
            for each in self._expected
            # One that ran a moment ago may have been cancelled since.
            if (each.state is State.QUEUED or self._knows()) and not self._has_session(each.job_id)
        ]

    def _is_expected(self, status: Status) -> bool:
        if status.job_id == submit.last_job(self.home):
            return status.state is not State.ENDED
        return expected.is_expected(status, _script(status), self.wish.session, now=time.time())

    def _has_session(self, job_id: str) -> bool:
        """Whether that job has or had one: then it is a record that tells, or nothing does."""
        assert self.site is not None  # noqa: S101
        scheduler = self.site.scheduler.NAME
        return self._has_record(job_id) or sessions.is_buried(self.home.sessions, scheduler, job_id)

    def _has_record(self, job_id: str) -> bool:
        assert self.site is not None  # noqa: S101
        pattern = f"{self.site.scheduler.NAME}-{glob.escape(job_id)}-*"
        return any(self.home.sessions.glob(pattern))

    def _knows(self) -> bool:
        """Whether the scheduler has been asked since we began: what is kept may be a bit older."""
        return self._queue is None or self._queue.asked_at >= self._began_at

    def _no_answer(self) -> bool:
        return self._queue is not None and bool(self._queue.problem)

    def _try_each(self) -> list[str]:
        """Connect to the first session that can be reached, or say why each could not.

        The names of those that were not wanted.
        """
        published, unreadable = sessions.read_all(self.home.sessions)
        for broken in unreadable:
            self.screen.say(f"the record {sessions.printable(broken.path)} is no use: {broken.why}")
        others = set()
        for each in published:
            if not self._is_wanted(each.record.name):
                others.add(each.record.name)
            elif each.record.token not in self._tried:
                self._tried.add(each.record.token)
                self._try(each)
        return sorted(others)

    def _try(self, published: Published) -> None:
        """Connect to this session and do not return, or say why not."""
        record = published.record
        if not jobs.can_tell(record):
            self._elsewhere.append(wording.elsewhere(record))
            return
        try:
            if record.ssh_port is None:
                raise ladder.Closed("there is no sshd to let you in")
            self._climb(published)
        except ladder.Over as over:
            self._is_over(published, str(over))
        except ladder.Closed as closed:
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
                self._go(published, ladder.tcp(record))
            except ladder.Closed as closed:
                failures.append(f"TCP to port {record.ssh_port}: {closed}")
        status = jobs.of(record)
        if status is not None and status.state is not State.RUNNING:
            raise ladder.Over(wording.end(record, status))
        if record.scheduler == schedulers.local.NAME:
            raise ladder.Closed(f"it does not answer ({failures[0]})")
        for name, command, timeout in ladder.others(record, silent=silent):
            self.screen.status(
                f"session {record.name} on {record.node}: trying {name} ({failures[-1]})",
                waited=time.monotonic() - self._began,
                passing=True,
            )
            try:
                self._go(published, ladder.through(command, timeout=timeout))
            except ladder.Closed as closed:
                why = str(closed).removeprefix(f"{name}: ")  # most programs say their name as well
                failures.append(f"{name}: {why}")
            except ladder.Over as over:
                if name != "ssh":
                    raise ladder.Over(wording.death(record)) from None
                # From outside of the job, its /tmp and its processes may look like none.
                failures.append(f"{name}: {over}, as far as can be seen from outside of the job")
        raise ladder.Closed(wording.no_way(failures))

    def _go(self, published: Published, way: ladder.Way) -> NoReturn:
        """Hand over to the relay."""
        self.screen.clear()
        sys.stdout.buffer.write(way.first_line)
        sys.stdout.buffer.flush()
        way.connection.settimeout(None)
        os.dup2(way.connection.fileno(), _RELAY_DESCRIPTOR)
        os.set_inheritable(_RELAY_DESCRIPTOR, True)  # dup2 does not see to it if they are the same
        script = str(self.home.path / "connect")
        relay = f"--relay={published.path.name}"
        os.execvp("bash", ["bash", script, *self.wish.words, relay])  # noqa: S606

    def _is_over(self, published: Published, how: str) -> None:
        """Say so, and leave nothing behind that others would run into."""
        record = published.record
        status = jobs.of(record)
        if status is not None and status.state is State.RUNNING:
            sessions.bury(published)
        else:
            sessions.withdraw(published)
            sessions.exhume(self.home.sessions, record.scheduler, record.job_id)
        over = jobs.has_ended(status)  # of a job that lives on, that is the planned end
        submit.note_end(self.home, at=status.ends_at if status and over else None)
        self.screen.say(f"session {record.name} is over: {how}; its record is removed")

    def _submit_or_give_up(self, names: list[str]) -> None:
        """Nothing runs and nothing waits."""
        self.screen.clear()
        if self._unreachable:
            raise JlabError("\n".join(self._unreachable), code=UNAVAILABLE)
        if self.site and self._awaited and not self._has_session(self._awaited.job_id):
            found = jobs.look(self.site.scheduler, self._awaited.job_id)
            raise JlabError(wording.in_vain(found or self._awaited), code=UNAVAILABLE)
        if self.site is None or not submit.command(self.home, self.wish.session):
            text = wording.nothing(
                self.site,
                host=socket.gethostname(),
                wanted=self.wish.session,
                names=names,
                jobs=self._count_of_other_jobs(),
            )
            raise JlabError("\n".join([*self._elsewhere, text]), code=UNAVAILABLE)
        self.screen.say(
            submit.submit(
                self.home,
                self.wish.session,
                self.site.scheduler,
                by_a_person=self.wish.columns is not None,
                is_needed=lambda: not self._jobs_ahead(max_age=0),
            )
        )
        self._jobs_ahead(max_age=0)

    def _count_of_other_jobs(self) -> int:
        found = self._queue.jobs if self._queue else []
        return sum(not self._has_record(each.job_id) for each in found)

    def _tell(self, starting: list[str], ahead: list[Status]) -> None:
        for text in self._unreachable:
            self.screen.say(text)
        if ahead:
            text = wording.waiting(ahead, now=time.time())
        elif starting:
            text = f"session {starting[0]} runs on {socket.gethostname()}; JupyterLab is starting"
        else:
            assert self._queue is not None  # noqa: S101
            title = self._queue.scheduler.TITLE
            text = f"{title} does not answer ({self._queue.problem}); asking again"
        self.screen.status(text, waited=time.monotonic() - self._began)


def stop(published: Published) -> None:
    """End the session's job and wait until it has ended; raises JlabError."""
    record = published.record
    jobs.cancel(record)
    deadline = time.monotonic() + _STOP_TIMEOUT
    while time.monotonic() < deadline:
        if jobs.is_gone(record):
            sessions.withdraw(published)
            submit.forget_end(home.locate())
            return
        time.sleep(_POLL)
    raise JlabError(f"session {record.id} was told to stop, but still runs")


def _script(status: Status) -> str:
    """Text of the job's script, "" where it cannot be read."""
    path = expected.script_path(status)
    return jobs.read_text(path) if path else ""


def _laptop_is_gone() -> bool:
    """Whether nobody holds the other ends of stdin and stdout any more; reads no byte."""
    poll = select.poll()
    for descriptor in (0, 1):
        poll.register(descriptor, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
