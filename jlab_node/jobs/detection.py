"""Where this process is: in which job, on which cluster's machine, or on a plain server."""

from __future__ import annotations

import functools
import math
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .. import schedulers
from ..registry import home
from ..schedulers import local
from ..schedulers.base import Machine
from . import scheduler_client
from .site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schedulers.base import Job, Scheduler

_MAX_SITE_AGE = 86400.0  # seconds
_MAX_SITE_MEMORY = 30 * 86400.0  # seconds in which a cluster without its commands is one


def detect(env: Mapping[str, str]) -> Job:
    """Return the job that this process runs in, as far as the environment tells."""
    machine = Machine(socket.gethostname(), os.getpid(), is_here, scheduler_client.read_text)
    for scheduler in schedulers.TABLE.values():
        job = scheduler.detect(env, machine)
        if job is not None:
            return job
    raise AssertionError("local takes every process")


def is_here(node: str) -> bool:
    """Return whether this machine is the node of that name."""
    if node.partition(".")[0] == socket.gethostname().partition(".")[0]:
        return True
    try:
        named = {str(info[4][0]) for info in socket.getaddrinfo(node, None)}
    except (OSError, UnicodeError):
        return False
    ours = {each.address for found in psutil.net_if_addrs().values() for each in found}
    return bool(named & ours)


@functools.cache
def site() -> Site | None:
    """Return the cluster that this machine belongs to; None: it is a plain server.

    That is found out once a day, by asking the scheduler.
    """
    candidates = _candidates()
    if not candidates:
        return _remembered(candidates)
    directory = home.state_dir()
    name, cluster, age = home.remembered_site(directory) or ("", "", math.inf)
    if name in candidates and 0 <= age < _MAX_SITE_AGE:
        return Site(candidates[name], cluster)
    scheduler = _first_responding(candidates)
    if scheduler is None:  # not now
        return _remembered(candidates)
    command = scheduler.cluster_command()
    found = scheduler.parse_cluster(scheduler_client.ask(command)) if command else ""
    if command and not found:  # it does not answer just now
        return Site(scheduler, cluster if name == scheduler.NAME else "")
    home.remember_site(directory, scheduler.NAME, found)
    return Site(scheduler, found)


def remembered_site() -> Site | None:
    """Return the cluster that was here last, else the first that may be; ask nobody."""
    return _remembered(_candidates())


def _remembered(candidates: Mapping[str, Scheduler]) -> Site | None:
    name, cluster, age = home.remembered_site(home.state_dir()) or ("", "", math.inf)
    if name in candidates:
        return Site(candidates[name], cluster)
    if candidates:
        return Site(next(iter(candidates.values())), "")
    # It is no plain server only because its commands are out of reach in this shell.
    is_known = name in schedulers.TABLE and 0 <= age < _MAX_SITE_MEMORY
    return Site(schedulers.TABLE[name], cluster) if is_known else None


def _candidates() -> dict[str, Scheduler]:
    """Return the schedulers whose programs are on PATH, by their names.

    Where there are none, but there were, their directory is put on this process's PATH.
    """
    directory = home.state_dir()
    found = _on_path()
    if found:
        program = next(iter(found.values())).PROBE_PROGRAM
        home.remember_commands(directory, str(Path(shutil.which(program) or "").parent))
        return found
    remembered = home.remembered_commands(directory)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if remembered and remembered not in path:
        os.environ["PATH"] = os.pathsep.join([*path, remembered])
        found = _on_path()
    return found


def _on_path() -> dict[str, Scheduler]:
    return {
        name: each
        for name, each in schedulers.TABLE.items()
        if each is not local and shutil.which(each.PROBE_PROGRAM)
    }


def _first_responding(candidates: Mapping[str, Scheduler]) -> Scheduler | None:
    """Return the first that answers; None: none does.

    Several may be there: old commands that were left, or another scheduler's in disguise.
    """
    everyone = list(candidates.values())
    if len(everyone) == 1:
        return everyone[0]
    user = home.user()
    answering = (each for each in everyone if scheduler_client.list_jobs(each, user) is not None)
    return next(answering, None)
