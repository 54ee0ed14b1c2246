"""Starting JupyterLab: on a port that is free, until it answers."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from . import files, jupyter, ports
from .errors import FAILED, JlabError
from .joblog import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .processes import Child, Children
    from .session_directory import SessionDirectory

_POLL = 0.02  # seconds between two looks whether it answers
_PATIENCE = 30.0  # seconds between two lines that say it does not yet
_PORTS_TO_TRY = 20


async def start(
    command: list[str],
    extra: Sequence[str],
    *,
    env: Mapping[str, str],
    token: str,
    place: SessionDirectory,
    children: Children,
) -> tuple[Child, int]:
    """Start JupyterLab and wait until it answers: the process and its port."""
    labconfig = files.closed_directory(place.settings / jupyter.PAGE_CONFIG.parent)
    place.write(labconfig / jupyter.PAGE_CONFIG.name, jupyter.PAGE_CONFIG_TEXT)
    its_env = jupyter.environment(env, token=token, runtime=place.runtime, settings=place.settings)
    for _ in range(_PORTS_TO_TRY):
        port = ports.pick()
        ours = jupyter.arguments(port, extra, is_root=os.geteuid() == 0)
        server = children.start([*command, *ours], env=its_env)
        if await _answers(server, port, token=token, place=place):
            return server, port
        if not ports.is_taken(port):
            code = server.ended.result()
            raise JlabError(
                f"jupyter-lab ended with exit code {code} before it answered: "
                "its own messages stand above",
                code=code or FAILED,
            )
        say(f"another program took port {port} first: trying the next one")
    raise JlabError(f"{_PORTS_TO_TRY} ports in a row were taken by other programs")


async def _answers(server: Child, port: int, *, token: str, place: SessionDirectory) -> bool:
    """Wait until JupyterLab answers (True) or ends (False), however long it takes."""
    started = told = time.monotonic()
    while not server.ended.done():
        # The token goes to our own child alone, so whose socket it is comes first.
        if (
            jupyter.accepts(port)
            and jupyter.belongs_to(port, server.pid)
            and await asyncio.to_thread(jupyter.answers, port, token=token, runtime=place.runtime)
        ):
            say(f"JupyterLab answers, {time.monotonic() - started:.1f} s after its start")
            return True
        if time.monotonic() - told > _PATIENCE:
            told = time.monotonic()
            say(f"JupyterLab has not answered for {told - started:.0f} s; still waiting")
        await asyncio.wait([server.ended], timeout=_POLL)
    return False
