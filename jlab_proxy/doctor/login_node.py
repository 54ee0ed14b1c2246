"""`doctor`'s links on the login node: the way there, its shell, the cluster side."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .. import ssh
from ..cluster import client
from ..cluster.bounded_output import Running
from ..errors import JlabError, printable
from ..ssh_config import keys, text_file
from .check import FAILURE, OK, WARNING, Check, broken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cluster.client import ClusterClient
    from ..paths import Paths
    from ..target import Target

_LOGIN_TIMEOUT = 40.0  # seconds: a bastion before it may take as long as itself
_CLUSTER_TIMEOUT = 120.0  # seconds: it asks a scheduler, and tries ways that may be dead
_MARK = "jlab-doctor-is-here"
_BAD_USAGE, _UNAVAILABLE = 2, 69  # exit codes of jlab-node
# The remedy that ~/.jlab/jlab-node names if its Python is gone, in all versions.
_WITHOUT_PYTHON = "install jlab-remote again on this cluster, then type jlab-node setup there"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}")


@dataclass(frozen=True)
class CommandResult:
    """What a command printed, and how it ended."""

    code: int | None  # None: it did not, in time
    stdout: str
    stderr: str
    milliseconds: int

    @property
    def reason(self) -> str:
        """The last thing that it complained of."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        if lines:
            return printable(lines[-1]).removeprefix("jlab-node: ")
        return "no answer in time" if self.code is None else f"exit code {self.code}"


def run(words: Sequence[str], *, timeout: float) -> CommandResult:
    """Run a command that asks nobody anything: it has no terminal."""
    began = time.monotonic()
    with running_process(words) as process:
        code = process.wait(timeout)
        took = int((time.monotonic() - began) * 1000)
        return CommandResult(code, process.stdout, process.stderr, took)


def running_process(words: Sequence[str]) -> Running:
    """Start a process that ends with the context, as do its children. It submits no job."""
    return Running(words, group=True, env={**os.environ, ssh.OPEN: "1"})


def _batch(cluster: ClusterClient, remote: str, *options: str) -> list[str]:
    first, *others = ssh.command(
        cluster.paths, cluster.alias, remote, share=cluster.share, batch=True
    )
    return [first, *options, *others]


def login_node(cluster: ClusterClient) -> tuple[Check, CommandResult | None]:
    """Check whether the login node lets us in unasked; return what its shell printed, too."""
    shared = run(_batch(cluster, "", "-Ocheck"), timeout=_LOGIN_TIMEOUT).code == 0
    # What comes before the mark is the login shell's.
    result = run(_batch(cluster, f"exec sh -c 'echo {_MARK} $SHELL'"), timeout=_LOGIN_TIMEOUT)
    if result.code in (255, None):
        return why_unreachable(result, cluster), None
    how = "over a connection that is open" if shared else "with a new connection"
    return Check(
        "login node", OK, f"{cluster.alias} answers in {result.milliseconds} ms, {how}"
    ), result


def why_unreachable(result: CommandResult, cluster: ClusterClient) -> Check:
    """Return the check that says why the login node did not let us in."""
    alias = cluster.alias
    denied = re.search(r"Permission denied \(([a-z0-9@.,-]+)\)", result.stderr)
    if denied and {"password", "keyboard-interactive"} & set(denied[1].split(",")):
        opener = f"ssh jlab+{alias}" if cluster.share else f"ssh {alias}"
        return Check(
            "login node",
            FAILURE,
            f"{alias} asks for a password or a second factor, and no connection is open yet",
            f"open one first: `{opener}`; or set up a key there: `ssh-copy-id {alias}`",
        )
    if denied:
        remedy = f"`ssh {alias}` has to work first: see `ssh -v {alias}` for the keys it offers"
        return Check("login node", FAILURE, f"{alias} refuses your keys: {denied[0]}", remedy)
    if "Host key verification failed" in result.stderr:
        remedy = f"log in with `ssh {alias}`, and see what it says of the host key"
        found = f"{alias}'s host key is not known, or another than before"
        return Check("login node", FAILURE, found, remedy)
    remedy = f"`ssh {alias}` has to work first"
    return Check("login node", FAILURE, f"no connection to {alias}: {result.reason}", remedy)


