"""`jlab-node script`: files to begin with."""

from __future__ import annotations

import sys
from typing import Any

from .. import schedulers
from ..schedulers import job_script as job_scripts
from . import templates


def job_script(scheduler_name: str, **options: Any) -> None:
    """Print a job script for that scheduler, and on a terminal what to type next.

    `options` are those of `job_script.compose`. Raises JlabError.
    """
    scheduler = schedulers.TABLE[scheduler_name]
    print(job_scripts.compose(scheduler, **options), end="")
    if sys.stdout.isatty():
        print(job_scripts.next_commands(scheduler, sys.argv), file=sys.stderr)


def environment(*, for_pip: bool) -> None:
    """Print what to install beside JupyterLab: an environment.yaml for conda, or for pip."""
    print(templates.requirements() if for_pip else templates.environment(), end="")


def tmuxp(where: str) -> None:
    """Print a session file for tmuxp, for the laptop; raises JlabError."""
    print(templates.tmuxp(where), end="")
