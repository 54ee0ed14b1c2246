"""How it stands with a session, asked of a cluster that may be away for a while."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from ..cluster import responses
from ..errors import JlabError, NoConnectionError
from .reconnect import MAX_PAUSE, Backoff

if TYPE_CHECKING:
    from ..cluster.client import ClusterClient
    from ..cluster.responses import Session, Standing
    from ..target import Target
    from ..ui.terminal import Screen

TIMEOUT = 15.0  # seconds for the login node to answer
_MAX_TIMEOUT = 90.0  # seconds, the same after several attempts
_FIRST_PAUSE = 1.0  # seconds between two attempts
_BOOT_PERIOD = 600.0  # seconds that a login node may take to be itself again


class StatusQuery:
    """Asks one cluster, and tells the person once that it is away."""

    def __init__(self, cluster: ClusterClient, target: Target, screen: Screen) -> None:
        self._cluster, self._target, self._screen = cluster, target, screen
        self.is_away = False  # the login node, as a person was told

    def standing(self, session: Session | None, **how: Any) -> Standing:
        """Return what `jlab-node status` says, of that session even after its end.

        Raises JlabError.
        """
        words = self._target.sessions + ([f"--after={session.id}"] if session else [])
        return responses.parse_standing(self._cluster.call("status", *words, **how))

    def wait_for_status(self, session: Session | None) -> Standing:
        """Ask until the cluster answers, and return how it stands with the session.

        Raises JlabError if it answers with an error.
        """
        began, may_ask = time.monotonic(), False
        pauses = Backoff(_FIRST_PAUSE, MAX_PAUSE)
        timeouts = Backoff(TIMEOUT, _MAX_TIMEOUT)  # a scheduler may take its time
        while True:
            alias = self._cluster.alias
            self._screen.status(f"the connection is lost; asking {alias} what has happened ...")
            timeout = timeouts.next()
            try:
                return self.standing(
                    session, batch=not may_ask, timeout=None if may_ask else timeout
                )
            except NoConnectionError as error:
                self._report_unreachable(error)
                # The shared connection may be one of before the network went.
                self._cluster.detach_master()
                may_ask = "Permission denied" in str(error) and sys.stdin.isatty()
            except JlabError as error:
                # A login node that has just been booted may lack its homes, and more.
                if session is None or time.monotonic() - began > _BOOT_PERIOD:
                    raise
                self._report_unreachable(error)
            time.sleep(pauses.next())

    def _report_unreachable(self, error: JlabError) -> None:
        if not self.is_away:
            self._screen.say(f"{error}; trying again until it is back, or Ctrl-C")
        self.is_away = True
