"""One ssh after another of `open`: each is waited for, verified, and watched until it ends."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from ..cluster import notices
from ..errors import JlabError, WrongDirectoryError
from . import announcement
from .reconnect import Failures
from .session_check import SessionCheck, WrongSession
from .session_state import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.client import ClusterClient
    from ..cluster.responses import Session
    from ..forwarding.local_ports import LocalForward
    from ..forwarding.ways import Connection, Way
    from ..target import Target
    from ..ui.terminal import Screen
    from .announcement import AddressDisplay
    from .session_state import StatusQuery

LOOK_INTERVAL = 0.25  # seconds between two looks at ssh
_CONNECT_INTERVAL = 0.05  # seconds, the same until it has arrived
_ANSWER_INTERVAL = 2.0  # seconds between two questions to a JupyterLab that does not answer yet
SUSPEND_THRESHOLD = 20.0  # seconds that a look takes if the laptop has slept in it
REFRESH_INTERVAL = 600.0  # seconds between two questions when the job ends: that can be moved


class TunnelSsh:
    """The ssh that leads to the session's JupyterLab, and what it has reached so far."""

    def __init__(
        self,
        cluster: ClusterClient,
        target: Target,
        screen: Screen,
        query: StatusQuery,
        display: AddressDisplay,
    ) -> None:
        self._screen = screen
        self._query = query
        self._display = display
        self.check = SessionCheck(cluster, target)
        self.failures = Failures()
        self.session: Session | None = None  # the one that was reached last
        self.address = ""  # which logs in to that

    def run(self, way: Way, forward: LocalForward) -> None:
        """Start one ssh, and stay with it until it ends."""
        began = time.monotonic()
        with way.starting() as connection:
            if not self._reach(way, forward, connection):
                self.failures.add(lasted=time.monotonic() - began)
                return
            self.failures.clear()
            self._watch(way, connection)

    def _reach(self, way: Way, forward: LocalForward, connection: Connection) -> bool:
        """Wait until JupyterLab answers; return False if this ssh does not get there."""
        began = time.monotonic()
        shown = "connecting ..."
        while not connection.has_ended:
            way.is_usable()  # or raises: nobody would be served
            waiting = self._read_notices(connection.lines())
            if waiting and waiting != shown and not self._screen.in_place:
                self._screen.say(waiting)
            shown = waiting or shown
            waited = int(time.monotonic() - began)
            self._screen.status(f"[{waited // 60}:{waited % 60:02}] {shown}")
            pause = _CONNECT_INTERVAL
            # Before that, what is there may be anybody's, and the token is not for them.
            if way.has_arrived(connection):
                try:
                    self._verify_session(way, forward)
                except WrongSession as wrong:
                    self.failures.last_words = str(wrong)
                    return False
                except WrongDirectoryError:
                    raise
                except JlabError as error:
                    shown, pause = f"{error}; asking again", _ANSWER_INTERVAL
                else:
                    return True
            time.sleep(pause)
        self._read_notices(connection.lines())
        return False

    def _read_notices(self, lines: Sequence[str]) -> str:
        """Print what is news, and return what is waited for; keep what ssh itself says."""
        waiting = ""
        for line in lines:
            kind, text = notices.parse_notice(line)
            if kind == notices.SSH:
                self.failures.last_words = text or self.failures.last_words
            elif kind == notices.WAITING:
                waiting = text
            else:
                self._screen.say(text)
        return waiting

    def _verify_session(self, way: Way, forward: LocalForward) -> None:
        """Find the session behind the port, and announce it; raises JlabError, WrongSession."""
        before = self.session, self.address
        self.session, self.address = session, address = self.check.verify(way, forward)
        way.let_through()
        if before[0] is not None and before[0].id == session.id and before[1] == address:
            if self._query.is_away:
                self._screen.say("connected again")
        else:
            self._screen.say(session.describe(time.time()))
            announcement.show_exposed(self._screen, forward.exposed, session.exposed)
            self._display.show(address)
        self._query.is_away = False

    def _watch(self, way: Way, connection: Connection) -> None:
        """Wait until ssh ends, or the laptop has slept and nobody answers any more."""
        refreshed = time.monotonic()
        then = time.time()
        while not connection.has_ended:
            if not way.is_usable():
                return
            self._read_notices(connection.lines())
            assert self.session is not None  # noqa: S101
            self._screen.status(f"{self.session.describe(time.time())}  (Ctrl-C ends the tunnel)")
            time.sleep(LOOK_INTERVAL)
            then, slept = time.time(), time.time() - then > SUSPEND_THRESHOLD
            if slept and way.login_status(self.address) is None:
                return
            self._display.remove_old_page()
            if time.monotonic() - refreshed > REFRESH_INTERVAL:
                refreshed = time.monotonic()
                self._refresh()

    def _refresh(self) -> None:
        """Ask when the job of the session ends, if the cluster can be asked."""
        with contextlib.suppress(JlabError):
            standing = self._query.standing(self.session, batch=True, timeout=TIMEOUT)
            if self.session and standing.session and standing.session.id == self.session.id:
                self.session = standing.session
