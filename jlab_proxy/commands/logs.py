"""`jlab-proxy logs`: what a session and its JupyterLab wrote."""

from __future__ import annotations

from .. import paths, target
from ..cluster import client
from ..ui.signals import exit_on_signals
from ..ui.terminal import print_stream


def logs(where: str, *, follow: bool, lines: int, config: str | None) -> int:
    """Print the last `lines` of the log of the session `where`; the exit code.

    `follow`: go on with what comes. `config`: the ssh config file; None: ssh's own. Raises
    JlabError.
    """
    wanted = target.parse(where)
    options = [f"--lines={lines}", *(["--follow"] if follow else [])]
    cluster = client.resolve(paths.locate(config), wanted.alias)
    with exit_on_signals():
        return cluster.stream(print_stream, "logs", *options, *wanted.sessions)
