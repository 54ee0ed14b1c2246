"""The life of a session: start, publish, watch, remove, stop. Readable from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import schedulers
from ..jobs import messages
from ..registry import home, logs, tombstones
from ..runtime.session_directory import SessionDirectory
from . import (
    announcements,
    identity,
    job_log,
    lost_directory,
    port_exposure,
    record_cleanup,
    registration,
    walltime,
)
from .batch_signals import BatchSignals
from .child_processes import Children
from .directory_keeper import DirectoryKeeper
from .io_thread import IoThread
from .job_log import log
from .job_output import Output
from .jupyter import launch
from .jupyter import program as jupyter
from .jupyter.channel import open_channel
from .ssh import access

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from typing import Any

    from ..jobs.claims import Claim
    from ..registry.home import Home
    from .identity import SessionIdentity
    from .jupyter.channel import JupyterChannel
    from .jupyter.launch import RunningJupyter

GRACE = 15.0  # seconds that JupyterLab has to end after SIGTERM
_KILLED = 128 + signal.SIGKILL  # JupyterLab's exit code
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What `jlab-node run` was told."""

    name: str
    port_range: range | None = None
    jupyter: str | None = None
    sshd: str | None = None
    here: bool = False  # even outside of a job
    socket_only: bool = False  # JupyterLab opens no port at all
    debugger: bool = False  # kernels may be told to open one, which asks nobody for a password
    arguments: Sequence[str] = ()


def run(options: Options) -> int:
    """Run one session to its end and return the exit code; raises JlabError."""
    try:
        code = asyncio.run(_until_stopped(options))
        log(f'session "{options.name}" is over (exit code {code})')
        return code
    finally:
        job_log.flush()


async def _until_stopped(options: Options) -> int:
    """Run a session until it is over or a signal ends it, and return the exit code.

    A second signal ends the waiting. Raises JlabError.
    """
    loop = asyncio.get_running_loop()
    warnings = BatchSignals()
    warnings.listen(loop)
    session = asyncio.ensure_future(_session(options, dict(os.environ), warnings))
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        log(f"{number.name}: {'stopping at once' if received else 'stopping'}")
        received.append(number)
        session.cancel()

    for number in _STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, stop, number)
    try:
        return await session
    except asyncio.CancelledError:
        return 128 + received[0]


@dataclass(frozen=True)
class _Session:
    """What is known of a session before anything is started."""

    options: Options
    env: Mapping[str, str]
    command: list[str]  # that starts JupyterLab
    home: Home
    identity: SessionIdentity
    warnings: BatchSignals


@dataclass(frozen=True)
class _Workspace:
    """Where JupyterLab is to run, and what looks after it."""

    directory: SessionDirectory
    keeper: DirectoryKeeper
    lost: asyncio.Event  # that the directory has been another user's
    channel: JupyterChannel
    arguments: list[str]  # for JupyterLab, of the user's
    children: Children


async def _session(options: Options, env: Mapping[str, str], warnings: BatchSignals) -> int:
    """Claim the session's id and run it; return JupyterLab's exit code.

    Each stage is undone in reverse order. Raises JlabError.
    """
    arguments, needless = jupyter.without_needless(options.arguments)
    if needless:
        log(f"{', '.join(needless)}: not needed, a session has its own address, port and token")
    options = replace(options, arguments=arguments)
    command = jupyter.find_command(options.jupyter)
    job = identity.job_here(env, outside=options.here)
    who = identity.describe(options.name, env, job)
    home_dir = home.ensure_state_dir()
    with registration.claimed(home_dir, who) as claim:
        who = replace(who, id_suffix=claim.record.id_suffix)
        tombstones.remove(home_dir.sessions, job.scheduler, job.job_id, cluster=job.cluster)
        logs.remember(home_dir, who.name, who.log)
        announcements.warn_if_home_writable(home_dir)
        log(f'session "{who.name}" on {job.node} ({job.scheduler} job {job.job_id})')
        async with contextlib.AsyncExitStack() as stack:
            session = _Session(options, env, command, home_dir, who, warnings)
            return await _run(session, claim, stack)


