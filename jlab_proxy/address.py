"""`jlab-proxy url`: the address of the session that is really behind a port of this computer."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from . import answers, holders, login, ports, sshconfig
from .errors import JlabError
from .forward import answers as answering
from .local_port import HOST

if TYPE_CHECKING:
    from .login import Login
    from .paths import Paths
    from .target import Target


def find(paths: Paths, target: Target) -> tuple[str, str]:
    """The address that logs a browser in, and what is to be done before it is opened ("": nothing).

    Raises JlabError where the port is somebody else's: the token is not for him.
    """
    lead = sshconfig.forwards(sshconfig.read(paths.config)).get(target.host)
    if lead is None:
        session = f" --session {target.session}" if target.session else ""
        raise JlabError(
            f"no port of this computer leads to {target.name}: "
            f"jlab-proxy setup {target.alias}{session}"
        )
    held = holders.look(lead.port)
    ours = [each for each in held.processes if holders.is_way_to(each, target.host, paths)]
    if held.by_others or len(ours) < len(held.processes):
        raise ports.taken(lead.port, target)
    cluster = login.find(paths, target.alias)
    address = _ask(cluster, lead, target.sessions)
    if held.by_nobody:
        return address, (
            f"{HOST}:{lead.port} is not open yet: keep `ssh {target.host}` running, "
            "then open this address"
        )
    return _that_answers(cluster, lead, address), ""


def _ask(cluster: Login, lead: sshconfig.Forward, sessions: list[str]) -> str:
    answer = cluster.ask("url", f"--port={lead.port}", *sessions)
    session = answers.parse_session(answer.get("session"))
    check_place(session, lead, cluster.alias)
    return answers.parse_url(answer, lead.port)


def check_place(session: answers.Session, lead: sshconfig.Forward, alias: str) -> None:
    """Raises JlabError where the forward leads to another directory than the session's own."""
    place = str(PurePosixPath(lead.socket).parent)
    if session.socket_dir not in (None, place):
        raise JlabError(
            f"session {session.name} has its sockets in {session.socket_dir}, and port {lead.port} "
            f"leads to {place}: jlab-proxy setup {alias} mends it"
        )


def _that_answers(cluster: Login, lead: sshconfig.Forward, newest: str) -> str:
    """Of all sessions there: a forward that is open stays with its own when a newer one starts."""
    status = answering(newest)
    if status == 200:
        return newest
    if status is None:
        raise JlabError(f"JupyterLab does not answer at {HOST}:{lead.port}: try again soon")
    sessions, _ = answers.parse_sessions(cluster.ask("ls"))
    for each in sessions:
        if each.socket_dir in (None, str(PurePosixPath(lead.socket).parent)):
            address = _ask(cluster, lead, [each.id])
            if answering(address) == 200:
                return address
    raise JlabError(
        f"what answers at {HOST}:{lead.port} is none of the sessions that {cluster.alias} knows: "
        f"`jlab-proxy close {cluster.alias}`, then connect again"
    )
