"""`jlab-node doctor`: the cluster's links of the chain, one after the other. It only looks."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .. import schedulers
from ..connect import routes
from ..errors import FAILED, JlabError, sanitize
from ..files import private
from ..jobs import detection, messages, scheduler_client, session_jobs, snapshots
from ..registry import home, records
from ..runtime import runtime_directory
from ..schedulers.base import State
from ..session.jupyter import program
from ..session.ssh import sshd
from ..version import VERSION
from .json_output import print_json
from .setup import about

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ..jobs.site import Site
    from ..registry.home import Home
    from ..registry.record import Record
    from ..registry.records import InvalidRecord, StoredRecord

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"

_SAMPLE = b"x" * 65536  # more than what some file systems keep beside a file's name
_LITTLE_SPACE = 200 << 20  # bytes: JupyterLab alone writes some
_QUOTA_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Check:
    """A link: what it is like, and unless it is ok what to do. Skipped: another comes first."""

    check: str
    state: str
    found: str
    remedy: str = ""


def doctor(*, as_json: bool) -> int:
    """Print how each link of the chain on this side is; the exit code."""
    checks = []
    for check in examine():
        checks.append(check)
        if not as_json:
            print(render(check), flush=True)
    if as_json:
        host_key = about(home.state_dir())["host_key"]
        print_json({"host_key": host_key, "checks": [asdict(check) for check in checks]})
    return FAILED if any(check.state == FAILURE for check in checks) else 0


def examine() -> Iterator[Check]:
    """Each link on this side, in the order in which a connection needs them."""
    directory, user, site = home.state_dir(), home.user(), detection.site()
    yield this_program()
    yield jlab_directory(directory)
    yield sshd_program()
    yield jupyter_program()
    yield scheduler(site, user)
    yield sockets_directory(user, on_a_node=site is None)
    yield home_directory(directory.path.parent)
    yield quota()
    published, unreadable = records.read_all(directory.sessions)
    living = snapshots.alive(published, user)
    yield session_records(published, living, unreadable)
    here = [each.record for each in living if session_jobs.is_on_this_cluster(each.record)]
    elsewhere = [each.record for each in living if not session_jobs.is_on_this_cluster(each.record)]
    yield session(here, elsewhere, site)
    yield node(here[0]) if here else Check("node", SKIPPED, "there is no session to reach")


def render(check: Check) -> str:
    """As a person reads it: the line, and under it the remedy."""
    line = f"{check.state:8} {check.check:12} {check.found}"
    return line if not check.remedy else f"{line}\n{'':21} -> {check.remedy}"


def this_program() -> Check:
    """Which jlab-node this is."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = f"{VERSION} on {os.uname().nodename}, Python {python}: {sys.executable}"
    return Check("jlab-node", OK, found)


def jlab_directory(directory: Home) -> Check:
    """~/.jlab: complete, current, and closed to others."""
    for state, found, remedy in sorted(_flaws(directory), key=lambda flaw: flaw[0] != FAILURE):
        return Check("~/.jlab", state, found, remedy)
    return Check("~/.jlab", OK, f"{directory.path} is complete, and closed to others")


def _flaws(directory: Home) -> Iterator[tuple[str, str, str]]:
    """What is wrong in ~/.jlab: state, what was found, remedy."""
    secret = (directory.host_key, directory.authorized_keys)
    scripts = (directory.path / "connect", directory.path / "jlab-node")
    for path in (directory.path, directory.sessions, *secret, *scripts):
        if not path.exists():
            yield FAILURE, f"{path} is missing", "type `jlab-node setup`"
            continue
        found = path.stat()
        if found.st_uid != os.geteuid():
            yield FAILURE, f"{path} is another user's", f"remove {path}; then `jlab-node setup`"
        elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield (
                FAILURE,
                f"{path} can be written by other users",
                f"look at what is in it, then `chmod go-rwx {path}`",
            )
        elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) and path not in scripts:
            # sshd takes no such host key; the rest is only read.
            state = FAILURE if path == directory.host_key else WARNING
            yield state, f"{path} is open to other users", f"`chmod go-rwx {path}`"
    if scripts[0].exists() and scripts[0].read_text("utf-8", "replace") != home.connect_script():
        yield WARNING, f"{scripts[0]} is of another version", "type `jlab-node setup`"


