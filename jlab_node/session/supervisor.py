"""The life of a session: start, publish, watch, withdraw, stop. Readable from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import schedulers
from ..errors import JlabError
from ..files import private
from ..identifiers import NEWEST
from ..registry import home, logs, records
from ..runtime.session_directory import SessionDirectory
from . import identity, job_log, port_exposure, record_cleanup, registration, walltime
from .child_processes import Children
from .directory_keeper import Keeper
from .io_thread import Aside
from .job_log import say
from .job_output import Output
from .jupyter import door, launch
from .jupyter import program as jupyter
from .ssh import access

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from ..jobs.claims import Claim
    from ..registry.home import Home
    from ..registry.record import Record
    from .identity import SessionIdentity
    from .jupyter.door import Door
    from .jupyter.launch import Started

    _T = TypeVar("_T")

GRACE = 15.0  # seconds that JupyterLab has to end after SIGTERM
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
    """Run one session to its end; the exit code. Raises JlabError."""
    try:
        code = asyncio.run(_until_stopped(options))
        say(f'session "{options.name}" is over (exit code {code})')
        return code
    finally:
        job_log.settle()


async def _until_stopped(options: Options) -> int:
    """Run a session until it is over or a signal ends it. A second signal ends the waiting."""
    loop = asyncio.get_running_loop()
    session = asyncio.ensure_future(_session(options, dict(os.environ)))
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        say(f"{number.name}: {'stopping at once' if received else 'stopping'}")
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
    """What is settled before anything is started."""

    options: Options
    env: Mapping[str, str]
    command: list[str]  # that starts JupyterLab
    home: Home
    identity: SessionIdentity


@dataclass(frozen=True)
class _Place:
    """Where JupyterLab is to run, and what looks after it."""

    directory: SessionDirectory
    keeper: Keeper
    lost: asyncio.Event  # that the directory has been another user's
    door: Door
    arguments: list[str]  # for JupyterLab, of the user's
    children: Children


async def _session(options: Options, env: Mapping[str, str]) -> int:
    """Run the stages of a session, each undone in reverse order; return JupyterLab's exit code."""
    jupyter.check_arguments(options.arguments)
    command = jupyter.find(options.jupyter)
    job = identity.job_here(env, outside=options.here)
    who = identity.describe(options.name, env, job)
    home_dir = home.prepare()
    with registration.claimed(home_dir, who) as claim:
        who = replace(who, id_suffix=claim.record.id_suffix)
        records.exhume(home_dir.sessions, job.scheduler, job.job_id, cluster=job.cluster)
        logs.remember(home_dir, who.name, who.log)
        _warn_if_home_writable(home_dir)
        say(f'session "{who.name}" on {job.node} ({job.scheduler} job {job.job_id})')
        async with contextlib.AsyncExitStack() as stack:
            return await _run(_Session(options, env, command, home_dir, who), claim, stack)


async def _run(session: _Session, claim: Claim, stack: contextlib.AsyncExitStack) -> int:
    """Start, publish and watch the session of that name, of which the job has no other."""
    place = await _make_place(session, stack)
    starting = await stack.enter_async_context(_background_task(_launch(session, place)))
    who = session.identity.with_times()
    ssh = await stack.enter_async_context(_ssh_access(session, place))
    in_record = ssh.in_record() if ssh else {}
    claim.tell(who.claim_record(**in_record))
    started = await _started_unless(place.lost, starting)
    stack.enter_context(_standing_still(place.keeper, started))
    record = who.record(
        port=started.port,
        scheme="https" if started.hello.secure else "http",
        base_url=started.hello.base_url,
        **in_record,
    )
    await stack.enter_async_context(place.directory.relay(place.door))
    home_io = Aside()
    publication = await stack.enter_async_context(
        registration.published(session.home, record, home_io)
    )
    stack.enter_context(walltime.followed(publication, place.children, home_io))
    stack.enter_context(record_cleanup.in_background(session.home, record, place.children))
    await stack.enter_async_context(port_exposure.serving(place.directory, publication, home_io))
    await started.look_again()
    place.directory.ready()
    _tell_how_to_connect(record)
    return await asyncio.shield(started.process.ended)


