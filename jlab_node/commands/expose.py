"""`jlab-node expose`: one more port of the node, or a unix socket, by a name."""

from __future__ import annotations

import dataclasses
import os

from ..registry import home
from ..runtime import control_protocol, runtime_directory
from .json_output import print_json


def expose(name: str | None, port: int | None, path: str | None, *, as_json: bool) -> None:
    """Let the session's directory have NAME lead there, and print how to reach it.

    Neither `port` nor `path`: it is to lead nowhere any more; no `name`: only list. Raises
    JlabError.
    """
    runtime_dir = runtime_directory.locate(os.environ, home.user())
    request = control_protocol.Request(name, port, path)
    answer = control_protocol.ask(runtime_dir, request)
    if as_json:
        print_json(dataclasses.asdict(answer))
    else:
        print(control_protocol.describe(request, answer, runtime_dir))
