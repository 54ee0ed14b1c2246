"""What a session costs while nobody does anything."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    found = site.ask(
        site.job,
        "idle",
        seconds=effort.idle,
        node=site.jlab_node(),
        bare=site.jupyter(),
        token=secrets.token_hex(16),
    )
    beside = f"bare jupyter-lab has {found['theirs MB']:.0f} MB"
    yield Row("supervisor, resident memory", "", "MB", [found["ours MB"]], goal=25, note=beside)
    shares = "what it shares with other programs in equal parts (PSS)"
    yield Row("supervisor, its share of memory", "", "MB", [found["ours PSS"]], note=shares)
    yield Row(
        f"supervisor, CPU over {effort.idle:g} idle s",
        "",
        "% of a core",
        [found["ours %"]],
        goal=0.1,
        note=f"bare jupyter-lab takes {found['theirs %']:.2f}",
    )
