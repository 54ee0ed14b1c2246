"""Everything but the connection itself that runs on the login node, over the user's own ssh."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import messages, ssh
from ..errors import JlabError, printable
from . import bounded_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import IO, Callable

    from ..paths import Paths

JSON_FORMAT = 1  # the newest that is understood here

_SSH_FAILED = 255
_USAGE_ERROR = 2
_NODE_PREFIX = "jlab-node: "
_LOCAL_SSH_TIMEOUT = 10.0  # seconds for an ssh of this computer to obey
_UNATTENDED_TIMEOUT = 600.0  # seconds for an answer to nobody: a submission may take its time


@dataclass(frozen=True)
class ClusterClient:
    """Runs commands on a cluster's login node, as the user's ssh knows it."""

    paths: Paths
    alias: str
    share: bool  # keep the connection for later ones: unless the user's alias does so already

    def call(
        self,
        verb: str,
        *arguments: str,
        stdin: str = "",
        batch: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Return what `jlab-node VERB --json` answers there; raises JlabError, NoConnectionError.

        ssh's own messages and prompts go to the terminal; with `batch` there are no prompts, and
        what ssh says becomes part of the error. `timeout` is in seconds; None: as long as it takes
        if a person sits there, who may have to type a password.
        """
        remote = ssh.remote_command("jlab-node", [verb, *arguments, "--json"], alias=self.alias)
        command = self._command(remote, batch=batch)
        if timeout is None and not sys.stdin.isatty():
            timeout = _UNATTENDED_TIMEOUT
        with bounded_output.Running(
            command, stdin=stdin.encode(), messages=batch, prepare=self._prepare
        ) as running:
            code = running.wait(timeout)
            if running.has_too_much_output:
                megabytes = bounded_output.MAX_OUTPUT // 10**6
                raise messages.no_answer(self.alias, megabytes=megabytes)
            if code is None:
                raise messages.no_answer_in_time(self.alias, seconds=timeout or 0)
        if code:
            raise _failure(code, self.alias, running.stderr)
        return parse(running.stdout, alias=self.alias)

    def stream(self, show: Callable[[IO[bytes]], None], verb: str, *arguments: str) -> int:
        """Run `jlab-node VERB` there, and return its exit code; `show` is given its stdout."""
        remote = ssh.remote_command("jlab-node", [verb, *arguments], alias=self.alias)
        command = self._command(remote)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=self._prepare if os.name == "posix" else None,  # noqa: PLW1509
        )
        assert process.stdout is not None  # noqa: S101
        try:
            with process.stdout as stream:
                show(stream)
            return process.wait()
        finally:
            process.terminate()
            process.wait()

    def _prepare(self) -> None:
        """In the child that becomes ssh: it may be the one whose connection others share."""
        if self.share:
            ssh.outlive_the_terminal()

    def _command(self, remote: str, *, batch: bool = False) -> list[str]:
        if self.share:
            ssh.remove_hung_masters(self.paths)
        return ssh.command(self.paths, self.alias, remote, share=self.share, batch=batch)

    def stop_master(self) -> bool:
        """End our shared connection and all that rides on it; return whether there was one."""
        return self._tell_master("exit")

    def detach_master(self) -> None:
        """Let later connections begin anew; what rides on the shared one goes on."""
        self._tell_master("stop")

    def _tell_master(self, word: str) -> bool:
        control_path = self.paths.control_path() if self.share else None
        if control_path is None:
            return False
        ssh.remove_hung_masters(self.paths)
        return ssh_succeeds(ssh.tell_master(word, self.paths, self.alias, control_path))


def end_masters(paths: Paths, hosts: Iterable[str]) -> bool:
    """End the connections that ssh itself shares to these hosts; return whether there were any."""
    ended = [ssh_succeeds(ssh.tell_master("exit", paths, host)) for host in hosts]
    return any(ended)


def ssh_succeeds(words: list[str]) -> bool:
    """Run a command for an ssh that runs already; return whether it was obeyed."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOCAL_SSH_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def resolve(paths: Paths, alias: str) -> ClusterClient:
    """Return the login node behind `alias`; raises JlabError if ssh cannot know where that is."""
    words = ["ssh", "-G", *([] if paths.is_default else ["-F", paths.config]), "--", alias]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        raise JlabError(f"cannot start ssh: {error.strerror}") from error
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise JlabError("ssh does not accept its config file", remedy="its message is above")
    settings = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    proxied = any(settings.get(key, "none") != "none" for key in ("proxyjump", "proxycommand"))
    if settings.get("hostname") == alias and not proxied and not _resolves(alias):
        raise messages.unknown_host(alias, config=paths.config)
    return ClusterClient(paths, alias, share=may_share(settings))


def may_share(settings: Mapping[str, str], *, platform: str = os.name) -> bool:
    """Return whether we may share the connection.

    ssh on Windows cannot, and the user's alias may do so itself.
    """
    return platform != "nt" and settings.get("controlpath", "none") == "none"


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return False
    return True


def parse(output: str, *, alias: str) -> dict[str, Any]:
    """Return the answer in what came over ssh; raises JlabError.

    It is one line of JSON, among whatever a .bashrc may have said.
    """
    for line in output.splitlines():
        if not line.startswith('{"format": '):
            continue
        try:
            answer: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            continue
        version = answer["format"]
        if type(version) is not int or version < 1:
            raise messages.cluster_is_older(alias)
        if version > JSON_FORMAT:
            raise messages.cluster_is_newer(alias)
        return answer
    raise messages.no_answer(alias)


def _failure(code: int, alias: str, stderr: str) -> JlabError:
    """Return the error of an ssh that failed; `stderr`: what did not go to the terminal."""
    lines = [printable(line) for line in stderr.splitlines() if line.strip()]
    if code == _SSH_FAILED:
        last_words = lines[-1] if lines else ""
        return messages.no_connection(alias, last_words=last_words, exit_code=code)
    if code == _USAGE_ERROR:
        return messages.cluster_is_older(alias)
    ours = [line[len(_NODE_PREFIX) :] for line in lines if line.startswith(_NODE_PREFIX)]
    return JlabError("\n".join(ours or lines[-1:]), exit_code=code)  # "": the cluster has said why
