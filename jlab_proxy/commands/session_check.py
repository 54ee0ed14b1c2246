"""Whether the session behind the local port is the one that ssh was started for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .. import messages
from ..errors import JlabError
from . import url
from .session_state import TIMEOUT

if TYPE_CHECKING:
    from ..cluster.client import ClusterClient
    from ..cluster.responses import Session, Standing
    from ..forwarding.local_ports import LocalForward
    from ..forwarding.ways import Way
    from ..target import Target


class WrongSession(Exception):  # noqa: N818
    """The session behind the port is not the one that is wanted; the text says why."""


class SessionCheck:
    """Knows which session is the newest, as the cluster said before ssh was started."""

    def __init__(self, cluster: ClusterClient, target: Target) -> None:
        self._cluster = cluster
        self._target = target
        self._newest = ""  # the session's id

    def expect(self, standing: Standing) -> None:
        """Note that the next ssh leads to this session, unless a newer one starts meanwhile."""
        self._newest = standing.session.id if standing.session else self._newest

    def verify(self, way: Way, forward: LocalForward) -> tuple[Session, str]:
        """Return the session behind the port, and the address at which it takes its token.

        Raises JlabError if it does not answer yet, and WrongSession if ssh has to start again.
        """
        sessions = self._target.sessions
        if not way.is_ours:
            return url.behind(self._cluster, forward, sessions, way.login_status)
        batch = self._cluster.share or not sys.stdin.isatty()
        how: dict[str, Any] = {"batch": batch, "timeout": TIMEOUT if batch else None}
        session, address = url.ask(self._cluster, way.port, ["--unchecked", *sessions], **how)
        # Its path may be a stranger's on the node at which this ssh is.
        if session.id != self._newest:
            self._newest = session.id
            raise WrongSession(messages.newest_has_changed())
        if not way.forward_to(session.socket_dir or forward.directory):
            raise JlabError("ssh does not forward yet")
        status = way.login_status(address)
        if status in (401, 403):
            raise WrongSession(messages.newest_has_changed())
        if status != 200:
            raise JlabError("JupyterLab does not answer yet")
        return session, address
