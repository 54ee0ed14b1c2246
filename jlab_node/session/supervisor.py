"""The life of a session: start, publish, watch, withdraw, stop. Readable from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import process_id, schedulers
from ..errors import FAILED, JlabError
from ..files import private
from ..identifiers import NEWEST
from ..jobs import claims, liveness, messages, scheduler_client, submission
from ..registry import home, logs, records
from ..registry.record import NO_PORT, Record, RecordError, render
from ..registry.records import Publication
from ..runtime.session_directory import SessionDirectory
from ..runtime.user_directory import base_path
from ..schedulers.base import Answer
from ..version import VERSION
from . import job_log, port_exposure, walltime
from .child_processes import Children
from .directory_keeper import Keeper
from .io_thread import Aside
from .job_log import say
from .job_output import Output
from .jupyter import door, launch
from .jupyter import program as jupyter
from .ssh import listener as endpoint
from .ssh import pseudo_terminals, sshd
from .ssh.session_sshd import SessionSshd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from ..jobs.claims import Claim
    from ..jobs.liveness import Roll
    from ..registry.home import Home
    from ..schedulers.base import Job, Status
    from .child_processes import Child
    from .jupyter.launch import Started

    _T = TypeVar("_T")

GRACE = 15.0  # seconds that JupyterLab has to end after SIGTERM
_SCHEDULER_TIMEOUT = 60.0  # seconds that it has to tell when the job ends
_SWEEP_TIMEOUT = 600.0  # seconds for old records, of which a slow home may have thousands
_HOME_TIMEOUT = 10.0  # seconds for a file in ~/.jlab to be written
_RELEASE_TIMEOUT = 2.0  # seconds for the last of them
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


async def _session(options: Options, env: Mapping[str, str]) -> int:
    """The stages of a session; each is undone in reverse order. JupyterLab's exit code."""
    jupyter.check_arguments(options.arguments)
    command = jupyter.find(options.jupyter)
    job = _job(options, env)
    draft = _draft(options, env, job)
    directory = home.prepare()
    claim = _claim(directory, draft, job)
    try:
        return await _claimed(options, env, command, directory, claim)
    finally:
        _release(claim)


async def _claimed(
    options: Options, env: Mapping[str, str], command: list[str], directory: Home, claim: Claim
) -> int:
    """The session of that name, of which the job has no other."""
    draft = claim.record
    records.exhume(directory.sessions, draft.scheduler, draft.job_id, cluster=draft.cluster)
    logs.remember(directory, draft.name, draft.log)
    _warn_of_others(directory)
    say(f'session "{draft.name}" on {draft.node} ({draft.scheduler} job {draft.job_id})')
    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(SessionDirectory(Path(draft.socket_dir), draft.name, draft.id))
        keeper = Keeper(place)
        jupyter.check_runtime(place.runtime)
        config, arguments = jupyter.own_config(options.arguments)
        its_door = await stack.enter_async_context(
            door.opened(place, directory, draft.token, config=config, debugger=options.debugger)
        )
        lost = await stack.enter_async_context(_keeping(keeper))
        output = stack.enter_context(Output())
        children = await stack.enter_async_context(
            Children(grace=GRACE, stdout=output.stdout, stderr=output.stderr)
        )
        jupyterlab = launch.start(
            command,
            arguments,
            env=env,
            token=draft.token,
            door=its_door,
            children=children,
            socket_only=options.socket_only,
        )
        starting = await stack.enter_async_context(_meanwhile(jupyterlab))
        job_started, ends_at = scheduler_client.times(draft)
        draft = _checked(replace(draft, job_started=job_started, ends_at=ends_at))
        into_the_job = _sshd(options, user=draft.user, env=env, directory=directory, place=place)
        record = await stack.enter_async_context(
            _endpoint(into_the_job, options.port_range, draft, keeper=keeper, children=children)
        )
        claim.tell(record)
        started = await _unless(lost, starting)
        stack.enter_context(_standing_still(keeper, started))
        record = replace(
            record,
            port=started.port,
            scheme="https" if started.hello.secure else "http",
            base_url=started.hello.base_url,
        )
        await stack.enter_async_context(place.relay(its_door))
        at_home = Aside()
        publication = await stack.enter_async_context(_published(directory, record, at_home))
        stack.enter_context(_walltime(publication, children, at_home))
        stack.enter_context(_sweeping(directory, record, children))
        await stack.enter_async_context(port_exposure.serving(place, publication, at_home))
        await started.look_again()
        place.ready()
        _tell_how_to_connect(record)
        return await asyncio.shield(started.process.ended)


