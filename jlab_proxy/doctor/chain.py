"""`jlab-proxy doctor`: walk the chain link by link, and say which one is broken and what to do."""

from __future__ import annotations

import dataclasses
import json
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Callable

import click

from .. import paths, target
from ..cluster import client
from ..errors import FAILED, USAGE, JlabError
from . import laptop, login_node, session
from .check import FAILURE, SKIPPED, Check, broken, parse, render, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..paths import Paths
    from ..target import Target

_JSON_FORMAT = 1
_CLEAR_LINE = "\r\x1b[K"


class Chain:
    """The links up to now; what hangs on a broken one is skipped."""

    def __init__(self, paths: Paths, target: Target) -> None:
        self.paths = paths
        self.target = target
        self.checks: list[Check] = []

    def walk(self) -> Iterator[Check]:
        """Yield every link, as it is found."""
        for check in self._links():
            self.checks.append(check)
            yield check

    def _links(self) -> Iterator[Check]:
        paths, target = self.paths, self.target
        yield laptop.ssh_version()
        yield laptop.permissions(paths)
        yield self._unless_broken("config", ["ssh"], lambda: laptop.config(paths, target))
        yield laptop.key(paths, target)
        yield laptop.block(paths, target)
        yield self._unless_broken("block order", ["block"], lambda: laptop.order(paths, target))
        needs = ["config", "block"]
        yield self._unless_broken("block in force", needs, lambda: laptop.in_force(paths, target))
        yield self._unless_broken("local port", ["block"], lambda: laptop.local_port(paths, target))
        yield from self._login_node()
        needs = ["permissions", "key", "block in force", "cluster side", "pinned key", "node"]
        first = self._first_broken(*needs)
        if first:
            yield skipped("way in", first)
            yield skipped("JupyterLab", "way in")
        else:
            yield from session.look(paths, target)

    def _login_node(self) -> Iterator[Check]:
        """Yield the links that one connection to the login node finds out."""
        result = None
        if self._first_broken("config"):
            yield skipped("login node", "config")
        else:
            try:
                cluster = client.resolve(self.paths, self.target.alias)
                check, result = login_node.login_node(cluster)
            except JlabError as error:
                remedy = f"`ssh {self.target.alias}` has to work first"
                check = broken("login node", error, remedy=remedy)
            yield check
        if result is None:
            yield skipped("login shell", "login node")
            yield skipped("cluster side", "login node")
            return
        yield login_node.shell(result, self.target.alias)
        if self._first_broken("login shell"):
            yield skipped("cluster side", "login shell")
            return
        yield from self._cluster_side(cluster)

    def _cluster_side(self, cluster: client.ClusterClient) -> Iterator[Check]:
        alias = self.target.alias
        check, answer = login_node.cluster_side(cluster)
        try:
            found = parse(answer, alias=alias) if answer else []
        except JlabError as error:
            check, answer = broken("cluster side", error), {}
        yield check
        if not answer:
            return
        yield login_node.versions(answer, alias)
        ours = {"pinned key", "way in", "JupyterLab", *(each.check for each in self.checks)}
        for each in found:  # none of them stands for one of ours
            name = f"{each.check} (cluster)" if each.check in ours else each.check
            yield dataclasses.replace(each, check=name)
        yield self._unless_broken(
            "pinned key", ["block"], lambda: login_node.pinned_key(self.paths, self.target, answer)
        )

    def _unless_broken(self, name: str, needs: list[str], look: Callable[[], Check]) -> Check:
        first = self._first_broken(*needs)
        return skipped(name, first) if first else look()

    def _first_broken(self, *names: str) -> str:
        """Return the first of these links that has failed or was not looked at; "" if none."""
        good = {each.check for each in self.checks if each.state not in (FAILURE, SKIPPED)}
        return next((name for name in names if name not in good), "")


def report(paths: Paths, target: Target, *, as_json: bool) -> int:
    """Print every link as it is found, or all of them as JSON; return the exit code."""
    chain = Chain(paths, target)
    waiting = sys.stdout.isatty() and not as_json
    hint = "         ..."
    click.echo(hint, nl=False) if waiting else None
    for check in chain.walk():
        if not as_json:
            click.echo(f"{_CLEAR_LINE if waiting else ''}{render(check)}")
            click.echo(hint, nl=False) if waiting else None
    click.echo(_CLEAR_LINE, nl=False) if waiting else None
    if as_json:
        checks = [dataclasses.asdict(each) for each in chain.checks]
        about = {"format": _JSON_FORMAT, "version": version("jlab-remote")}
        print(json.dumps({**about, "checks": checks}))
    return FAILED if any(each.state == FAILURE for each in chain.checks) else 0


def run(alias: str, *, as_json: bool, config: str | None) -> int:
    """Print how each link of the chain to the cluster is; return the exit code.

    `config`: the ssh config file; None: ssh's own. Raises JlabError.
    """
    where = target.parse(alias)
    if where.session:
        raise JlabError(
            f"doctor looks at all of {where.alias}",
            remedy=f"leave out +{where.session}",
            exit_code=USAGE,
        )
    return report(paths.locate(config), where, as_json=as_json)
