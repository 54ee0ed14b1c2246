"""The text of one block of ours in ~/.ssh/config, for one cluster or one session of it. Pure."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ..errors import USAGE, JlabError
from ..port_check import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..paths import Paths
    from ..target import Target

# Whether nothing listens on the port, without a word. ssh asks at each start, so no Python here.
# A listener that is full lets nobody in: it is not waited for.
_PORT_IS_FREE = (
    f"bash -c 'exec </dev/null >/dev/null 2>&1; f() {{{{ for h in {HOST} ::1; do "
    ": </dev/tcp/$h/{port} && exit 1; done; exit 0; }}; export -f f; "
    "type timeout && exec timeout 2 bash -c f; f'"
)
# ssh before 9.6 hands any name to the shell. In quotes nothing is dangerous but a quote, and to
# fish a backslash; what the shell would obey outside of them is refused as well. None of *?" can
# stand here: two are wildcards, the third not all versions read alike.
_UNSAFE_NAMES = (
    "!*!* !*#* !*$* !*%* !*&* !*(* !*)* !*,* !*/* !*:* !*;* !*<* !*=* !*>* !*@* !*[* !*]*"
)
_UNSAFE_NAMES += ' !*^* !*`* !*{* !*|* !*}* !*~* "!* *" "!*\'*" "!*\\*"'

_QUOTABLE = re.compile(r'[^\x00-\x1f\x7f"]+')


@dataclass(frozen=True)
class Block:
    """What a block says."""

    target: Target
    user: str  # on the cluster
    port: int  # on this computer
    socket: str  # on the node
    proxy: Sequence[str]  # the words that start jlab-proxy
    paths: Paths
    share: bool  # the connection to the login node, with later ones
    mux: bool  # the connection to the job as well
    platform: str = os.name


def render(block: Block) -> str:
    """Return the lines of a block, markers included; raises JlabError if a path cannot be said."""
    host = block.target.host
    command, command_of_sessions = _proxy_commands(block)
    # What holds for the sessions of the cluster as well, which have no block of their own.
    sessions = [
        f"Host {host} {host}+* {_UNSAFE_NAMES}",
        f"    ProxyCommand {command_of_sessions}",
    ]
    forward = f"    LocalForward {HOST}:{block.port} {block.socket}"
    is_windows = block.platform == "nt"
    lines = [
        f"# >>> {host} >>> written by jlab-proxy setup, which can also --remove it",
        f"Host {host}",
        f"    ProxyCommand {command}",
        # On Windows there may be no bash: a second connection will say that the port is taken.
        *([forward] if is_windows else []),
        *([] if block.target.session else sessions),
        *(f"    {option}" for option in _options(block)),
        *([] if is_windows else [_if_free(block), forward]),
        "Match all",  # what follows may be the user's global options
        f"# <<< {host} <<<",
    ]
    return "\n".join(lines) + "\n"


def _proxy_commands(block: Block) -> tuple[str, str]:
    """Return the ProxyCommand of the block's host, and that of the cluster's other sessions."""
    before = [*(word.replace("%", "%%") for word in block.proxy), "connect"]
    after = [] if block.paths.is_default else ["-F", block.paths.config.replace("%", "%%")]
    if not block.share:
        after.append("--no-share")
    directory = str(PurePosixPath(block.socket).parent)
    usual = f"/tmp/jlab-{block.user}"  # noqa: S108
    sockets = [] if directory == usual else ["--sockets", directory]
    command = _windows_command if block.platform == "nt" else _command
    with_port = command(before, ["--port", str(block.port), *sockets, *after])
    return with_port, command(before, after)


def _if_free(block: Block) -> str:
    """Return the line under which the port is forwarded only while nothing listens there."""
    is_free = _PORT_IS_FREE.format(port=block.port)
    return f'Match originalhost {block.target.host} exec "{is_free}"'


def _options(block: Block) -> list[str]:
    """Return the options of the ssh to the job."""
    return [
        "HostName %h",  # whatever "Host *" says further down
        f"User {block.user}",
        "Port 22",  # the pinned key is looked up with it
        f"IdentityFile {_path(block.paths, 'id')}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {_path(block.paths, 'known_hosts')}",
        "StrictHostKeyChecking yes",
        "ConnectTimeout 0",  # a job may have to wait in the queue
        "ServerAliveInterval 15",
        *_sharing(block),
    ]


def _sharing(block: Block) -> list[str]:
    """Return the options about connections to the job that ride on another; raises JlabError."""
    if block.platform == "nt":  # its ssh has no such thing
        if block.mux:
            raise JlabError(
                "ssh on Windows cannot share connections", remedy="leave out --mux", exit_code=USAGE
            )
        return []
    if block.mux:
        path = _path(block.paths, "job-%C")
        return ["ControlMaster auto", f"ControlPath {path}", "ControlPersist 10m"]
    return ["ControlMaster no", "ControlPath none"]


def _windows_command(before: Sequence[str], after: Sequence[str]) -> str:
    """Return a command with %h in between. No shell reads it, and so nothing can be quoted."""
    words = [*before, "%h", *after]
    for word in words:
        if not re.fullmatch(r'[^\x00-\x20\x7f"\']+', word):
            raise JlabError(
                f"ssh on Windows cannot use the path {word}",
                remedy="install jlab-remote where no space is "
                r"in the path, for example in a venv made by `py -m venv C:\jlab`",
            )
    return " ".join(words).replace("\\", "/")  # some builds of ssh do go through a shell


def _command(before: Sequence[str], after: Sequence[str]) -> str:
    """Return a command with %h in between, for a shell; raises JlabError."""
    text = f"{shlex.join(before)} '%h' {shlex.join(after)}".rstrip()
    if not _QUOTABLE.fullmatch(text):
        raise JlabError(f"ssh's config file cannot hold this path: {text!r}")
    return text


def _path(paths: Paths, name: str) -> str:
    if paths.is_default:
        return f"~/.ssh/jlab/{name}"
    directory = paths.directory.replace("%", "%%")
    return f'"{directory}/{name}"'  # what could not be quoted has been refused in a command
