"""What an open connection costs on the login node, and what a connect asks of the scheduler."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

from .report import NotMeasured, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Effort
    from .sites import Site

_COMMANDS = ("squeue", "scontrol", "sinfo", "sacct", "srun", "sbatch", "scancel")
_COUNTER = "/tmp/bench-queries"


def measure(site: Site, effort: Effort) -> Iterator[Row | NotMeasured]:
    count = effort.of(10, 2)
    with site.sessions("lab"):
        site.run(site.laptop("sh", "-c", site.end_masters()))
        with held(site, count):
            opened = _processes(site)
            pause = effort.of(20, 1)
            time.sleep(pause)  # how long is part of the figure
            later = _processes(site)
        yield Row(
            "login node: processes per open connection",
            "",
            "",
            [opened["count"] / count],
            goal=1,
            note="two cats and a bash: with one cat, a killed laptop leaves it until sshd notices",
        )
        yield Row("login node: CPU to open one", "", "ms", [1000 * opened["CPU"] / count])
        yield Row(
            f"login node: CPU of one open for {pause} s",
            "",
            "ms",
            [1000 * (later["CPU"] - opened["CPU"]) / count],
            goal=0,
        )
        yield _queries(site, count)


def _processes(site: Site) -> dict[str, float]:
    """Those on the login node that are not sshd's."""
    found: dict[str, float] = site.ask(site.login, "below", pid=site.login_sshd, without="sshd")
    return found


@contextlib.contextmanager
def held(site: Site, count: int) -> Iterator[dict[str, Any]]:
    """So many connections, held open; at the end the dictionary says how they went."""
    outcome: dict[str, Any] = {}
    # Each on its own, as from so many laptops.
    command = site.ssh("-oProxyCommand=" + _unshared(site), "jlab+near")
    process = subprocess.Popen(
        site.laptop(*site.probe("at_once")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    print(json.dumps({"command": command, "count": count}), file=process.stdin, flush=True)
    if process.stdout.readline() != "open\n":
        raise RuntimeError(f"{count} connections could not be opened")
    yield outcome
    said, _ = process.communicate("end\n")
    outcome.update(json.loads(said))


def _unshared(site: Site) -> str:
    program = site.python.rpartition("/")[0] + "/jlab-proxy"
    return f"{program} connect %h --no-share -F {site.config}"


def _queries(site: Site, count: int) -> Row | NotMeasured:
    """Scheduler commands per connect, counted by programs that come first on PATH."""
    what = "login node: scheduler queries per connect"
    if not site.has_scheduler:
        return NotMeasured(what, "there is no scheduler here")
    with _counted(site):
        steps = [{"name": "x", "command": site.ssh("jlab+near", "true"), "before": ":"}]
        site.ask(site.laptop, "stopwatch", steps=steps, rounds=count)
        to_session = _counter(site)
        missing = site.laptop(*site.ssh("jlab+near+none", "true"))
        subprocess.run(missing, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        without = _counter(site) - to_session
    if not without:
        return NotMeasured(what, "the counter counts nothing")
    note = f"to a session that is not there: {without:g}"
    return Row(what, "", "", [to_session / count], goal=0, note=note)


@contextlib.contextmanager
def _counted(site: Site) -> Iterator[None]:
    make = "".join(
        f"""printf '%s\\n' '#!/bin/sh' 'echo {each} >>{_COUNTER}' 'exec /usr/bin/{each} "$@"' \
>/usr/local/bin/{each} && chmod 755 /usr/local/bin/{each} || exit
"""
        for each in _COMMANDS
    )
    site.run(site.login_root("sh", "-c", f"touch {_COUNTER}; chmod 666 {_COUNTER}; {make}"))
    try:
        yield
    finally:
        remove = f"cd /usr/local/bin && rm -f {' '.join(_COMMANDS)} {_COUNTER}"
        site.run(site.login_root("sh", "-c", remove))


def _counter(site: Site) -> float:
    return float(site.run(site.login("sh", "-c", f"cat {_COUNTER} 2>/dev/null | wc -l")))