# What is entered here ends in reverse order, on SIGTERM too: what is exposed, the questions to the
# scheduler, the record, the links, ssh, JupyterLab (SIGTERM, then SIGKILL after GRACE seconds) and
# what else was started, the log of it, the keeper, the directory; at last the claim.
async def _run(session: _Session, claim: Claim, stack: contextlib.AsyncExitStack) -> int:
    """Start, publish and watch the session; return JupyterLab's exit code. Raises JlabError."""
    workspace = await _make_workspace(session, stack)
    starting = await stack.enter_async_context(
        lost_directory.background_task(_launch(session, workspace))
    )
    who = session.identity.with_times()
    ssh = await stack.enter_async_context(_ssh_access(session, workspace))
    in_record = ssh.in_record() if ssh else {}
    claim.update(who.claim_record(**in_record))
    started = await lost_directory.started_unless(workspace.lost, starting)
    stack.enter_context(lost_directory.suspended_while_lost(workspace.keeper, started))
    record = who.record(
        port=started.port,
        scheme="https" if started.hello.secure else "http",
        base_url=started.hello.base_url,
        **in_record,
    )
    await stack.enter_async_context(workspace.directory.relay(workspace.channel))
    home_io = IoThread()
    publication = await stack.enter_async_context(
        registration.published(session.home, record, home_io)
    )
    session.warnings.ends_at = lambda: publication.record.ends_at
    stack.enter_context(walltime.followed(publication, workspace.children, home_io))
    stack.enter_context(record_cleanup.in_background(session.home, record, workspace.children))
    await stack.enter_async_context(
        port_exposure.expose_ports(workspace.directory, publication, home_io)
    )
    await started.check_refusal()
    workspace.directory.mark_ready()
    announcements.log_how_to_connect(record)
    code = await asyncio.shield(started.process.ended)
    if code == _KILLED:
        log(messages.jupyterlab_was_killed(record.scheduler))
    return code


async def _make_workspace(session: _Session, stack: contextlib.AsyncExitStack) -> _Workspace:
    """Make the session's directory, and what JupyterLab needs there and around it.

    All of it ends with `stack`. Raises JlabError.
    """
    who, options = session.identity, session.options
    directory = stack.enter_context(SessionDirectory(who.runtime_dir, who.name, who.id))
    keeper = DirectoryKeeper(directory)
    jupyter.check_runtime(directory.paths.jupyter_runtime)
    config, arguments = jupyter.split_config(options.arguments)
    channel = await stack.enter_async_context(
        open_channel(directory, session.home, who.token, config=config, debugger=options.debugger)
    )
    lost = await stack.enter_async_context(lost_directory.directory_kept(keeper))
    output = stack.enter_context(Output())
    children = await stack.enter_async_context(
        Children(grace=GRACE, stdout=output.stdout, stderr=output.stderr)
    )
    return _Workspace(directory, keeper, lost, channel, arguments, children)


def _launch(session: _Session, workspace: _Workspace) -> Coroutine[Any, Any, RunningJupyter]:
    """Start JupyterLab, and return it once it answers; raises JlabError."""
    return launch.start(
        session.command,
        workspace.arguments,
        env=session.env,
        token=session.identity.token,
        channel=workspace.channel,
        children=workspace.children,
        socket_only=session.options.socket_only,
    )


def _ssh_access(
    session: _Session, workspace: _Workspace
) -> contextlib.AbstractAsyncContextManager[access.SshAccess | None]:
    """Let the user's ssh connections into the session; yields None if there is no sshd for them."""
    who, options = session.identity, session.options
    served = access.session_sshd(
        options.sshd,
        user=who.user,
        env=session.env,
        home=session.home,
        session_dir=workspace.directory,
    )
    return access.accepted(
        served,
        options.port_range,
        loopback=who.job.scheduler == schedulers.local.NAME,
        keeper=workspace.keeper,
        children=workspace.children,
    )
