"""`jlab-proxy open`: hold the way to a session's JupyterLab through all that laptops do.

The network may go, the laptop sleep, the session move to a new job. The local port stays ours, so
an open browser tab goes on. Only the end of the job, or Ctrl-C, is the end.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import paths, target
from ..cluster import client, notices
from ..errors import UNAVAILABLE, USAGE, JlabError
from ..forwarding import local_ports, ways
from ..open_state import Announcement
from ..ui.signals import leaving
from ..ui.terminal import Screen
from . import announcement, url
from .announcement import Greeting
from .session_state import TIMEOUT, Asking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.client import Login
    from ..cluster.responses import Session, Standing
    from ..forwarding.ways import Connection, Way
    from ..target import Target

_TICK = 0.25  # seconds between two looks at ssh
_QUICK = 0.05  # the same until it is in
_PATIENCE = 2.0  # seconds between two questions to a JupyterLab that does not answer yet
_SLEPT = 20.0  # seconds that a tick takes if the laptop has slept in it
_LONGEST_PAUSE = 15.0  # seconds between two attempts
_REFRESH = 600.0  # seconds between two questions when the job ends: that can be moved
_LONG = 60.0  # seconds
_MOST_FAILURES = 5  # in a row, while cluster and session are there


@dataclass(frozen=True)
class Wish:
    """What `open` was told."""

    target: Target
    lead: local_ports.Lead
    submit: str | None = None  # the command to submit by, if there is no session
    browser: bool = True


class AlreadyOpenError(Exception):
    """Another `open` holds the port: what it says of itself."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__()
        self.said = said


class _Another(Exception):  # noqa: N818
    """The session behind the port is not the one that is wanted."""


