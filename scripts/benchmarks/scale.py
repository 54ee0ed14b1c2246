"""Many records, many sessions on a node, many connections to one."""

from __future__ import annotations

import contextlib
import re
import shlex
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from . import light
from .connections import AGAINST
from .login_node import held
from .options import say
from .report import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .options import Effort
    from .sites import Site

_LIGHT = "light.py"


def records(site: Site, effort: Effort) -> Iterator[Row]:
    """First connections with few and many records; all but one are of sessions that are over."""
    counts = (1, 100, effort.of(10_000, 1000))
    with site.sessions("lab"), _records(site, counts):
        steps = [
            {
                "name": str(count),
                "before": f"{_use(site, count)}; {site.end_masters()}",
                "command": site.ssh("jlab+near", "true"),
            }
            for count in counts
        ]
        taken = site.ask(site.laptop, "stopwatch", steps=steps, rounds=effort.rounds)
    for count in counts[1:]:
        what = f"first connect, {count} records"
        yield Row(what, "1 record", "s", taken[str(count)], taken["1"], 1.2)


@contextlib.contextmanager
def _records(site: Site, counts: Sequence[int]) -> Iterator[None]:
    site.ask(site.login, "make_records", counts=counts)
    try:
        yield
    finally:
        site.ask(site.login, "remove_records", counts=counts)


def _use(site: Site, count: int) -> str:
    """Shell command on the laptop after which the sessions are those of the directory."""
    remote = f"ln -sfn sessions-{count} .jlab/sessions"
    return shlex.join([*site.ssh("-oControlPath=none", "near"), f"cd; {remote}"])


def sessions(site: Site, effort: Effort) -> Iterator[Row]:
    """Sessions on one node, started at once; behind each is a light server: see light.py."""
    source, target = Path(light.__file__), site.home / _LIGHT
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    target.chmod(0o644)
    started: dict[int, float] = {}
    connected: dict[int, dict[str, list[float]]] = {}
    counts = (1, 10, effort.of(100, 20))
    for count in counts:
        say(f"{count} sessions on one node")
        names = [f"s{number}" for number in range(count)]
        options = f"--jupyter '{site.python} -IS {_LIGHT}'"
        with site.sessions(*names, options=options) as published:
            started[count] = max(published) / count
            connected[count] = _connect(site, names[-1], effort.rounds)
    target.unlink()
    few, many = counts[1], counts[-1]
    what = f"{many} sessions started at once, each"
    yield Row(what, f"{few} at once", "s", [started[many]], [started[few]], 1.2)
    for count in counts:
        taken = connected[count]
        flat = (
            1.2 * statistics.median(connected[1]["ours"]) / statistics.median(connected[1]["plain"])
        )
        goal = flat if count > 1 else None
        what = f"first connect, {count} sessions on the node"
        yield Row(what, AGAINST, "s", taken["ours"], taken["plain"], goal)


def _connect(site: Site, session: str, rounds: int) -> dict[str, list[float]]:
    ours = site.ssh(f"jlab+near+{session}", "true")
    steps = [
        {"name": "plain", "command": site.plain("near", "node", "true")},
        {"name": "ours", "command": ours, "before": site.end_masters()},
    ]
    taken: dict[str, list[float]] = site.ask(site.laptop, "stopwatch", steps=steps, rounds=rounds)
    return taken


def connections(site: Site, effort: Effort) -> Iterator[Row]:
    """Connections to one session, opened together from so many laptops, and held."""
    with site.sessions("lab"):
        for count in (1, 20, effort.of(100, 30)):
            say(f"{count} connections to one session")
            before = _cost(site)
            with held(site, count) as outcome:
                cost = [now - then for now, then in zip(_cost(site), before)]
            note = f"all within {outcome['seconds']:.1f} s"
            if outcome["answered"] < count:
                note = " ".join("".join(outcome["errors"]).split())
            yield Row(
                f"{count} connections to one session: of these succeed",
                "",
                "",
                [outcome["answered"]],
                goal=count,
                at_least=True,
                note=note,
            )
            for where, memory in zip(("node", "login node"), cost):
                yield Row(f"memory per connection on the {where}", "", "MB", [memory / count])


def _cost(site: Site) -> list[float]:
    """MB of what serves connections: on the node, on the login node."""
    sockets = re.search(r"^socket_dir=(.*)$", site.records()["lab"].read_text(), re.MULTILINE)
    assert sockets
    mark = 'readlink "$(dirname "$(readlink -f "$1")")/owner"'
    owner = site.run(site.node("sh", "-c", mark, "sh", f"{sockets[1]}/lab.sock"))
    on_node = site.ask(site.node, "below", pid=int(owner.split(":")[1]))
    on_login = site.ask(site.login_root, "below", pid=site.login_sshd)
    return [on_node["MB"], on_login["MB"]]