def _warn_of_others(directory: Home) -> None:
    whole = directory.path.parent
    others = private.other_writers(whole)
    if others:
        say(
            f"{whole} can be written by {others}: who does so can act as you, in your sessions "
            f"too; `chmod go-w {whole}` ends that"
        )


def _job(options: Options, env: Mapping[str, str]) -> Job:
    """The job that this is in; raises JlabError where a session needs one."""
    job = scheduler_client.detect(env)
    if job.scheduler == schedulers.local.NAME and not options.here:
        _refuse_outside_of_a_job(env)
    return job


def _draft(options: Options, env: Mapping[str, str], job: Job) -> Record:
    """What is known of the session before anything is started; raises JlabError."""
    draft = Record(
        name=options.name,
        scheduler=job.scheduler,
        job_id=job.job_id,
        cluster=job.cluster,
        node=job.node,
        port=NO_PORT,  # not known yet
        token=secrets.token_hex(32),
        user=home.user(),
        socket_dir=str(base_path(env, home.user())),
        process=process_id.identity(os.getpid()),
        started=int(time.time()),
        job_started=job.job_started,
        ends_at=job.ends_at,
        log=_log_path(),
        version=VERSION,
    )
    return _checked(draft)


def _claim(directory: Home, draft: Record, job: Job) -> Claim:
    """The right to be the session of that name in the job; raises JlabError."""
    if job.scheduler == schedulers.local.NAME:
        claims.refuse_within(directory.sessions, draft)
    return claims.take(directory.sessions, draft, nodes=job.nodes)


def _release(claim: Claim) -> None:
    """The last thing; no signal cuts it short. Else whoever comes next sees that we have ended."""
    at_home = Aside()
    at_home.do(claim.release)
    at_home.settle(timeout=_RELEASE_TIMEOUT)


def _checked(draft: Record) -> Record:
    """Better now than when JupyterLab is up; raises JlabError."""
    try:
        render(draft)
    except RecordError as error:
        raise JlabError(f"this session cannot be described to others: {error}") from error
    return draft


def _refuse_outside_of_a_job(env: Mapping[str, str]) -> None:
    """On a cluster's own machines, where sites kill such processes; raises JlabError."""
    site = scheduler_client.site()
    if site is None:
        return
    scheduler = site.scheduler
    job_id = env.get(scheduler.JOB_ID)
    where = f"{socket.gethostname()} belongs to a {scheduler.TITLE} cluster"
    inherited = f" ({scheduler.JOB_ID} is set, but job {job_id} does not run here)"
    raise JlabError(
        f"{where}, and this is not in a job{inherited if job_id else ''}",
        remedy=f"{messages.submit_one(site)}, or type `{scheduler.INSIDE}`; `jlab-node run --here` "
        "starts it all the same",
    )


def _log_path() -> str:
    """Where this process' messages go, if that is a file."""
    with contextlib.suppress(OSError):
        path = Path("/proc/self/fd/2").readlink()
        if path.is_file() and str(path).isprintable():
            return str(path)
    return ""


def _sshd(
    options: Options, *, user: str, env: Mapping[str, str], directory: Home, place: SessionDirectory
) -> SessionSshd | None:
    """What serves ssh connections into this session; None, and said, where nothing can."""
    path = sshd.find(options.sshd)
    if path is None:
        say("no sshd here, so no `ssh` into this session: install OpenSSH's server, or use --sshd")
        return None
    has_terminals = pseudo_terminals.can_be_given()
    try:
        served = SessionSshd(
            path, directory, user=user, env=env, log=place.sshd_log, terminals=has_terminals
        )
    except JlabError as error:
        if options.sshd is not None:
            raise
        say(f"{error}; so no `ssh` into this session")
        return None
    if not has_terminals:
        say(pseudo_terminals.NONE_HERE)
    return served


