"""Bytes through the path, each way, beside `ssh -J`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    size = effort.of(10**9, 10**7)
    commands = {"plain": site.plain("near", "node"), "ours": site.ssh("jlab+near")}
    with site.sessions("lab"):
        rounds = effort.of(effort.rounds, 2)
        rates = site.ask(site.laptop, "transfer", commands=commands, rounds=rounds, size=size)
    for way, name in (("up", "to the job"), ("down", "from the job")):
        yield Row(
            f"{size / 1e9:g} GB {name}",
            "the same through ssh -J",
            "MB/s",
            rates[f"ours {way}"],
            rates[f"plain {way}"],
            0.95,
            at_least=True,
        )
