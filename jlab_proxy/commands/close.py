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
    for alias in completion.chosen(files, aliases):
        closed = close(files, alias)
        print("\n".join(f"{alias}: {each}" for each in closed or ["nothing is open"]))


def close(paths: Paths, alias: str) -> list[str]:
    """Close what is open to the cluster; return a sentence about each."""
    closed = [f"closed the tunnel of process {pid}" for pid in _end_tunnels(paths, alias)]
    if _stop_session_masters(paths, alias):
        closed.append("closed the shared connection to a session")
    # Not found out by asking ssh: this has to work without a network, too.
    if client.ClusterClient(paths, alias, share=True).stop_master():
        closed.append("closed the shared connection to the login node")
    return closed


def _end_tunnels(paths: Paths, alias: str) -> list[int]:
    """End each tunnel to the cluster of this user and this config file; return the process ids."""
    tunnels = [
        process
        for process in port_owners.own_processes()
        if _is_tunnel_to(port_owners.forward_only_argv(process), paths, alias)
    ]
    # A `jlab-proxy open` would come back by itself.
    opens = [each for each in map(port_owners.owning_open, tunnels) if each]
    without_ssh = [each for each in _opens(paths, alias) if each not in opens]
    port_owners.terminate([*opens, *tunnels, *without_ssh])
    return [process.pid for process in (*tunnels, *without_ssh)]


def _opens(paths: Paths, alias: str) -> list[psutil.Process]:
    """Return each `jlab-proxy open` of the cluster, also one that has no ssh at this moment."""
    states = [state for _, state in open_state.query_all(paths)]
    pids = [state.get("pid") for state in states if _belongs_to(str(state.get("host")), alias)]
    processes = [port_owners.own_process(pid) for pid in pids if type(pid) is int]
    return [process for process in processes if process]


def _is_tunnel_to(words: Sequence[str], paths: Paths, alias: str) -> bool:
    """Return whether these words, of an ssh, lead to the cluster by this config file."""
    files = [words[at + 1] for at in range(len(words) - 1) if words[at] == "-F"]
    if files != ([] if paths.is_default else [paths.config]):
        return False
    return any(_belongs_to(word, alias) for word in words)


def _belongs_to(host: str, alias: str) -> bool:
    """Return whether the host is the cluster's or that of its sessions: cal is not cal1."""
    return host == f"jlab+{alias}" or host.startswith(f"jlab+{alias}+")


def _stop_session_masters(paths: Paths, alias: str) -> bool:
    """End the connections of `setup --mux`, and return whether there were any.

    Each session that has a block or was seen may have one.
    """
    host = f"jlab+{alias}"
    seen = {f"{host}+{name}" for name in completion.seen(paths).get(alias, [])}
    blocks = document.hosts(text_file.read(paths.config))
    wanted = {host, *seen, *(each for each in blocks if _belongs_to(each, alias))}
    return client.end_masters(paths, sorted(wanted))
