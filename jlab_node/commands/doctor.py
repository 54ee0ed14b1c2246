"""`jlab-node doctor`: the cluster's links of the chain, one after the other. It only looks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ..errors import FAILED
from ..jobs import detection, job_of_record, snapshots
from ..registry import home, records
from . import machine_checks, session_checks
from .check import FAILURE, SKIPPED, Check
from .json_output import print_json
from .setup import about

if TYPE_CHECKING:
    from collections.abc import Iterator


def doctor(*, as_json: bool) -> int:
    """Print how each link of the chain on this side is, and return the exit code."""
    checks = []
    for check in examine():
        checks.append(check)
        if not as_json:
            print(render(check), flush=True)
    if as_json:
        host_key = about(home.state_dir())["host_key"]
        print_json({"host_key": host_key, "checks": [asdict(check) for check in checks]})
    return FAILED if any(check.state == FAILURE for check in checks) else 0


def examine() -> Iterator[Check]:
    """Yield each link on this side, in the order in which a connection needs them."""
    directory, user, site = home.state_dir(), home.user(), detection.site()
    yield machine_checks.this_program()
    yield machine_checks.jlab_directory(directory)
    yield machine_checks.sshd_program()
    yield machine_checks.jupyter_program()
    yield machine_checks.scheduler(site, user)
    yield machine_checks.sockets_directory(user, on_a_node=site is None)
    yield machine_checks.home_directory(directory.path.parent)
    yield machine_checks.quota()
    published, unreadable = records.read_all(directory.sessions)
    living = snapshots.alive_sessions(published, user)
    yield session_checks.session_records(published, living, unreadable)
    here = [each.record for each in living if job_of_record.is_on_this_cluster(each.record)]
    elsewhere = [
        each.record for each in living if not job_of_record.is_on_this_cluster(each.record)
    ]
    yield session_checks.session(here, elsewhere, site)
    none = Check("node", SKIPPED, "there is no session to reach")
    yield session_checks.node(here[0]) if here else none


def render(check: Check) -> str:
    """Return the check as a person reads it: the line, and under it the remedy."""
    line = f"{check.state:8} {check.check:12} {check.found}"
    return line if not check.remedy else f"{line}\n{'':21} -> {check.remedy}"