@contextlib.asynccontextmanager
async def _endpoint(
    into_the_job: SessionSshd | None,
    ports: range | None,
    draft: Record,
    *,
    keeper: Keeper,
    children: Children,
) -> AsyncIterator[Record]:
    """Accept ssh connections, if there is an sshd for them; the record says where."""
    if into_the_job is None:
        yield draft
        return

    async def start(connection: int) -> Child:
        await keeper.look()
        keeper.place.tend()
        return await into_the_job.start(connection, children)

    nonce, knock = secrets.token_hex(16), secrets.token_hex(16)
    door = endpoint.Endpoint(nonce=nonce, secret=knock, start=start)
    keeper.lost.append(door.cut)
    with endpoint.listen(ports, loopback=draft.scheduler == "local") as listener:
        serving = asyncio.ensure_future(door.serve(listener))
        try:
            yield replace(
                draft,
                nonce=nonce,
                knock=knock,
                ssh_port=listener.getsockname()[1],
            )
        finally:
            serving.cancel()


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, _T]) -> AsyncIterator[asyncio.Future[_T]]:
    """Begin it now, to be awaited when there is nothing else to do."""
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
    async with _meanwhile(keeper.keep()):
        yield lost


async def _unless(lost: asyncio.Event, starting: asyncio.Future[Started]) -> Started:
    """JupyterLab, once it has started; raises JlabError if others came in between."""
    async with _meanwhile(lost.wait()) as waiting:
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


@contextlib.asynccontextmanager
async def _published(directory: Home, record: Record, at_home: Aside) -> AsyncIterator[Publication]:
    """The session can be found for as long as this lasts."""
    publication = Publication(directory.sessions, record)

    def withdraw() -> None:
        # The job may have more to do, and takes a moment to end in any case.
        publication.withdraw(job_lives_on=record.scheduler != schedulers.local.NAME)
        submission.note_end(directory)

    try:
        yield publication
    finally:
        try:
            await at_home.done(withdraw, timeout=_HOME_TIMEOUT)
        except asyncio.TimeoutError:
            say(f"{directory.path} does not answer: the record of this session may stay there")


@contextlib.contextmanager
def _walltime(publication: Publication, children: Children, at_home: Aside) -> Iterator[None]:
    """Warn before the job's end, and publish a new end when the scheduler moves it."""
    record = publication.record
    if record.scheduler == schedulers.local.NAME:
        yield
        return

    async def ask(command: list[str]) -> Answer:
        return await _ask(children, command)

    async def moved(ends_at: int) -> bool:
        amend = functools.partial(publication.amend, ends_at=ends_at)
        try:
            await at_home.done(amend, timeout=_HOME_TIMEOUT)
        except (JlabError, asyncio.TimeoutError):  # a full disk: the old end stands, and is wrong
            return False
        return True

    following = asyncio.ensure_future(walltime.follow(record, ask=ask, moved=moved, say=say))
    try:
        yield
    finally:
        following.cancel()


@contextlib.contextmanager
def _sweeping(directory: Home, record: Record, children: Children) -> Iterator[None]:
    """Meanwhile remove what earlier sessions left that were killed, and nobody came back to."""

    async def sweep() -> None:
        scheduler = schedulers.TABLE[record.scheduler]
        asked_at = time.time()
        answer = await _ask(children, scheduler.mine(record.user))
        found = scheduler.parse_mine(answer)
        if found is not None:
            roll = scheduler_client.roll(scheduler, record.cluster, found, asked_at=asked_at)
            clear = functools.partial(_sweep, directory, record, found, roll)
            await Aside().done(clear, timeout=_SWEEP_TIMEOUT)

    sweeping = asyncio.ensure_future(sweep())
    try:
        yield
    finally:
        sweeping.cancel()


def _sweep(directory: Home, record: Record, found: Sequence[Status], roll: Roll) -> None:
    published, _ = records.read_all(directory.sessions)
    liveness.sweep(published, [roll])
    claims.sweep(directory.sessions, [roll])
    listed = {each.job_id for each in found}
    records.exhume_others(directory.sessions, record.scheduler, listed, cluster=record.cluster)


async def _ask(children: Children, command: list[str]) -> Answer:
    """No such command on this node, or a scheduler that does not answer: a failure like others."""
    try:
        return Answer(*await children.output(command, timeout=_SCHEDULER_TIMEOUT))
    except JlabError:
        return Answer(FAILED, "")


def _tell_how_to_connect(record: Record) -> None:
    say(f"published as ~/.jlab/sessions/{record.id}")
    if record.ssh_port is None:
        return
    target = "ALIAS" if record.name == NEWEST else f"ALIAS+{record.name}"
    say("On your computer, with ALIAS for this cluster's name in your ~/.ssh/config:")
    say("  the first time    pip install jlab-remote && jlab-proxy setup ALIAS")
    say(f"  for a shell       ssh jlab+{target}")
    say(f"  in your browser   jlab-proxy open {target}")
