"""The way by ssh into a session: an sshd for each connection, behind a port of the node."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import JlabError
from ..job_log import log
from . import listener as endpoint
from . import pseudo_terminals, sshd
from .session_sshd import SessionSshd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ...registry.home import Home
    from ...runtime.session_directory import SessionDirectory
    from ..child_processes import Child, Children
    from ..directory_keeper import DirectoryKeeper


@dataclass(frozen=True)
class SshAccess:
    """Where ssh connections are accepted, and what both sides say first."""

    port: int
    nonce: str
    client_token: str

    def in_record(self) -> dict[str, Any]:
        """Return the values by which a record says so."""
        return {"ssh_port": self.port, "nonce": self.nonce, "knock": self.client_token}


def session_sshd(
    wanted: str | None,
    *,
    user: str,
    env: Mapping[str, str],
    home: Home,
    session_dir: SessionDirectory,
) -> SessionSshd | None:
    """Return what serves ssh connections into this session; say why where nothing can.

    `wanted`: the path that the user has named, if any. Raises JlabError where that is no use.
    """
    path = sshd.find(wanted)
    if path is None:
        log("no sshd here, so no `ssh` into this session: install OpenSSH's server, or use --sshd")
        return None
    has_terminals = pseudo_terminals.can_be_given()
    try:
        served = SessionSshd(
            path, home, user=user, env=env, log=session_dir.paths.sshd_log, terminals=has_terminals
        )
    except JlabError as error:
        if wanted is not None:
            raise
        log(f"{error}; so no `ssh` into this session")
        return None
    if not has_terminals:
        log(pseudo_terminals.NONE_HERE)
    return served


@contextlib.asynccontextmanager
async def accepted(
    served: SessionSshd | None,
    ports: range | None,
    *,
    loopback: bool,
    keeper: DirectoryKeeper,
    children: Children,
) -> AsyncIterator[SshAccess | None]:
    """Accept ssh connections, if there is an sshd for them, at one of `ports`."""
    if served is None:
        yield None
        return

    async def start(connection: int) -> Child:
        await keeper.check()
        keeper.session_dir.remove_stale()
        return await served.start(connection, children, check=keeper.refuse_if_lost)

    nonce, client_token = secrets.token_hex(16), secrets.token_hex(16)
    accepting = endpoint.Endpoint(nonce=nonce, client_token=client_token, start=start)
    keeper.on_lost.append(accepting.disconnect_all)
    with await endpoint.listen(ports, loopback=loopback) as listener:
        serving = asyncio.ensure_future(accepting.serve(listener))
        try:
            yield SshAccess(listener.getsockname()[1], nonce, client_token)
        finally:
            serving.cancel()
