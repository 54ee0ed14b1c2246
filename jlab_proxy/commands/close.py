"""`jlab-proxy close`: end tunnels and shared connections. No more lsof and kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import open_state, paths
from ..cluster import client
from ..forwarding import port_owners
from ..ssh_config import document, text_file
from . import completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psutil

    from ..paths import Paths


def run(aliases: Sequence[str], *, config: str | None) -> None:
    """Close what is open to these clusters, () to all that are set up, and print what that was.

    `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    files = paths.locate(config)
    for alias in completion.wanted(files, aliases):
        closed = close(files, alias)
        print("\n".join(f"{alias}: {each}" for each in closed or ["nothing is open"]))


def close(paths: Paths, alias: str) -> list[str]:
    """Close what is open to the cluster; what that was."""
    closed = [f"closed the tunnel of process {pid}" for pid in _end_tunnels(paths, alias)]
    if _end_jobs_masters(paths, alias):
        closed.append("closed the shared connection to a session")
    # Not found out by asking ssh: this has to work without a network, too.
    if client.ClusterClient(paths, alias, share=True).stop_master():
        closed.append("closed the shared connection to the login node")
    return closed


def _end_tunnels(paths: Paths, alias: str) -> list[int]:
    """SIGTERM to each `ssh -N jlab+ALIAS...` of this user and this config file."""
    found = [
        process
        for process in port_owners.own_processes()
        if _leads_to(port_owners.forward_only_argv(process), paths, alias)
    ]
    # A `jlab-proxy open` would come back by itself.
    keepers = [each for each in map(port_owners.owning_open, found) if each]
    others = [each for each in _openers(paths, alias) if each not in keepers]
    port_owners.terminate([*keepers, *found, *others])
    return [process.pid for process in (*found, *others)]


def _openers(paths: Paths, alias: str) -> list[psutil.Process]:
    """Each `jlab-proxy open` of the cluster, also one that has no ssh at this moment."""
    said = [each for _, each in open_state.all_of(paths) if _is_of(str(each.get("host")), alias)]
    found = [port_owners.own_process(each["pid"]) for each in said if type(each.get("pid")) is int]
    return [each for each in found if each]


def _leads_to(words: Sequence[str], paths: Paths, alias: str) -> bool:
    """`words`: of an ssh."""
    files = [words[at + 1] for at in range(len(words) - 1) if words[at] == "-F"]
    if files != ([] if paths.is_default else [paths.config]):
        return False
    return any(_is_of(word, alias) for word in words)


def _is_of(host: str, alias: str) -> bool:
    """Whether sessions of that cluster are behind the host, and of no other: cal is not cal1."""
    return host == f"jlab+{alias}" or host.startswith(f"jlab+{alias}+")


def _end_jobs_masters(paths: Paths, alias: str) -> bool:
    """Those of `setup --mux`: each session that has a block or was seen may have one."""
    host = f"jlab+{alias}"
    seen = {f"{host}+{name}" for name in completion.seen(paths).get(alias, [])}
    blocks = document.hosts(text_file.read(paths.config))
    wanted = {host, *seen, *(each for each in blocks if _is_of(each, alias))}
    return client.end_masters(paths, sorted(wanted))