def sshd_program() -> Check:
    """Whether sessions can have an ssh endpoint, as far as this machine is like the nodes."""
    path = sshd.find(None)
    if path:
        return Check("sshd", OK, path)
    return Check(
        "sshd",
        WARNING,
        "there is none on this machine",
        "compute nodes need OpenSSH's sshd program: if they have none either, ask for "
        "openssh-server, or name one with `jlab-node run --sshd PATH`",
    )


def jupyter_program() -> Check:
    """Whether a job would find jupyter-lab, as far as its environment is like this one."""
    try:
        return Check("jupyter-lab", OK, program.find_command(None)[0])
    except JlabError:
        return Check(
            "jupyter-lab",
            WARNING,
            "it is neither on PATH in a login shell nor beside jlab-node",
            "activate its environment in the job before `jlab-node run`, or install it where "
            "jlab-node is: pip install jupyterlab",
        )


def scheduler(site: Site | None, user: str) -> Check:
    """Which one there is, and whether it answers."""
    if site is None:
        return Check("scheduler", OK, "there is none: a plain server")
    title = site.scheduler.DISPLAY_NAME
    mine = scheduler_client.list_jobs(site.scheduler, user)
    if mine is None:
        return Check(
            "scheduler",
            FAILURE,
            f"{title} does not answer",
            f"wait, or ask your site: `{site.scheduler.PROBE_PROGRAM}` has to work",
        )
    waiting = sum(each.state is State.QUEUED for each in mine)
    running = sum(each.state is State.RUNNING for each in mine)
    name = f"{title}, cluster {site.cluster}" if site.cluster else title
    return Check("scheduler", OK, f"{name}; jobs of yours: {running} running, {waiting} queued")


def sockets_directory(user: str, *, on_a_node: bool) -> Check:
    """Whether sessions could have their directory here, as far as nodes are like this machine."""
    try:
        runtime_dir = runtime_directory.locate(os.environ, user)
        runtime_directory.check(runtime_dir)
    except JlabError as error:
        state = FAILURE if on_a_node else WARNING
        return Check("sockets", state, error.problem, error.remedy)
    return Check("sockets", OK, f"{runtime_dir} cannot be changed by other users")


def home_directory(path: Path) -> Check:
    """Free space, and whether a file can really be written: quotas are told by nothing else."""
    began = time.monotonic()
    try:
        with tempfile.NamedTemporaryFile(prefix=".jlab-", dir=path) as file:
            file.write(_SAMPLE)
            file.flush()
            os.fsync(file.fileno())
        space = os.statvfs(path)
    except OSError as error:
        return Check(
            "home",
            FAILURE,
            f"a file of {len(_SAMPLE) >> 10} KiB cannot be written in {path}: {error.strerror}",
            "make room there: remove or move files until your quota allows more"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "ask your site: no session can start without a home directory",
        )
    took = (time.monotonic() - began) * 1000
    others = private.other_writers(path)
    if others:
        return Check(
            "home",
            WARNING,
            f"{path} can be written by {others}, who can then act as you",
            f"`chmod go-w {path}`",
        )
    free = space.f_bavail * space.f_frsize
    found = f"{path} has {_size(free)} free; writing {len(_SAMPLE) >> 10} KiB took {took:.0f} ms"
    if free < _LITTLE_SPACE:
        return Check("home", WARNING, found, "make room there before it is full")
    return Check("home", OK, found)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.0f} TiB"


