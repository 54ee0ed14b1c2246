"""What `jlab-node doctor` looks at on this machine: programs, directories, scheduler, home."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from ..errors import JlabError
from ..files import private
from ..jobs import scheduler_client
from ..registry import home
from ..runtime import runtime_directory
from ..schedulers.base import State
from ..session.jupyter import program
from ..session.ssh import sshd
from ..version import VERSION
from .check import FAILURE, OK, SKIPPED, WARNING, Check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..jobs.site import Site
    from ..registry.home import Home

_SAMPLE = b"x" * 65536  # more than what some file systems keep beside a file's name
_LITTLE_SPACE = 200 << 20  # bytes: JupyterLab alone writes some
_QUOTA_TIMEOUT = 5.0  # seconds


def this_program() -> Check:
    """Tell which jlab-node this is."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = f"{VERSION} on {os.uname().nodename}, Python {python}: {sys.executable}"
    return Check("jlab-node", OK, found)


def jlab_directory(directory: Home) -> Check:
    """Tell whether ~/.jlab is complete, current, and closed to others."""
    for state, found, remedy in sorted(_flaws(directory), key=lambda flaw: flaw[0] != FAILURE):
        return Check("~/.jlab", state, found, remedy)
    return Check("~/.jlab", OK, f"{directory.path} is complete, and closed to others")


def _flaws(directory: Home) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong in ~/.jlab: state, what was found, remedy."""
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
    """Tell whether sessions can have an ssh endpoint, as far as nodes are like this machine."""
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
    """Tell whether a job would find jupyter-lab, as far as its environment is like this one."""
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
    """Tell which scheduler there is, and whether it answers."""
    if site is None:
        return Check("scheduler", OK, "there is none: a plain server")
    title = site.scheduler.DISPLAY_NAME
    mine = scheduler_client.list_jobs(site.scheduler, user)
    if mine is None and shutil.which(site.scheduler.PROBE_PROGRAM) is None:
        return Check(
            "scheduler",
            FAILURE,
            f"{title}'s commands are not on PATH in a shell that ssh starts",
            "set PATH in ~/.bashrc, before it returns for shells that are not interactive; or type "
            "`jlab-node setup` once in a shell that has them",
        )
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
    """Tell whether sessions could have their directory here, as far as nodes are like this."""
    try:
        runtime_dir = runtime_directory.locate(os.environ, user)
        runtime_directory.check(runtime_dir)
    except JlabError as error:
        state = FAILURE if on_a_node else WARNING
        return Check("sockets", state, error.problem, error.remedy)
    return Check("sockets", OK, f"{runtime_dir} cannot be changed by other users")


def home_directory(path: Path) -> Check:
    """Tell how much space is free, and whether a file can really be written.

    Quotas are told by nothing else.
    """
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
    """Tell what `quota -q` prints: nothing, unless some limit is exceeded."""
    if shutil.which("quota") is None:
        return Check("quota", SKIPPED, "there is no quota command here")
    answer = scheduler_client.ask(["quota", "-q"], timeout=_QUOTA_TIMEOUT)
    said = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if said:
        return Check("quota", WARNING, said[0], "make room: `quota` says how much, and where")
    if answer.code:
        return Check("quota", SKIPPED, f"not known: {scheduler_client.error_message(answer)}")
    return Check("quota", OK, "no limit is exceeded")
