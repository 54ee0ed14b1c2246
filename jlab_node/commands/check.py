"""One finding of `jlab-node doctor`: a link of the chain, and what it is like."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"


@dataclass(frozen=True)
class Check:
    """A link: what it is like, and unless it is ok what to do. Skipped: another comes first."""

    check: str
    state: str
    found: str
    remedy: str = ""
