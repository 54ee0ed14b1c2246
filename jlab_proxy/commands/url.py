"""Which session is behind a port of this computer, and the address that logs a browser in to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import messages, open_state, paths, target
from ..cluster import client, responses
from ..errors import JlabError
from ..forwarding import local_ports, port_owners, ssh_forward

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..cluster.client import ClusterClient
    from ..cluster.responses import Session
    from ..paths import Paths
    from ..target import Target


def url(where: str, *, config: str | None) -> None:
    """Print the address of the session `where`, whose port an ssh or `open` holds here.

    `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    print(find(paths.locate(config), target.parse(where)))


def find(paths: Paths, target: Target) -> str:
    """`jlab-proxy url`: the address.

    Raises JlabError where the port is somebody else's: the token is not for him. So it does where
    nobody has the port: whoever took it before the user opens the address would hear the token.
    """
    forward = _forward(paths, target)
    known = open_state.query(paths, forward.port).get("address")
    held = port_owners.listeners_on(forward.port)
    if known and held.processes and not held.by_others:
        return str(known)
    if held.by_nobody:
        raise messages.port_not_open(forward.port, target.name, target.host)
    ways = port_owners.session_ssh_at(forward.port, target.host, paths)
    if not ways:
        raise local_ports.port_taken(forward.port, target)
    cluster = client.resolve(paths, target.alias)
    _, address = behind(
        cluster,
        forward,
        target.sessions,
        lambda address: ssh_forward.login_status(address, by=ways),
    )
    if not all(port_owners.is_listening(each, forward.port) for each in ways):
        raise JlabError(f"the ssh that had port {forward.port} has ended", remedy="try again")
    return address


def _forward(paths: Paths, target: Target) -> local_ports.LocalForward:
    """That of a block of its own alone; raises JlabError."""
    forward = local_ports.forward_for(paths, target)
    if target.session and forward.port not in local_ports.ports_of_blocks(paths).values():
        raise messages.no_local_port(
            target.name, setup=f"{target.alias} --session {target.session}"
        )
    return forward


def ask(cluster: ClusterClient, port: int, sessions: list[str], **how: Any) -> tuple[Session, str]:
    """The newest of these sessions and its address at the port; raises JlabError."""
    answer = cluster.call("url", f"--port={port}", *sessions, **how)
    return responses.parse_session(answer.get("session")), responses.parse_url(answer, port)


def check_place(session: Session, forward: local_ports.LocalForward, alias: str) -> None:
    """Raises JlabError where the forward leads to another directory than the session's own."""
    if session.socket_dir not in (None, forward.directory):
        raise messages.block_leads_elsewhere(
            session.name,
            forward.port,
            alias,
            leads_to=forward.directory,
            sockets=session.socket_dir,
        )


def behind(
    cluster: ClusterClient,
    forward: local_ports.LocalForward,
    sessions: list[str],
    answers_at: Callable[[str], int | None],
) -> tuple[Session, str]:
    """The session to which the forward leads that is open at the port, and its address.

    `answers_at` tells the token to the forward alone. A forward stays with its session when a newer
    one starts. Raises JlabError.
    """
    session, address = ask(cluster, forward.port, sessions)
    check_place(session, forward, cluster.alias)
    known = responses.parse_sessions(cluster.call("ls"))[0]
    candidates = [each for each in known if not sessions or each.name in sessions]
    _refuse_other_directories(candidates, forward, cluster.alias)
    status = answers_at(address)
    if status is None:
        raise messages.jupyterlab_is_silent(forward.port)
    if status == 200:
        return session, address
    for other in known:
        if other.socket_dir in (None, forward.directory):
            session, address = ask(cluster, forward.port, [other.id])
            if answers_at(address) == 200:
                return session, address
    raise messages.port_leads_to_no_session(forward.port, cluster.alias)


def _refuse_other_directories(
    candidates: Sequence[Session], forward: local_ports.LocalForward, alias: str
) -> None:
    """Raise JlabError if an ssh to one of these sessions leads to a directory that is not its own.

    On the session's node that path may be a stranger's.
    """
    for session in candidates:
        if session.socket_dir not in (None, forward.directory):
            raise messages.ssh_may_lead_to_stranger(
                session.name,
                session.node,
                forward.port,
                alias,
                leads_to=forward.directory,
                sockets=session.socket_dir,
            )