async def _make_place(session: _Session, stack: contextlib.AsyncExitStack) -> _Place:
    """Make the session's directory, and what JupyterLab needs there and around it."""
    who, options = session.identity, session.options
    directory = stack.enter_context(SessionDirectory(who.runtime_dir, who.name, who.id))
    keeper = Keeper(directory)
    jupyter.check_runtime(directory.runtime)
    config, arguments = jupyter.own_config(options.arguments)
    its_door = await stack.enter_async_context(
        door.opened(directory, session.home, who.token, config=config, debugger=options.debugger)
    )
    lost = await stack.enter_async_context(_keeping(keeper))
    output = stack.enter_context(Output())
    children = await stack.enter_async_context(
        Children(grace=GRACE, stdout=output.stdout, stderr=output.stderr)
    )
    return _Place(directory, keeper, lost, its_door, arguments, children)


def _launch(session: _Session, place: _Place) -> Coroutine[Any, Any, Started]:
    """Start JupyterLab, and wait until it answers."""
    return launch.start(
        session.command,
        place.arguments,
        env=session.env,
        token=session.identity.token,
        door=place.door,
        children=place.children,
        socket_only=session.options.socket_only,
    )


def _ssh_access(
    session: _Session, place: _Place
) -> contextlib.AbstractAsyncContextManager[access.SshAccess | None]:
    """Let the user's ssh connections into the session, where there is an sshd for them."""
    who, options = session.identity, session.options
    served = access.session_sshd(
        options.sshd,
        user=who.user,
        env=session.env,
        home=session.home,
        session_dir=place.directory,
    )
    return access.accepted(
        served,
        options.port_range,
        loopback=who.job.scheduler == schedulers.local.NAME,
        keeper=place.keeper,
        children=place.children,
    )


def _warn_if_home_writable(home_dir: Home) -> None:
    whole = home_dir.path.parent
    others = private.other_writers(whole)
    if others:
        say(
            f"{whole} can be written by {others}, who can then act as you, also in your "
            f"sessions: type `chmod go-w {whole}`"
        )


@contextlib.asynccontextmanager
async def _background_task(work: Coroutine[Any, Any, _T]) -> AsyncIterator[asyncio.Future[_T]]:
    """Begin the work now; what it returns is awaited when there is nothing else to do."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _keeping(keeper: Keeper) -> AsyncIterator[asyncio.Event]:
    """The session outlives clean-ups of its node, from before JupyterLab starts to after its end.

    The event: that its directory has been another user's.
    """
    lost = asyncio.Event()
    keeper.lost.append(lost.set)
    async with _background_task(keeper.keep()):
        yield lost


async def _started_unless(lost: asyncio.Event, starting: asyncio.Future[Started]) -> Started:
    """Return JupyterLab once it has started; raises JlabError if others came in between."""
    async with _background_task(lost.wait()) as waiting:
        either: set[asyncio.Future[Any]] = {starting, waiting}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if lost.is_set():
        raise JlabError("another user came in between while JupyterLab was starting: start again")
    return starting.result()


@contextlib.contextmanager
def _standing_still(keeper: Keeper, started: Started) -> Iterator[None]:
    """While the session's directory is another user's, nothing of JupyterLab's goes there."""
    keeper.lost.append(started.stand_still)
    keeper.found.append(started.go_on)
    try:
        yield
    finally:
        keeper.lost.remove(started.stand_still)
        started.go_on()


def _tell_how_to_connect(record: Record) -> None:
    say(f"published as ~/.jlab/sessions/{record.id}")
    if record.ssh_port is None:
        return
    target = "ALIAS" if record.name == NEWEST else f"ALIAS+{record.name}"
    say("On your computer, with ALIAS for this cluster's name in your ~/.ssh/config:")
    say("  the first time    pip install jlab-remote && jlab-proxy setup ALIAS")
    say(f"  for a shell       ssh jlab+{target}")
    say(f"  in your browser   jlab-proxy open {target}")