def quota() -> Check:
    """What `quota -q` says: nothing, unless some limit is exceeded."""
    if shutil.which("quota") is None:
        return Check("quota", SKIPPED, "there is no quota command here")
    answer = scheduler_client.ask(["quota", "-q"], timeout=_QUOTA_TIMEOUT)
    said = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if said:
        return Check("quota", WARNING, said[0], "make room: `quota` says how much, and where")
    if answer.code:
        return Check("quota", SKIPPED, f"not known: {scheduler_client.error_message(answer)}")
    return Check("quota", OK, "no limit is exceeded")


def session_records(
    published: Sequence[StoredRecord],
    living: Sequence[StoredRecord],
    unreadable: Sequence[InvalidRecord],
) -> Check:
    """The files in ~/.jlab/sessions."""
    for broken in unreadable:
        return Check(
            "records",
            WARNING,
            f"{records.shown_name(broken.path)} is no use: {broken.reason}",
            f"remove it: rm {shlex.quote(str(broken.path))}",
        )
    over = [each.record.id for each in published if each not in living]
    if over:
        return Check(
            "records",
            WARNING,
            f"the job of {', '.join(over)} has ended, but its record is still there",
            "nothing: the next `ssh jlab+ALIAS` says how it ended, and removes the record",
        )
    return Check("records", OK, f"{len(published)}, and all can be read")


def session(here: Sequence[Record], elsewhere: Sequence[Record], site: Site | None) -> Check:
    """The newest one, which `ssh jlab+ALIAS` goes to."""
    if here:
        record = here[0]
        more = f", and {len(here) - 1} more" if len(here) > 1 else ""
        job = f"{record.scheduler} job {record.job_id}"
        return Check("session", OK, f"{record.name} on {record.node}, {job}{more}")
    found = messages.other_cluster(elsewhere[0]) if elsewhere else "none is running"
    return Check("session", WARNING, found, f"start one: `{messages.how_to_start(site)}`")


def node(record: Record) -> Check:
    """Every route to the node of the session."""
    if record.ssh_port is None:
        return Check(
            "node",
            FAILURE,
            f"the session on {record.node} has no sshd to let you in",
            "its job log says why; name an sshd with `jlab-node run --sshd PATH`",
        )
    rungs = list(_routes(record))
    found = f"{record.node}: " + "; ".join(f"{name}: {result}" for name, result, _ in rungs)
    open_ones = [name for name, _, is_open in rungs if is_open]
    if "tcp" in open_ones:
        return Check("node", OK, sanitize(found))
    if open_ones:
        remedy = (
            "nothing must be done; ports that pass from login to compute nodes would be quicker: "
            "jlab-node run --port-range LO-HI"
        )
        return Check("node", WARNING, sanitize(found), remedy)
    remedy = f"if the job hangs, end it with `jlab-node stop {record.id}` and start another"
    if record.scheduler != schedulers.local.NAME:
        remedy += "; if the node is up, ask your site which ports pass (--port-range)"
    return Check("node", FAILURE, sanitize(found), remedy)


def _routes(record: Record) -> Iterator[tuple[str, str, bool]]:
    """Yield each route's name, what came of it, and whether it leads to the session."""
    began = time.monotonic()
    try:
        routes.tcp(record).connection.close()
        yield "tcp", _milliseconds(began), True
    except (routes.RouteUnavailable, routes.SessionEnded) as error:
        yield "tcp", f"{error} (port {record.ssh_port})", False
    if record.scheduler == schedulers.local.NAME:
        return
    unresponsive = time.monotonic() - began >= routes.TCP_TIMEOUT
    try:
        for route in routes.fallback_routes(
            record, home.state_dir().path, unresponsive=unresponsive
        ):
            began = time.monotonic()
            try:
                routes.via_command(route.command, timeout=route.timeout).connection.close()
                yield route.name, _milliseconds(began), True
            except (routes.RouteUnavailable, routes.SessionEnded) as error:
                yield route.name, str(error).removeprefix(f"{route.name}: "), False
    except routes.RouteUnavailable as unavailable:
        yield "other ways", str(unavailable), False


def _milliseconds(began: float) -> str:
    return f"answers in {(time.monotonic() - began) * 1000:.0f} ms"
