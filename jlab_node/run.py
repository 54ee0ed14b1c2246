"""The life of a session: start, publish, watch, withdraw, stop. Readable from top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    endpoint,
    exposed,
    files,
    home,
    jobs,
    jupyter,
    logs,
    schedulers,
    sessions,
    sshd,
    submit,
    walltime,
    wording,
)
from .errors import FAILED, JlabError
from .processes import Child, Children
from .record import Record, RecordError, render
from .schedulers.job import Answer
from .sessions import Publication
from .sockets import NEWEST, SessionDirectory, base_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from .home import Home

GRACE = 15.0  # seconds that JupyterLab has to end after SIGTERM
_POLL = 0.05  # seconds between two looks whether JupyterLab answers
_PATIENCE = 30.0  # seconds between two lines that say it does not yet
_PORTS_TO_TRY = 20
_SCHEDULER_TIMEOUT = 60.0  # seconds that it has to tell when the job ends
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What `jlab-node run` was told."""

    name: str
    port_range: range | None = None
    jupyter: str | None = None
    sshd: str | None = None
    here: bool = False  # even outside of a job
    arguments: Sequence[str] = ()


def say(text: str) -> None:
    """One line in the job log."""
    with contextlib.suppress(OSError):  # a full disk or a closed terminal ends no session
        print(f"jlab-node: {text}", file=sys.stderr, flush=True)


def run(options: Options) -> int:
    """Run one session to its end; the exit code. Raises JlabError."""
    code = asyncio.run(_until_stopped(options))
    say(f'session "{options.name}" is over (exit code {code})')
    return code


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
    draft = _draft(options, env)
    directory = home.prepare()
    sessions.exhume(directory.sessions, draft.scheduler, draft.job_id)
    logs.remember(directory, draft.name, draft.log)
    say(f'session "{draft.name}" on {draft.node} ({draft.scheduler} job {draft.job_id})')
    async with contextlib.AsyncExitStack() as stack:
        place = stack.enter_context(
            SessionDirectory(base_path(env, draft.user), draft.name, draft.id)
        )
        children = await stack.enter_async_context(Children(grace=GRACE))
        into_the_job = _sshd_command(
            options, user=draft.user, env=env, directory=directory, place=place
        )
        record = await stack.enter_async_context(
            _endpoint(into_the_job, options.port_range, draft, place=place, children=children)
        )
        server, port = await _jupyter(
            command, options.arguments, env=env, token=draft.token, place=place, children=children
        )
        record = replace(
            record,
            port=port,
            scheme=jupyter.scheme(place.runtime),
            base_url=jupyter.base_url(place.runtime),
        )
        await stack.enter_async_context(place.relay(jupyter.HOST, port))
        publication = stack.enter_context(_published(directory, record))
        stack.enter_context(_walltime(publication, children))
        await stack.enter_async_context(exposed.serving(place, publication))
        place.ready()
        _tell_how_to_connect(record)
        return await asyncio.shield(server.ended)


def _draft(options: Options, env: Mapping[str, str]) -> Record:
    """What is known of the session before anything is started; raises JlabError."""
    job = jobs.detect(env)
    if job.scheduler == schedulers.local.NAME and not options.here:
        _refuse_outside_of_a_job(env)
    draft = Record(
        name=options.name,
        scheduler=job.scheduler,
        job_id=job.job_id,
        cluster=job.cluster,
        node=job.node,
        port=1,  # not known yet
        token=secrets.token_hex(32),
        user=home.user(),
        started=int(time.time()),
        ends_at=job.ends_at,
        log=_log_path(),
        version=version("jlab-remote"),
    )
    try:
        render(draft)  # better now than when JupyterLab is up
    except RecordError as error:
        raise JlabError(f"this session cannot be described to others: {error}") from error
    return draft


def _refuse_outside_of_a_job(env: Mapping[str, str]) -> None:
    """On a cluster's own machines, where sites kill such processes; raises JlabError."""
    site = jobs.site()
    if site is None:
        return
    scheduler = site.scheduler
    job_id = env.get(scheduler.JOB_ID)
    where = f"{socket.gethostname()} belongs to a {scheduler.TITLE} cluster"
    inherited = f" ({scheduler.JOB_ID} is set, but job {job_id} does not run here)"
    raise JlabError(
        f"{where}, and this is not in a job{inherited if job_id else ''}: "
        f"{wording.submit_one(site)}, or type `{scheduler.INSIDE}`; `jlab-node run --here` starts "
        "it all the same"
    )


def _log_path() -> str:
    """Where this process' messages go, if that is a file."""
    with contextlib.suppress(OSError):
        path = Path("/proc/self/fd/2").readlink()
        if path.is_file() and str(path).isprintable():
            return str(path)
    return ""


