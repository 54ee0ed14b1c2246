"""First and later connections, beside `ssh -J`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site

AGAINST = "ssh -J login node true"


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    with site.sessions("lab"):
        taken = _compare(site, "near", effort.rounds)
        yield Row("first ssh jlab+x true, 0 ms", AGAINST, "s", taken["first"], taken["plain"], 1.12)
        with site.road("far", 50) as far, site.road("farmux", 50, "--mux") as mux:
            taken = _compare(site, far, effort.rounds, mux)
    plain = taken["plain"]
    yield Row("first ssh jlab+x true, 50 ms", AGAINST, "s", taken["first"], plain, 1.02)
    yield Row("second connection, 50 ms", AGAINST, "s", taken["second"], plain, 0.60)
    yield Row("second, setup --mux, 50 ms", AGAINST, "s", taken["mux"], plain, 0.16)


def _compare(site: Site, alias: str, rounds: int, mux: str = "") -> dict[str, list[float]]:
    """Seconds of each kind of connection, taken in turn."""
    ours, end = site.ssh(f"jlab+{alias}", "true"), site.end_masters()
    steps = [
        {"name": "plain", "command": site.plain(alias, "node", "true")},
        {"name": "first", "command": ours, "before": end},
        {"name": "second", "command": ours},
    ]
    if mux:
        shared = site.ssh(f"jlab+{mux}", "true")
        steps.append({"name": "mux first", "command": shared, "before": end})
        steps.append({"name": "mux", "command": shared})
    taken: dict[str, list[float]] = site.ask(site.laptop, "stopwatch", steps=steps, rounds=rounds)
    return taken
