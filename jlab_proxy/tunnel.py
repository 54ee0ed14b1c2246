"""`jlab-proxy open`: hold the way to a session's JupyterLab through all that laptops do.

The network may go, the laptop sleep, the session move to a new job. The local port stays the same,
so an open browser tab goes on. Only the end of the job, or Ctrl-C, is the end.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import answers, browser, ports
from .errors import UNAVAILABLE, JlabError
from .forward import Forward
from .forward import answers as answering
from .local_port import HOST
from .login import NoConnectionError
from .signals import leaving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .answers import Session, Standing
    from .login import Login
    from .screen import Screen
    from .target import Target

_TICK = 0.25  # seconds between two looks at ssh
_PATIENCE = 2.0  # seconds between two questions to a JupyterLab that does not answer yet
_SLEPT = 20.0  # seconds that a tick takes if the laptop has slept in it
_TIMEOUT = 15.0  # seconds for the login node to answer
_LONGEST_TIMEOUT = 90.0
_LONGEST_PAUSE = 15.0  # seconds between two attempts
_BOOT = 600.0  # seconds that a login node may take to be itself again
_REFRESH = 600.0  # seconds between two questions when the job ends: that can be moved
_LONG = 60.0  # seconds
_MOST_FAILURES = 5  # in a row, while cluster and session are there
_PAGE_LIFE = 60.0  # seconds that the page for the browser is kept
_OURS = "jlab-node: "
_WAITS = (" is queued, ", "; JupyterLab is starting", "asking again")  # in lines that are no news


@dataclass(frozen=True)
class Wish:
    """What `open` was told."""

    target: Target
    port: int  # on this computer
    forwards: Sequence[str] = ()  # options of ssh, for what the config's block does not forward
    exposed: Sequence[tuple[str, int]] = ()  # names and local ports, forwarded by these options
    submit: str | None = None  # the command to submit by, if there is no session
    browser: bool = True


class _Another(Exception):  # noqa: N818
    """The session behind the port is not the one that is wanted."""


class Tunnel:
    """One `jlab-proxy open`, from its beginning to its end."""

    def __init__(self, login: Login, wish: Wish, screen: Screen) -> None:
        self._login = login
        self._wish = wish
        self._screen = screen
        self._session: Session | None = None  # the one that was reached last
        self._failures = 0  # since something was reached
        self._last_words = ""  # of ssh
        self._is_away = False  # the login node, as a person was told
        self._pages = contextlib.ExitStack()
        self._pages_since = 0.0

    def hold(self) -> int:
        """Until the job ends; the exit code. Raises JlabError, KeyboardInterrupt."""
        with leaving(), self._pages:
            try:
                self._begin()
                while True:
                    self._connect()
                    standing = self._find_out()
                    if not standing.is_alive:
                        self._screen.say(standing.text)
                        return 0 if self._session else UNAVAILABLE
                    self._pause(standing)
            finally:
                self._screen.clear()

    def _begin(self) -> None:
        """Submit a job if there is none, as the user wishes. ssh may ask for a password."""
        self._screen.status(f"asking {self._login.alias} ...")
        if self._ask_standing().is_alive:
            return
        sessions = self._wish.target.sessions
        said = self._login.ask("submit", *sessions, stdin=f"{self._wish.submit or ''}\n")
        self._screen.say(str(said.get("text")))

    def _ask_standing(self, **how: Any) -> Standing:
        words = self._wish.target.sessions + (
            [f"--after={self._session.id}"] if self._session else []
        )
        return answers.parse_standing(self._login.ask("status", *words, **how))

    def _connect(self) -> None:
        """One ssh, until it ends."""
        ports.check_free(self._wish.port, self._wish.target)
        began = time.monotonic()
        with Forward(self._login.paths, self._wish.target.host, self._wish.forwards) as forward:
            address = self._wait(forward)
            if address is None:  # one that has waited for a job was good for something
                self._failures = 1 if time.monotonic() - began > _LONG else self._failures + 1
                return
            self._failures = 0
            self._watch(forward, address)

    def _wait(self, forward: Forward) -> str | None:
        """Until JupyterLab answers: the address that logs in; None: this ssh does not get there."""
        began = time.monotonic()
        told = "connecting ..."
        while not forward.has_ended:
            said = self._tell(forward.lines())
            if said and said != told and not self._screen.in_place:
                self._screen.say(said)
            told = said or told
            waited = int(time.monotonic() - began)
            self._screen.status(f"[{waited // 60}:{waited % 60:02}] {told}")
            pause = _TICK
            # Before that, the port may be anybody's, and the token is not for them.
            if forward.listens_on(self._wish.port):
                try:
                    return self._arrived()
                except _Another as another:
                    self._last_words = str(another)
                    return None
                except JlabError as error:
                    told, pause = f"{error}; asking again", _PATIENCE
            time.sleep(pause)
        self._tell(forward.lines())
        return None

    def _tell(self, lines: Sequence[str]) -> str:
        """News is printed; how it stands is returned. What ssh itself says waits for its turn."""
        standing = ""
        for line in lines:
            if not line.startswith(_OURS):
                self._last_words = line or self._last_words
            elif any(each in line for each in _WAITS):
                standing = line[len(_OURS) :]
            else:
                self._screen.say(line[len(_OURS) :])
        return standing

    def _arrived(self) -> str:
        """Greet the session behind the port: the address that logs in.

        Raises JlabError: it does not answer yet; _Another: it is not the newest any more.
        """
        words = [f"--port={self._wish.port}", "--unchecked", *self._wish.target.sessions]
        batch = self._login.share or not sys.stdin.isatty()
        answer = self._login.ask("url", *words, batch=batch, timeout=_TIMEOUT if batch else None)
        address = answers.parse_url(answer, self._wish.port)
        session = answers.parse_session(answer.get("session"))
        status = answering(address)
        if status in (401, 403):
            raise _Another("while ssh was on its way another session has become the newest")
        if status != 200:
            raise JlabError("JupyterLab does not answer yet")
        known = self._session is not None and self._session.id == session.id
        if known and self._is_away:
            self._screen.say("connected again")
        self._session, self._is_away = session, False
        if not known:
            self._greet(session, address)
        return address

    def _greet(self, session: Session, address: str) -> None:
        self._screen.say(session.describe(time.time()))
        for name, port in self._wish.exposed:
            where = f"http://{HOST}:{port}/"
            if name not in session.exposed:
                where += f" (once you type there: jlab-node expose {name} PORT)"
            self._screen.say(f"{name} at {where}")
        print(address, flush=True)
        if not self._wish.browser or not browser.is_here():
            return
        with contextlib.suppress(OSError):  # a full disk; the address stands on the screen
            path = self._pages.enter_context(browser.page(address))
            self._pages_since = time.monotonic()
            # Some browsers are waited for until they end.
            threading.Thread(target=browser.show, args=(path,), daemon=True).start()

    def _watch(self, forward: Forward, address: str) -> None:
        """Until ssh ends, or the laptop has slept and nobody answers any more."""
        refreshed = time.monotonic()
        then = time.time()
        while not forward.has_ended:
            self._tell(forward.lines())
            assert self._session is not None  # noqa: S101
            self._screen.status(f"{self._session.describe(time.time())}  (Ctrl-C ends the tunnel)")
            time.sleep(_TICK)
            then, slept = time.time(), time.time() - then > _SLEPT
            if slept and answering(address) is None:
                return
            if time.monotonic() - self._pages_since > _PAGE_LIFE:
                self._pages.close()
            if time.monotonic() - refreshed > _REFRESH:
                refreshed = time.monotonic()
                self._refresh()

    def _refresh(self) -> None:
        with contextlib.suppress(JlabError):
            standing = self._ask_standing(batch=True, timeout=_TIMEOUT)
            if self._session and standing.session and standing.session.id == self._session.id:
                self._session = standing.session

    def _find_out(self) -> Standing:
        """How it stands with the session, as soon as the cluster can be asked."""
        began, pause, timeout, asks = time.monotonic(), 1.0, _TIMEOUT, False
        while True:
            self._screen.status("the connection is lost; looking what has happened ...")
            try:
                return self._ask_standing(batch=not asks, timeout=None if asks else timeout)
            except NoConnectionError as error:
                self._say_away(error)
                # The shared connection may be one of before the network went.
                self._login.leave_shared()
                asks = "Permission denied" in str(error) and sys.stdin.isatty()
            except JlabError as error:
                # A login node that has just been booted may lack its homes, and more.
                if self._session is None or time.monotonic() - began > _BOOT:
                    raise
                self._say_away(error)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            timeout = min(timeout * 2, _LONGEST_TIMEOUT)  # a scheduler may take its time

    def _say_away(self, error: JlabError) -> None:
        if not self._is_away:
            self._screen.say(f"{error}; trying again until it is back, or Ctrl-C")
        self._is_away = True

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
