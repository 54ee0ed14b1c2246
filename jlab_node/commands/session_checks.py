"""What `jlab-node doctor` looks at of sessions: their records, the newest one, the way to it."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from .. import schedulers
from ..connect import routes
from ..errors import sanitize
from ..jobs import messages
from ..registry import home, records
from .check import FAILURE, OK, WARNING, Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..jobs.site import Site
    from ..registry.record import Record
    from ..registry.records import InvalidRecord, StoredRecord


def session_records(
    published: Sequence[StoredRecord],
    living: Sequence[StoredRecord],
    unreadable: Sequence[InvalidRecord],
) -> Check:
    """Tell how the files in ~/.jlab/sessions are."""
    for broken in unreadable:
        return Check(
            "records",
            WARNING,
            f"{records.shown_name(broken.path)} is no use: {broken.reason}",
            f"remove it: rm {shlex.quote(str(broken.path))}",
        )
    over = [each.record.id for each in published if each not in living]
    if over:
        return Check(
            "records",
            WARNING,
            f"the job of {', '.join(over)} has ended, but its record is still there",
            "nothing: the next `ssh jlab+ALIAS` says how it ended, and removes the record",
        )
    return Check("records", OK, f"{len(published)}, and all can be read")


def session(here: Sequence[Record], elsewhere: Sequence[Record], site: Site | None) -> Check:
    """Tell which session is the newest: the one that `ssh jlab+ALIAS` goes to."""
    if here:
        record = here[0]
        more = f", and {len(here) - 1} more" if len(here) > 1 else ""
        job = f"{record.scheduler} job {record.job_id}"
        return Check("session", OK, f"{record.name} on {record.node}, {job}{more}")
    found = messages.other_cluster(elsewhere[0]) if elsewhere else "none is running"
    return Check("session", WARNING, found, f"start one: `{messages.how_to_start(site)}`")


def node(record: Record) -> Check:
    """Tell whether any route leads to the node of the session, after trying every one."""
    if record.ssh_port is None:
        return Check(
            "node",
            FAILURE,
            f"the session on {record.node} has no sshd to let you in",
            "its job log says why; name an sshd with `jlab-node run --sshd PATH`",
        )
    tried = list(_routes(record))
    found = f"{record.node}: " + "; ".join(f"{name}: {result}" for name, result, _ in tried)
    open_routes = [name for name, _, is_open in tried if is_open]
    if "tcp" in open_routes:
        return Check("node", OK, sanitize(found))
    if open_routes:
        remedy = (
            "nothing must be done; ports that pass from login to compute nodes would be quicker: "
            "jlab-node run --port-range LO-HI"
        )
        return Check("node", WARNING, sanitize(found), remedy)
    remedy = f"if the job hangs, end it with `jlab-node stop {record.id}` and start another"
    if record.scheduler != schedulers.local.NAME:
        remedy += "; if the node is up, ask your site which ports pass (--port-range)"
    return Check("node", FAILURE, sanitize(found), remedy)


def _routes(record: Record) -> Iterator[tuple[str, str, bool]]:
    """Yield each route's name, what came of it, and whether it leads to the session."""
    began = time.monotonic()
    try:
        routes.tcp(record).connection.close()
        yield "tcp", _milliseconds(began), True
    except (routes.RouteUnavailable, routes.SessionEnded) as error:
        yield "tcp", f"{error} (port {record.ssh_port})", False
    if record.scheduler == schedulers.local.NAME:
        return
    unresponsive = time.monotonic() - began >= routes.TCP_TIMEOUT
    try:
        for route in routes.fallback_routes(
            record, home.state_dir().path, unresponsive=unresponsive
        ):
            began = time.monotonic()
            try:
                routes.via_command(route.command, timeout=route.timeout).connection.close()
                yield route.name, _milliseconds(began), True
            except (routes.RouteUnavailable, routes.SessionEnded) as error:
                yield route.name, str(error).removeprefix(f"{route.name}: "), False
    except routes.RouteUnavailable as unavailable:
        yield "other ways", str(unavailable), False


def _milliseconds(began: float) -> str:
    return f"answers in {(time.monotonic() - began) * 1000:.0f} ms"
