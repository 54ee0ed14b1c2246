"""`jlab-proxy ls`: the sessions of all clusters side by side, asked at the same time."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .. import paths
from ..cluster import client, responses
from ..errors import JlabError, say
from . import completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.responses import Queued, Session
    from ..paths import Paths

_TIMEOUT = 30.0  # seconds for a cluster to answer
_COLUMNS = ("CLUSTER", "SESSION", "NODE", "JOB", "LEFT")


@dataclass(frozen=True)
class Cluster:
    """What one cluster has; `problem`: why it cannot be told."""

    alias: str
    sessions: Sequence[Session] = ()
    jobs: Sequence[Queued] = ()
    problem: str = ""


def ls(aliases: Sequence[str], *, as_json: bool, config: str | None) -> int:
    """Print the sessions of these clusters, () of all that are set up; the exit code.

    `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    files = paths.locate(config)
    results = ask_all(files, completion.chosen(files, aliases))
    for cluster in results:
        if cluster.problem:
            say(f"{cluster.alias}: {cluster.problem}")
        else:
            completion.remember_sessions(
                files, cluster.alias, (each.name for each in cluster.sessions)
            )
    if as_json:
        print(json.dumps(for_programs(results)))
    else:
        print("\n".join(table(results)))
    return int(any(cluster.problem for cluster in results))


def ask_all(paths: Paths, aliases: Sequence[str]) -> list[Cluster]:
    """Return what each cluster has. One alone may ask for a password; several ask nothing."""
    if len(aliases) == 1:
        return [_ask(paths, aliases[0], batch=False)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(lambda alias: _ask(paths, alias, batch=True), aliases))


def _ask(paths: Paths, alias: str, *, batch: bool) -> Cluster:
    try:
        answer = client.resolve(paths, alias).call(
            "ls", batch=batch, timeout=_TIMEOUT if batch else None
        )
        sessions, jobs = responses.parse_sessions(answer)
    except JlabError as error:
        return Cluster(alias, problem=str(error) or "its message is above")
    return Cluster(alias, sessions, jobs)


def table(clusters: Sequence[Cluster]) -> list[str]:
    """Return lines for a person: the sessions in columns, then the jobs that wait."""
    now = time.time()
    rows = [
        (
            cluster.alias,
            session.name,
            session.node,
            "-" if session.scheduler == "local" else f"{session.scheduler} {session.job_id}",
            session.left(now) or "-",
        )
        for cluster in clusters
        for session in cluster.sessions
    ]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)) for row in rows]
    head = "  ".join(f"{cell:{width}}" for cell, width in zip(_COLUMNS, widths))
    printed = [head, *lines] if rows else []
    for cluster in clusters:
        printed += [f"{cluster.alias}: {each.text}" for each in cluster.jobs]
        if not (cluster.sessions or cluster.jobs or cluster.problem):
            printed.append(f"{cluster.alias}: no session, and no job that will be one")
    return [line.rstrip() for line in printed]


def for_programs(clusters: Sequence[Cluster]) -> dict[str, Any]:
    """Return the same for programs: what `--json` prints."""
    return {"format": 1, "clusters": [asdict(each) for each in clusters]}
