"""How it stands with a session, asked of a cluster that may be away for a while."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from ..cluster import responses
from ..cluster.client import NoConnectionError
from ..errors import JlabError

if TYPE_CHECKING:
    from ..cluster.client import Login
    from ..cluster.responses import Session, Standing
    from ..target import Target
    from ..ui.terminal import Screen

TIMEOUT = 15.0  # seconds for the login node to answer
_LONGEST_TIMEOUT = 90.0
_LONGEST_PAUSE = 15.0  # seconds between two attempts
_BOOT = 600.0  # seconds that a login node may take to be itself again


class Asking:
    """Asks one cluster, and tells the person once that it is away."""

    def __init__(self, login: Login, target: Target, screen: Screen) -> None:
        self._login, self._target, self._screen = login, target, screen
        self.is_away = False  # the login node, as a person was told

    def standing(self, session: Session | None, **how: Any) -> Standing:
        """As `jlab-node status` says; of that session also after its end. Raises JlabError."""
        words = self._target.sessions + ([f"--after={session.id}"] if session else [])
        return responses.parse_standing(self._login.ask("status", *words, **how))

    def until_answered(self, session: Session | None) -> Standing:
        """How it stands with it, as soon as the cluster can be asked; raises JlabError."""
        began, pause, timeout, asks = time.monotonic(), 1.0, TIMEOUT, False
        while True:
            self._screen.status("the connection is lost; looking what has happened ...")
            try:
                return self.standing(session, batch=not asks, timeout=None if asks else timeout)
            except NoConnectionError as error:
                self._say_away(error)
                # The shared connection may be one of before the network went.
                self._login.leave_shared()
                asks = "Permission denied" in str(error) and sys.stdin.isatty()
            except JlabError as error:
                # A login node that has just been booted may lack its homes, and more.
                if session is None or time.monotonic() - began > _BOOT:
                    raise
                self._say_away(error)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            timeout = min(timeout * 2, _LONGEST_TIMEOUT)  # a scheduler may take its time

    def _say_away(self, error: JlabError) -> None:
        if not self.is_away:
            self._screen.say(f"{error}; trying again until it is back, or Ctrl-C")
        self.is_away = True
