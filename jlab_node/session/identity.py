"""What a session is, before anything of it is started: in which job, whose, by which name."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import process_id, schedulers
from ..errors import JlabError
from ..jobs import detection, job_of_record, messages
from ..registry import home
from ..registry.record import NO_PORT, Record, RecordError, render
from ..runtime import runtime_directory
from ..version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schedulers.base import Job


@dataclass(frozen=True)
class SessionIdentity:
    """One session of one job; what others find it by is its record."""

    name: str
    job: Job
    user: str
    runtime_dir: Path  # the user's directory on this node
    token: str  # that JupyterLab asks for
    process: str  # identity of this process
    started: int  # Unix time, seconds
    log: str  # path of the job log, "" where there is none
    id_suffix: str = ""  # tells its id from that of a job of the same number elsewhere

    @property
    def id(self) -> str:
        """The id of the session, by which its files are named."""
        return self.claim_record().id

    def record(self, *, port: int, **rest: Any) -> Record:
        """Return the record of the session with JupyterLab at `port`; `rest`: further values."""
        return Record(
            name=self.name,
            scheduler=self.job.scheduler,
            job_id=self.job.job_id,
            id_suffix=self.id_suffix,
            cluster=self.job.cluster,
            node=self.job.node,
            port=port,
            token=self.token,
            user=self.user,
            socket_dir=str(self.runtime_dir),
            process=self.process,
            started=self.started,
            job_started=self.job.job_started,
            ends_at=self.job.ends_at,
            log=self.log,
            version=VERSION,
            **rest,
        )

    def claim_record(self, **rest: Any) -> Record:
        """Return the record that claims the session's id: nothing of it listens at a port."""
        return self.record(port=NO_PORT, **rest)

    def with_times(self) -> SessionIdentity:
        """Return it with the start and the end of its job, which may ask the scheduler.

        Raises JlabError where these cannot be published.
        """
        job_started, ends_at = job_of_record.times(self.job)
        job = replace(self.job, job_started=job_started, ends_at=ends_at)
        return _checked(replace(self, job=job))


def describe(name: str, env: Mapping[str, str], job: Job) -> SessionIdentity:
    """Return the identity of a new session of this process; raises JlabError.

    It is tested here whether it can be published: better now than when JupyterLab is up.
    """
    user = home.user()
    return _checked(
        SessionIdentity(
            name=name,
            job=job,
            user=user,
            runtime_dir=runtime_directory.locate(env, user),
            token=secrets.token_hex(32),
            process=process_id.identity(os.getpid()),
            started=int(time.time()),
            log=_log_path(),
        )
    )


def _checked(identity: SessionIdentity) -> SessionIdentity:
    try:
        render(identity.claim_record())
    except RecordError as error:
        raise JlabError(f"this session cannot be described to others: {error}") from error
    return identity


def _log_path() -> str:
    """Return the file to which this process' messages go, "" if that is none."""
    with contextlib.suppress(OSError):
        path = Path("/proc/self/fd/2").readlink()
        if path.is_file() and str(path).isprintable():
            return str(path)
    return ""


def job_here(env: Mapping[str, str], *, outside: bool) -> Job:
    """Return the job that this process is in; raises JlabError where a session needs one.

    `outside`: a session is wanted even where there is none.
    """
    job = detection.detect(env)
    if job.scheduler == schedulers.local.NAME and not outside:
        _require_job(env)
    return job


def _require_job(env: Mapping[str, str]) -> None:
    """Refuse a cluster's own machines, where sites kill such processes; raises JlabError."""
    site = detection.site()
    if site is None:
        return
    scheduler = site.scheduler
    job_id = env.get(scheduler.JOB_ID)
    where = f"{socket.gethostname()} belongs to a {scheduler.DISPLAY_NAME} cluster"
    inherited = f" ({scheduler.JOB_ID} is set, but job {job_id} does not run here)"
    raise JlabError(
        f"{where}, and this is not in a job{inherited if job_id else ''}",
        remedy=f"{messages.how_to_submit(site)}, or type `{scheduler.INTERACTIVE_COMMAND}`; "
        "`jlab-node run --here` starts it all the same",
    )
