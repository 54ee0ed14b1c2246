"""From the start of `jlab-node run` until JupyterLab can be found, beside a bare jupyter-lab."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site


def measure(site: Site, effort: Effort) -> Iterator[Row]:
    taken = site.ask(
        site.job,
        "start",
        rounds=effort.rounds,
        node=site.jlab_node(),
        bare=site.jupyter(),
        token=secrets.token_hex(16),
    )
    yield Row(
        "jlab-node run until published",
        "jupyter-lab until it answers",
        "s",
        taken["ours"],
        taken["theirs"],
        1.05,
    )
