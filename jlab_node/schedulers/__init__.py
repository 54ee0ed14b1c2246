"""The schedulers that jobs can run under: one module each, and this table of them. Pure.

A new one defines all of `base.Scheduler`, stands in the table, and in cli/script.py by its name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import local, lsf, oar, pbs, sge, slurm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Scheduler

# In the order of asking. `local` takes every process, so it comes last.
TABLE: dict[str, Scheduler] = {module.NAME: module for module in (slurm, oar, pbs, sge, lsf, local)}


def without_options(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without what changes how the schedulers' commands work.

    What a user has set for typing, and what a job has of its own, is not meant for ours.
    """
    options = [module.OPTION_VARIABLES for module in TABLE.values()]
    return {
        name: value
        for name, value in env.items()
        if not any(re.fullmatch(option, name) for option in options)
    }
