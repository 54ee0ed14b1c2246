"""The ProxyCommand: `jlab-proxy connect jlab+ALIAS[+SESSION]` becomes one ssh to the login node.

It competes with plain `ssh -J`, so it imports little and leaves no Python behind. The other half is
~/.jlab/connect on the cluster.
"""

from __future__ import annotations

import os
import sys

from . import paths, ssh, target
from .errors import USAGE, JlabError, say

TYPE_CHECKING = False  # `typing` would cost a tenth of the start-up
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

# What a session's id and a directory consist of: they stand in a command line on the other side.
_WORD_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-[]")
USAGE_TEXT = "usage: jlab-proxy connect HOST [--port N] [--sockets DIR] [-F FILE] [--no-share]"


def main(arguments: Sequence[str], *, platform: str = os.name) -> NoReturn:
    """Become ssh; raises JlabError."""
    host, options = _parse(arguments)
    where = target.parse_host(host)
    files, share = paths.locate(options.get("-F")), "--no-share" not in options
    command = ssh.command(
        files,
        where.alias,
        ssh.remote_command("connect", _cluster_arguments(where, files, options), alias=where.alias),
        share=share,
    )
    if share:
        _begin_anew_if_hung(files)
    sys.stdout.flush()
    try:
        if platform == "nt":  # exec would be a new process there, and ssh would see this one end
            import subprocess

            sys.exit(subprocess.call(command))
        if share:
            ssh.outlive_the_terminal()
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        raise JlabError(f"cannot start ssh: {error.strerror}") from error


def _parse(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return HOST and the options that `setup` writes; raises JlabError.

    argparse would cost a tenth of the start-up.
    """
    hosts: list[str] = []
    options: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if word in ("--port", "--sockets", "-F"):
            options[word] = next(words, "")
        elif word == "--no-share":
            options[word] = ""
        else:
            hosts.append(word)
    port, sockets = options.get("--port", "1"), options.get("--sockets", "/")
    wrong = options.get("-F") == "" or not is_port(port) or not _WORD_CHARACTERS.issuperset(sockets)
    if len(hosts) != 1 or wrong:
        raise JlabError(USAGE_TEXT, exit_code=USAGE)
    return hosts[0], options


def _cluster_arguments(
    where: target.Target, files: paths.Paths, options: dict[str, str]
) -> list[str]:
    words = [f"--session={where.session}"] if where.session else []
    if ssh.OPEN in os.environ:
        words.append("--no-submit")
        if os.environ[ssh.OPEN] == ssh.TAGGED:
            words.append("--tagged")
    if not sys.stderr.isatty():
        return words
    words.append(f"--columns={_columns()}")
    if "--port" in options:
        words.extend(_port_arguments(int(options["--port"]), files))
        words.extend(f"--sockets={each}" for each in (options.get("--sockets"),) if each)
    return words


def _port_arguments(port: int, files: paths.Paths) -> list[str]:
    """Return what the cluster is to say of the port: that it is free, or who has it."""
    from . import open_state, port_check

    if port_check.is_free(port):
        return [f"--port={port}"]
    session = open_state.query(files, port).get("id")
    if isinstance(session, str) and session and _WORD_CHARACTERS.issuperset(session):
        return [f"--taken={port}", f"--opened={session}"]
    return [f"--taken={port}"]


def _begin_anew_if_hung(files: paths.Paths) -> None:
    if ssh.remove_hung_masters(files):
        say("the shared connection to the login node does not react: beginning a new one")


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def is_port(text: str) -> bool:
    """Return whether `text` is a port number."""
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535
