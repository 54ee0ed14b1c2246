"""What a session says in its job log for the user: how to connect, and what is not safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..files import private
from ..identifiers import NEWEST
from .job_log import log

if TYPE_CHECKING:
    from ..registry.home import Home
    from ..registry.record import Record


def warn_if_home_writable(home_dir: Home) -> None:
    """Log who else can write the home directory, if anybody can; raises OSError."""
    whole = home_dir.path.parent
    others = private.other_writers(whole)
    if others:
        log(
            f"{whole} can be written by {others}, who can then act as you, also in your "
            f"sessions: type `chmod go-w {whole}`"
        )


def log_how_to_connect(record: Record) -> None:
    """Log what to type on the laptop, where the session has an ssh endpoint."""
    log(f"published as ~/.jlab/sessions/{record.id}")
    if record.ssh_port is None:
        return
    target = "ALIAS" if record.name == NEWEST else f"ALIAS+{record.name}"
    log("On your computer, with ALIAS for this cluster's name in your ~/.ssh/config:")
    log("  the first time    pip install jlab-remote && jlab-proxy setup ALIAS")
    log(f"  for a shell       ssh jlab+{target}")
    log(f"  in your browser   jlab-proxy open {target}")
