"""The clusters that are set up here, and the sessions last seen there: for completion."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from .. import paths as locating
from .. import target
from ..errors import JlabError
from ..ssh_config import document, text_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from click import Context, Parameter
    from click.shell_completion import CompletionItem

    from ..paths import Paths

_MAX_SESSIONS = 50  # names of sessions that are remembered for a cluster


def aliases(paths: Paths) -> list[str]:
    """Return the aliases that are set up, sorted; raises JlabError."""
    hosts = document.hosts(text_file.read(paths.config))
    return sorted({target.parse_host(host).alias for host in hosts})


def chosen(paths: Paths, named: Sequence[str]) -> list[str]:
    """Return the aliases that are `named`, each once; () stands for all. Raises JlabError."""
    chosen = [target.parse(each).alias for each in named] or aliases(paths)
    if not chosen:
        raise JlabError(
            "no cluster is set up on this computer", remedy="type jlab-proxy setup ALIAS"
        )
    return list(dict.fromkeys(chosen))


def remember_sessions(paths: Paths, alias: str, sessions: Iterable[str]) -> None:
    """Keep the names of the sessions that run there now, for completion."""
    if not paths.is_ours():
        return
    known = seen(paths)
    known[alias] = sorted(set(sessions))[:_MAX_SESSIONS]
    with contextlib.suppress(JlabError):  # it is a convenience
        text_file.write(_file(paths), json.dumps(known) + "\n")


def _file(paths: Paths) -> str:
    return f"{paths.directory}/seen"


def seen(paths: Paths) -> dict[str, list[str]]:
    """Return the names of the sessions last seen, by alias; {} if none are known."""
    with contextlib.suppress(JlabError, ValueError, RecursionError):
        kept = json.loads(text_file.read(_file(paths)) or "{}")
        if isinstance(kept, dict):
            return {
                str(alias): [str(each) for each in names[:_MAX_SESSIONS]]
                for alias, names in kept.items()
                if isinstance(names, list)
            }
    return {}


def complete(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what the shell may complete: ALIAS, and ALIAS+SESSION where a session is meant.

    It asks no cluster, which would be slow.
    """
    from click.shell_completion import CompletionItem

    paths = locating.locate(context.params.get("config"))
    try:
        known = aliases(paths)
    except JlabError:  # half a block: other commands say so
        return []
    hosts = {host[len(target.PREFIX) :] for host in document.hosts(text_file.read(paths.config))}
    sessions = seen(paths)
    with_sessions = {f"{alias}+{name}" for alias in known for name in sessions.get(alias, ())}
    words = {*known, *(hosts | with_sessions if "SESSION" in (parameter.metavar or "") else ())}
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]