def shell(result: CommandResult, alias: str) -> Check:
    """Check whether the login shell runs a command, and prints nothing of its own before."""
    before, mark, after = result.stdout.partition(_MARK)
    name = "login shell"
    if not mark:
        first = printable(result.stdout.strip().partition("\n")[0][:60]) or result.reason
        remedy = f"`ssh {alias} echo hello` has to print hello: ask your site if it does not"
        return Check(name, FAILURE, f"it did not run a command: {first}", remedy)
    program = printable(after.partition("\n")[0].strip()) or "it"
    if not before:
        return Check(name, OK, f"{program} prints nothing of its own")
    first = printable(before.strip().partition("\n")[0][:60])
    remedy = (
        f"on {alias}: let the rc files of the shell (such as ~/.bashrc) print only where there "
        "is a terminal: [ -t 1 ] && echo ..."
    )
    if before.endswith("\n"):
        return Check(name, WARNING, f"{program} prints before each command: {first}", remedy)
    # ssh would not see where the other side's first line begins.
    return Check(
        name, FAILURE, f"{program} prints half a line before each command: {first}", remedy
    )


def cluster_side(cluster: ClusterClient) -> tuple[Check, dict[str, Any]]:
    """Check whether `jlab-node doctor` runs there, and its answer; {} if it does not."""
    alias, name = cluster.alias, "cluster side"
    remote = ssh.remote_command("jlab-node", ["doctor", "--json"], alias=alias)
    result = run(_batch(cluster, remote), timeout=_CLUSTER_TIMEOUT)
    if result.code == _BAD_USAGE:
        found = f"jlab-remote on {alias} is older than on this computer, and has no doctor"
        remedy = f"on {alias}: pip install -U jlab-remote && jlab-node setup"
        return Check(name, FAILURE, found, remedy), {}
    try:
        answer = client.parse(result.stdout, alias=alias)
    except JlabError as error:
        if result.code == 0:
            return broken(name, error), {}
        return Check(name, FAILURE, *_why_it_fails(result, alias)), {}
    return Check(name, OK, f"jlab-node answers on {alias}"), answer


def _why_it_fails(result: CommandResult, alias: str) -> tuple[str, str]:
    """Return problem and remedy of a jlab-node that gave no answer."""
    if result.code == _UNAVAILABLE:
        if refusal := ssh.refusal(result.reason, alias=alias):
            return refusal
        if result.reason.endswith(f": {_WITHOUT_PYTHON}"):
            return result.reason[: -len(f": {_WITHOUT_PYTHON}")], _WITHOUT_PYTHON
    remedy = f"on {alias}: `sh ~/.jlab/jlab-node doctor` has to work; `jlab-node setup` mends it"
    return f"jlab-node fails on {alias}: {result.reason}", remedy


def versions(answer: dict[str, Any], alias: str) -> Check:
    """Check whether both sides are the same: they need not be."""
    here, given = version("jlab-remote"), answer.get("version")
    theirs = given if isinstance(given, str) and _VERSION.fullmatch(given) else "unknown"
    if here == theirs:
        return Check("versions", OK, f"{here} here and on {alias}")
    remedy = "nothing, if all works; else pip install -U jlab-remote on both sides"
    return Check("versions", WARNING, f"{here} here, {theirs} on {alias}", remedy)


def pinned_key(paths: Paths, target: Target, answer: dict[str, Any]) -> Check:
    """Check whether the key that sessions there have is the one that we expect."""
    name, real = "pinned key", answer.get("host_key")
    if not keys.is_host_key(real):
        remedy = f"on {target.alias}: jlab-node setup"
        return Check(name, FAILURE, f"sessions on {target.alias} have no host key", remedy)
    pinned = keys.pinned(text_file.read(paths.known_hosts), target)
    if pinned == real:
        return Check(name, OK, "the sessions' host key is the one in ~/.jlab there")
    found = "none is pinned" if pinned is None else "another than that in ~/.jlab there is pinned"
    remedy = (
        f"if you have removed ~/.jlab there or never ran it: jlab-proxy setup {target.alias}; "
        "else somebody stands in between: ask your site"
    )
    return Check(name, FAILURE, f"{paths.known_hosts}: {found}", remedy)