class Tunnel:
    """One `jlab-proxy open`, from its beginning to its end."""

    def __init__(self, login: Login, wish: Wish, screen: Screen) -> None:
        self._login = login
        self._wish = wish
        self._screen = screen
        self._lead = wish.lead
        self._session: Session | None = None  # the one that was reached last
        self._address = ""  # which logs in to that
        self._newest = ""  # the session's id, as the cluster said before ssh was started
        self._failures = 0  # since something was reached
        self._last_words = ""  # of ssh
        self._asking = Asking(login, wish.target, screen)
        self._greeting = Greeting(screen, with_browser=wish.browser)

    def hold(self) -> int:
        """Until the job ends; the exit code. Raises JlabError, KeyboardInterrupt."""
        with leaving(), self._greeting, contextlib.ExitStack() as stack:
            try:
                way = self._take_port(stack)
                self._begin()
                while True:
                    self._connect(way)
                    if not way.is_ours:  # before anybody else has it
                        way = self._take_port(stack)
                    standing = self._asking.until_answered(self._session)
                    if not standing.is_alive:
                        self._screen.say(standing.text)
                        return 0 if self._session else UNAVAILABLE
                    self._expect(standing)
                    self._pause(standing)
            finally:
                self._screen.clear()

    def _take_port(self, stack: contextlib.ExitStack) -> Way:
        """The wished one; the next that is free where somebody else has it. Raises JlabError."""
        paths, target = self._login.paths, self._wish.target
        while True:
            try:
                way = ways.choose(paths, target, self._lead)
            except local_ports.TakenError as error:
                self._look_for_another()
                self._lead = local_ports.another(self._lead, paths)
                self._screen.say(f"{error.problem}: this takes port {self._lead.port} instead")
            else:
                break
        if isinstance(way, ways.OwnWay):
            stack.enter_context(way)
            stack.enter_context(Announcement(paths, way.port, self._announced))
        return way

    def _look_for_another(self) -> None:
        """Raises AlreadyOpenError if that is an `open` which has begun a moment before us."""
        for _ in range(3 if self._session is None else 0):
            other = announcement.first(self._login.paths, self._wish.target, self._lead.port)
            if other:
                raise AlreadyOpenError(other)
            time.sleep(_TICK)

    def _announced(self) -> dict[str, Any]:
        session = self._session
        return announcement.announced(
            self._wish.target,
            session.describe(time.time()) if session else "",
            session.id if session else "",
            self._address,
            self._lead.exposed,
        )

    def _begin(self) -> None:
        """Submit a job if there is none, as the user wishes. ssh may ask for a password."""
        self._screen.status(f"asking {self._login.alias} ...")
        standing = self._asking.standing(None)
        self._expect(standing)
        if standing.is_alive:
            return
        sessions = self._wish.target.sessions
        said = self._login.ask("submit", *sessions, stdin=f"{self._wish.submit or ''}\n")
        self._screen.say(str(said.get("text")))

    def _connect(self, way: Way) -> None:
        """One ssh, until it ends."""
        began = time.monotonic()
        with way.starting() as connection:
            if not self._wait(way, connection):  # one that has waited was good for something
                self._failures = 1 if time.monotonic() - began > _LONG else self._failures + 1
                return
            self._failures = 0
            self._watch(way, connection)

    def _wait(self, way: Way, connection: Connection) -> bool:
        """Until JupyterLab answers; False: this ssh does not get there."""
        began = time.monotonic()
        told = "connecting ..."
        while not connection.has_ended:
            way.is_whole()  # or raises: nobody would be served
            said = self._tell(connection.lines())
            if said and said != told and not self._screen.in_place:
                self._screen.say(said)
            told = said or told
            waited = int(time.monotonic() - began)
            self._screen.status(f"[{waited // 60}:{waited % 60:02}] {told}")
            pause = _QUICK
            # Before that, what is there may be anybody's, and the token is not for them.
            if way.is_in(connection):
                try:
                    self._arrived(way)
                except _Another as another:
                    self._last_words = str(another)
                    return False
                except ways.WrongWayError:
                    raise
                except JlabError as error:
                    told, pause = f"{error}; asking again", _PATIENCE
                else:
                    return True
            time.sleep(pause)
        self._tell(connection.lines())
        return False

    def _tell(self, lines: Sequence[str]) -> str:
        """News is printed; how it stands is returned. What ssh itself says waits for its turn."""
        standing = ""
        for line in lines:
            kind, text = notices.parse_notice(line)
            if kind == notices.SSH:
                self._last_words = text or self._last_words
            elif kind == notices.WAITING:
                standing = text
            else:
                self._screen.say(text)
        return standing

    def _arrived(self, way: Way) -> None:
        """Find the session behind the port, and greet it.

        Raises JlabError: it does not answer yet; _Another: it is not the newest any more.
        """
        session, address = self._behind(way)
        before = self._session, self._address
        self._session, self._address = session, address
        way.let_through()
        if before[0] is not None and before[0].id == session.id and before[1] == address:
            if self._asking.is_away:
                self._screen.say("connected again")
        else:
            self._screen.say(session.describe(time.time()))
            announcement.tell_exposed(self._screen, self._lead.exposed, session.exposed)
            self._greeting.show(address)
        self._asking.is_away = False

    def _behind(self, way: Way) -> tuple[Session, str]:
        """The session, and the address at which it answers to its token; raises as above."""
        batch = self._login.share or not sys.stdin.isatty()
        how: dict[str, Any] = {"batch": batch, "timeout": TIMEOUT if batch else None}
        if not way.is_ours:
            sessions = self._wish.target.sessions
            return url.behind(self._login, self._lead, sessions, way.answers)
        words = ["--unchecked", *self._wish.target.sessions]
        session, found = url.ask(self._login, way.port, words, **how)
        # Its path may be a stranger's on the node at which this ssh is.
        if session.id != self._newest:
            self._newest = session.id
            raise _Another("another session has become the newest, so ssh starts again")
        if not way.lead(session.socket_dir or self._lead.directory):
            raise JlabError("ssh does not forward yet")
        status = way.answers(found)
        if status in (401, 403):
            raise _Another("while ssh was on its way another session has become the newest")
        if status != 200:
            raise JlabError("JupyterLab does not answer yet")
        return session, found

    def _expect(self, standing: Standing) -> None:
        """The next ssh will get there, unless a newer session starts meanwhile."""
        self._newest = standing.session.id if standing.session else self._newest

    def _watch(self, way: Way, connection: Connection) -> None:
        """Until ssh ends, or the laptop has slept and nobody answers any more."""
        refreshed = time.monotonic()
        then = time.time()
        while not connection.has_ended:
            if not way.is_whole():
                return
            self._tell(connection.lines())
            assert self._session is not None  # noqa: S101
            self._screen.status(f"{self._session.describe(time.time())}  (Ctrl-C ends the tunnel)")
            time.sleep(_TICK)
            then, slept = time.time(), time.time() - then > _SLEPT
            if slept and way.answers(self._address) is None:
                return
            self._greeting.forget_page()
            if time.monotonic() - refreshed > _REFRESH:
                refreshed = time.monotonic()
                self._refresh()

    def _refresh(self) -> None:
        with contextlib.suppress(JlabError):
            standing = self._asking.standing(self._session, batch=True, timeout=TIMEOUT)
            if self._session and standing.session and standing.session.id == self._session.id:
                self._session = standing.session

    def _pause(self, standing: Standing) -> None:
        """The session is there, or will be, and ssh has failed: not for ever."""
        if not self._failures:
            return
        new = self._session is None
        if _is_final(self._last_words) or (new and self._failures >= _MOST_FAILURES):
            raise JlabError(
                f"{standing.text}, but ssh {self._wish.target.host} fails: {self._last_words}; "
                f"`jlab-proxy doctor {self._wish.target.alias}` looks for the reason"
            )
        time.sleep(min(2.0**self._failures, _LONGEST_PAUSE))


def _is_final(words: str) -> bool:
    """Whether ssh says something that another attempt does not change."""
    final = ("Host key verification failed", "Permission denied", "forwarding", "Bad configuration")
    return any(each in words for each in final)


def run(
    where: str,
    *,
    submit: str | None,
    exposed: Sequence[str],
    with_browser: bool,
    config: str | None,
) -> int:
    """Open JupyterLab of the session `where` and hold the way to it; the exit code.

    `submit`: a command for the cluster, if there is no job. `exposed`: names to forward as well.
    `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    files, wanted = paths.locate(config), target.parse(where)
    if submit is not None and not submit.isprintable():
        raise JlabError("--submit takes one command line", exit_code=USAGE)
    for name in exposed:
        target.check_session(name)
    lead, screen = local_ports.lead(files, wanted, exposed), Screen()
    other = announcement.first(files, wanted, lead.port)
    if not other:
        wish = Wish(wanted, lead, submit=submit, browser=with_browser)
        try:
            return Tunnel(client.find(files, wanted.alias), wish, screen).hold()
        except AlreadyOpenError as already:
            other = already.said
    return announcement.join(screen, other, exposed, with_browser=with_browser)
