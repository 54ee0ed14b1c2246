"""`jlab-node logs`: what a session and its JupyterLab wrote."""

from __future__ import annotations

from ..connect.client import client_disconnected
from ..registry import home
from ..registry import logs as job_logs


def logs(name: str | None, *, follow: bool, lines: int) -> None:
    """Print the last `lines` of the log of the session NAME, None: the last one's.

    `follow`: go on with what comes, until nobody reads any more. Raises JlabError.
    """
    path = job_logs.find(home.open_state_dir(), name)
    job_logs.show(
        path,
        lines=lines,
        follow=follow,
        reader_is_gone=lambda: client_disconnected(descriptors=(1,)),
    )
