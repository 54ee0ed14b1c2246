"""The schedulers that jobs can run under: one module each, and this table of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import local, lsf, oar, pbs, sge, slurm

if TYPE_CHECKING:
    from .base import Scheduler

# In the order of asking. `local` takes every process, so it comes last.
TABLE: dict[str, Scheduler] = {module.NAME: module for module in (slurm, oar, pbs, sge, lsf, local)}
