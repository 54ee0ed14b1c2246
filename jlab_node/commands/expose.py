"""`jlab-node expose`: one more port of the node, or a unix socket, by a name."""

from __future__ import annotations

import dataclasses
import os

from ..registry import home
from ..runtime import control_protocol, user_directory
from .json_output import print_json


def expose(name: str | None, port: int | None, path: str | None, *, as_json: bool) -> None:
    """Let the session's directory have NAME lead there, and print how to reach it.

    Neither `port` nor `path`: it is to lead nowhere any more; no `name`: only list. Raises
    JlabError.
    """
    base = user_directory.base_path(os.environ, home.user())
    request = control_protocol.Request(name, port, path)
    answer = control_protocol.ask(base, request)
    if as_json:
        print_json(dataclasses.asdict(answer))
    else:
        print(control_protocol.sentence(request, answer, base))
