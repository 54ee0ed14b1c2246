"""`jlab-proxy open`: hold the way to a session's JupyterLab through all that laptops do.

The network may go, the laptop sleep, the session move to a new job. The local port stays ours, so
an open browser tab goes on. Only the end of the job, or Ctrl-C, is the end.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import messages, paths, target
from ..cluster import client
from ..errors import UNAVAILABLE, PortTakenError
from ..forwarding import local_ports, neighbours, ways
from ..forwarding.carrier import SETTLING_TIME
from ..forwarding.held_port_way import HeldPortWay
from ..open_state import StateServer
from ..ui.signals import exit_on_signals
from ..ui.terminal import Screen
from . import announcement
from .announcement import AddressDisplay
from .session_state import StatusQuery
from .tunnel_ssh import TunnelSsh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.client import ClusterClient
    from ..cluster.responses import Standing
    from ..forwarding.ways import Way
    from ..target import Target

_RIVAL_INTERVAL = 0.25  # seconds between two looks for another `open`


@dataclass(frozen=True)
class OpenOptions:
    """What `open` was told."""

    target: Target
    forward: local_ports.LocalForward
    submit: str | None = None  # the command to submit by, if there is no session
    browser: bool = True


class AlreadyOpenError(Exception):
    """Another `open` holds the port; `state` is what it says of itself."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.state = state


class Tunnel:
    """One `jlab-proxy open`, from its beginning to its end."""

    def __init__(self, cluster: ClusterClient, options: OpenOptions, screen: Screen) -> None:
        self._cluster = cluster
        self._options = options
        self._screen = screen
        self._forward = options.forward
        self._query = StatusQuery(cluster, options.target, screen)
        self._display = AddressDisplay(screen, with_browser=options.browser)
        self._ssh = TunnelSsh(cluster, options.target, screen, self._query, self._display)

    def run(self) -> int:
        """Hold the way until the job ends; return the exit code.

        Raises JlabError, AlreadyOpenError, KeyboardInterrupt.
        """
        with exit_on_signals(), self._display, contextlib.ExitStack() as stack:
            try:
                way = self._take_port(stack)
                self._submit_if_needed()
                while True:
                    self._ssh.run(way, self._forward)
                    if not way.is_ours:  # before anybody else has it
                        way = self._take_port(stack)
                    standing = self._query.wait_for_status(self._ssh.session)
                    if not standing.is_alive:
                        self._screen.say(standing.text)
                        return 0 if self._ssh.session else UNAVAILABLE
                    self._ssh.check.expect(standing)
                    if self._ssh.failures.count:
                        self._give_up_if_hopeless(standing)
                        time.sleep(self._ssh.failures.pause())
            finally:
                self._screen.clear()

    def _take_port(self, stack: contextlib.ExitStack) -> Way:
        """Return the way by the wished port, or by the next that is free if somebody has that.

        Raises JlabError, AlreadyOpenError.
        """
        paths, target = self._cluster.paths, self._options.target
        while True:
            try:
                way = ways.choose(paths, target, self._forward, settling=self._settling_time())
            except PortTakenError as error:
                self._refuse_second_open()
                self._forward = local_ports.at_next_free_port(self._forward, paths)
                self._screen.say(
                    f"{error.problem}; JupyterLab gets port {self._forward.port} instead"
                )
            else:
                break
        if isinstance(way, HeldPortWay):
            stack.enter_context(way)
            stack.enter_context(StateServer(paths, way.port, self._describe))
        return way

    def _settling_time(self) -> float:
        """Return how many seconds the port is waited for; say so if it is.

        The session's own alone: other users can keep all the next ones as well.
        """
        port = self._forward.port
        if port != self._options.forward.port:
            return 0
        if neighbours.is_resting(port):
            self._screen.status(messages.port_is_settling(port))
        return SETTLING_TIME

    def _refuse_second_open(self) -> None:
        """Raise AlreadyOpenError if an `open` which has begun a moment before us has the port."""
        for _ in range(3 if self._ssh.session is None else 0):
            other = announcement.other_open(
                self._cluster.paths, self._options.target, self._forward.port
            )
            if other:
                raise AlreadyOpenError(other)
            time.sleep(_RIVAL_INTERVAL)

    def _describe(self) -> dict[str, Any]:
        """Return what other commands are told of this `open`."""
        session = self._ssh.session
        return announcement.describe_open(
            self._options.target,
            session.describe(time.time()) if session else "",
            session.id if session else "",
            self._ssh.address,
            self._forward.exposed,
        )

    def _submit_if_needed(self) -> None:
        """Submit a job if there is none, as the user wishes. ssh may ask for a password."""
        self._screen.status(f"asking {self._cluster.alias} ...")
        standing = self._query.standing(None)
        self._ssh.check.expect(standing)
        if standing.is_alive:
            return
        sessions = self._options.target.sessions
        command = f"{self._options.submit or ''}\n"
        answer = self._cluster.call("submit", *sessions, stdin=command)
        self._screen.say(str(answer.get("text")))

    def _give_up_if_hopeless(self, standing: Standing) -> None:
        """Raise JlabError where the session is there, or will be, and ssh fails for good."""
        failures, target = self._ssh.failures, self._options.target
        if failures.are_final(is_new=self._ssh.session is None):
            raise messages.ssh_fails(
                standing.text, target.host, target.alias, last_words=failures.last_words
            )


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
        raise messages.submit_is_no_line()
    for name in exposed:
        target.check_session(name)
    forward, screen = local_ports.forward_for(files, wanted, exposed), Screen()
    other = announcement.other_open(files, wanted, forward.port)
    if not other:
        options = OpenOptions(wanted, forward, submit=submit, browser=with_browser)
        try:
            return Tunnel(client.resolve(files, wanted.alias), options, screen).run()
        except AlreadyOpenError as already:
            other = already.state
    return announcement.show_other_open(screen, other, exposed, with_browser=with_browser)
