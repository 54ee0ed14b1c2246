"""`jlab-proxy stop`: end a session and its job."""

from __future__ import annotations

import click

from .. import paths, target
from ..cluster import client, responses
from ..errors import FAILED, UNAVAILABLE, JlabError, say


def stop(where: str, *, yes: bool, config: str | None) -> int:
    """End the session `where`, or the job that is to become one, once agreed; the exit code.

    `yes`: do not ask. `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    wanted = target.parse(where)
    cluster = client.resolve(paths.locate(config), wanted.alias)
    standing = responses.parse_standing(cluster.call("status", *wanted.sessions))
    id_to_stop = standing.session.id if standing.session else standing.job_id
    if id_to_stop is None:
        say(standing.text)
        return UNAVAILABLE
    print(standing.text, flush=True)
    try:
        agreed = yes or click.confirm("Stop it?", default=False)
    except click.Abort:
        print()
        raise JlabError(
            "nothing was stopped", remedy="type --yes to stop it without a question"
        ) from None
    if not agreed:
        print("nothing was stopped")
        return FAILED
    print("stopping ...", flush=True)
    cluster.call("stop", id_to_stop)
    print("it is stopped")
    return 0
