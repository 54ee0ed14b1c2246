"""The command line; scripts/bench runs it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import surroundings

from . import connections, echo, idle, login_node, relay, report, scale, start, throughput
from .on_cluster import OnCluster
from .on_loopback import OnLoopback
from .options import Effort, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .report import NotMeasured, Row
    from .sites import Site

FAMILIES: dict[str, Callable[[Site, Effort], Iterable[Row | NotMeasured]]] = {
    "connections": connections.measure,
    "throughput": throughput.measure,
    "echo": echo.measure,
    "start": start.measure,
    "relay": relay.measure,
    "login-node": login_node.measure,
    "records": scale.records,
    "sessions": scale.sessions,
    "many-connections": scale.connections,
    "idle": idle.measure,  # last, with nothing beside it
}
_DOCUMENT = Path(__file__).parents[2] / "docs/performance.md"


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is to be left then either
    surroundings.leave()
    effort = Effort(rounds=options.rounds, idle=options.idle, quick=options.quick)
    rows: list[Row | NotMeasured] = []
    failed = False
    with OnLoopback() if options.loopback else OnCluster() as site:
        for name in options.only or FAMILIES:
            say(f"{name} ...")
            try:
                rows.extend(FAMILIES[name](site, effort))
            except Exception as error:  # the others are wanted all the same
                traceback.print_exc()
                rows.append(report.NotMeasured(name, f"it failed: {str(error)[-200:]!r}"))
                failed = True
        made = report.Report(site.name, rows, report.machine(), report.today())
    print(made.table())
    if options.json:
        options.json.write_text(json.dumps(made.as_json(), indent=1) + "\n", encoding="utf-8")
    if options.write:
        made.write(_DOCUMENT)
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=report.__doc__)
    parser.add_argument("--loopback", action="store_true", help="here, without a cluster or root")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, metavar="ROWS", help=_choices())
    parser.add_argument("--rounds", type=int, help="medians of so many; default 10")
    parser.add_argument("--idle", type=float, help="seconds of the idle rows; default 600")
    parser.add_argument("--quick", action="store_true", help="only to see that all of it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for programs")
    parser.add_argument("--write", action="store_true", help=f"into docs/{_DOCUMENT.name} as well")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write takes all rows, and no --quick")
    quick = options.quick
    options.rounds = options.rounds or (2 if quick else 10)
    options.idle = options.idle or (2 if quick else 600)
    return options


def _choices() -> str:
    return f"of {', '.join(FAMILIES)}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"error: {error}")
