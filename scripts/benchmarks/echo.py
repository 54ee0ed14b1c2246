"""How long a typed character takes to come back, beside `ssh -J`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    with site.sessions("lab"):
        taken = _type(site, "near", effort.rounds, effort.of(1000, 100))
        yield _row(taken, 50, "0 ms")
        yield _row(taken, 99, "0 ms")
        with site.road("far", 50) as far:
            yield _row(_type(site, far, effort.rounds, effort.of(20, 5)), 50, "50 ms")


def _type(site: Site, alias: str, rounds: int, count: int) -> dict[str, list[list[float]]]:
    """Seconds of each of `count` characters in each round, both ways."""
    commands = {
        "plain": site.plain(alias, "-tt", "node"),
        "ours": site.ssh("-tt", f"jlab+{alias}"),
    }
    taken: dict[str, list[list[float]]] = site.ask(
        site.laptop, "keystrokes", commands=commands, rounds=rounds, count=count
    )
    return taken


def _row(taken: dict[str, list[list[float]]], percent: int, round_trip: str) -> Row:
    ours, theirs = (
        [1000 * _percentile(values, percent) for values in taken[name]]
        for name in ("ours", "plain")
    )
    return Row(f"keystroke echo, p{percent}, {round_trip}", "ssh -J", "ms", ours, theirs, 1.05)


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[len(values) * percent // 100]