def _sshd_command(
    options: Options, *, user: str, env: Mapping[str, str], directory: Home, place: SessionDirectory
) -> list[str] | None:
    """What serves one ssh connection into this session; None, and said, where nothing can."""
    path = sshd.find(options.sshd)
    if path is None:
        say("no sshd here, so no `ssh` into this session: install OpenSSH's server, or use --sshd")
        return None
    keys = sshd.trusted_keys(directory.path.with_name(".ssh"))
    command = sshd.command(path, place.sshd_config)
    place.write(place.sshd_config, sshd.config(directory, user=user, env=env, user_keys=keys))
    place.write(place.enter, sshd.enter(command, owner=os.getpid()))
    try:
        sshd.check(path, place.sshd_config)
    except JlabError as error:
        if options.sshd is not None:
            raise
        say(f"{error}; so no `ssh` into this session")
        return None
    return command


@contextlib.asynccontextmanager
async def _endpoint(
    command: list[str] | None,
    ports: range | None,
    draft: Record,
    *,
    place: SessionDirectory,
    children: Children,
) -> AsyncIterator[Record]:
    """Accept ssh connections, if there is a command for them; the record says where."""
    if command is None:
        yield draft
        return
    nonce = secrets.token_hex(16)
    with endpoint.listen(ports, loopback=draft.scheduler == "local") as listener:
        serving = asyncio.ensure_future(
            endpoint.serve(
                listener, nonce=nonce, command=command, children=children, before=place.tend
            )
        )
        try:
            yield replace(
                draft,
                nonce=nonce,
                ssh_port=listener.getsockname()[1],
                sshd_config=str(place.sshd_config),
            )
        finally:
            serving.cancel()


async def _jupyter(
    command: list[str],
    extra: Sequence[str],
    *,
    env: Mapping[str, str],
    token: str,
    place: SessionDirectory,
    children: Children,
) -> tuple[Child, int]:
    """Start JupyterLab and wait until it answers: the process and its port."""
    labconfig = files.private_directory(place.settings / jupyter.PAGE_CONFIG.parent)
    place.write(labconfig / jupyter.PAGE_CONFIG.name, jupyter.PAGE_CONFIG_TEXT)
    its_env = jupyter.environment(env, token=token, runtime=place.runtime, settings=place.settings)
    for _ in range(_PORTS_TO_TRY):
        port = place.reserve_port()
        ours = jupyter.arguments(port, extra, is_root=os.geteuid() == 0)
        server = children.start([*command, *ours], env=its_env)
        if await _answers(server, port, token=token, place=place):
            return server, port
        if not endpoint.is_taken(jupyter.HOST, port):
            code = server.ended.result()
            raise JlabError(
                f"jupyter-lab ended with exit code {code} before it answered: "
                "its own messages stand above",
                code=code or FAILED,
            )
        say(f"another program took port {port} first: trying the next one")
    raise JlabError(f"{_PORTS_TO_TRY} ports in a row were taken by other programs")


async def _answers(server: Child, port: int, *, token: str, place: SessionDirectory) -> bool:
    """Wait until JupyterLab answers (True) or ends (False), however long it takes."""
    started = told = time.monotonic()
    while not server.ended.done():
        # The token goes to our own child alone, so whose socket it is comes first.
        if (
            jupyter.accepts(port)
            and jupyter.belongs_to(port, server.pid)
            and await asyncio.to_thread(jupyter.answers, port, token=token, runtime=place.runtime)
        ):
            say(f"JupyterLab answers, {time.monotonic() - started:.1f} s after its start")
            return True
        if time.monotonic() - told > _PATIENCE:
            told = time.monotonic()
            say(f"JupyterLab has not answered for {told - started:.0f} s; still waiting")
        await asyncio.wait([server.ended], timeout=_POLL)
    return False


@contextlib.contextmanager
def _published(directory: Home, record: Record) -> Iterator[Publication]:
    """The session can be found for as long as this lasts."""
    publication = Publication(directory.sessions, record)
    try:
        yield publication
    finally:
        publication.withdraw()
        submit.note_end(directory)


@contextlib.contextmanager
def _walltime(publication: Publication, children: Children) -> Iterator[None]:
    """Warn before the job's end, and publish a new end when the scheduler moves it."""
    record = publication.record
    if record.scheduler == schedulers.local.NAME:
        yield
        return

    async def ask(command: list[str]) -> Answer:
        try:
            return Answer(*await children.output(command, timeout=_SCHEDULER_TIMEOUT))
        except JlabError:  # no such command on this node, or a scheduler that does not answer
            return Answer(FAILED, "")

    def moved(ends_at: int) -> None:
        with contextlib.suppress(JlabError):  # a full disk: the old end stands, and is wrong
            publication.amend(ends_at=ends_at)

    following = asyncio.ensure_future(walltime.follow(record, ask=ask, moved=moved, say=say))
    try:
        yield
    finally:
        following.cancel()


def _tell_how_to_connect(record: Record) -> None:
    say(f"published as ~/.jlab/sessions/{record.id}")
    if record.ssh_port is None:
        return
    target = "ALIAS" if record.name == NEWEST else f"ALIAS+{record.name}"
    say("On your computer, with ALIAS for this cluster's name in your ~/.ssh/config:")
    say("  the first time    pip install jlab-remote && jlab-proxy setup ALIAS")
    say(f"  for a shell       ssh jlab+{target}")
    say(f"  in your browser   jlab-proxy open {target}")
