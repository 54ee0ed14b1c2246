"""What the machine and whoever runs this have, and neither demo nor bench nor a test depends on."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

# What is left of the environment: who and where one is, and how pip finds its packages.
_KEPT = re.compile(
    "PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_.*|TERM|TZ|LD_LIBRARY_PATH|DEBIAN_FRONTEND|CI"
    "|(PIP|SSL|REQUESTS|CURL|PYTEST|HYPOTHESIS|COVERAGE)_.*|JLAB_SCREENSHOT"
)
# Commands of a scheduler, which may even answer; and here nobody is in a job or has one.
_SCHEDULERS = re.compile(
    "s(acct|acctmgr|alloc|attach|batch|bcast|cancel|control|diag|info|prio|queue|report|run|stat)"
    "|oar[a-z_]+|pbs[a-z_]+|q(acct|alter|conf|del|host|hold|login|mgr|mod|release|rerun|rls|rsh"
    "|run|select|sh|sig|stat|sub)|b(hist|hosts|jobs|kill|mod|peek|queues|stop|sub)|ls(id|load)"
)
# The way to a package index, for those who ask one: all else goes on on this machine.
PROXIES = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}


def leave() -> None:
    """Clean this process' environment and umask, for itself and for its children."""
    for name in list(os.environ):
        if not _KEPT.fullmatch(name):
            del os.environ[name]
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(map(_without_schedulers, directories))
    os.umask(0o022)


def _without_schedulers(directory: str) -> str:
    """The same; or, where a scheduler's commands are, one with links to the other commands."""
    try:
        programs = list(Path(directory).absolute().iterdir())
    except OSError:
        return directory
    kept = [each for each in programs if not _SCHEDULERS.fullmatch(each.name)]
    if len(kept) == len(programs):
        return directory
    instead = Path(tempfile.mkdtemp(prefix="jl-path-", dir="/tmp"))
    atexit.register(shutil.rmtree, instead)
    instead.chmod(0o755)  # some tests are other users for a while
    for each in kept:
        (instead / each.name).symlink_to(each)
    return str(instead)
