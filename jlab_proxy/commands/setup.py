"""`jlab-proxy setup`: check the cluster side, exchange keys, write the block. And the way back."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from .. import messages, target
from ..cluster import client
from ..cluster.responses import parse_session
from ..errors import USAGE, JlabError
from ..forwarding import local_ports
from ..paths import locate
from ..ssh_config import document, keys, launcher, text_file
from .confirmation import confirm_change, confirm_host_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from ..cluster.client import ClusterClient
    from ..paths import Paths
    from ..target import Target

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\$?")
_SOCKET_DIR = re.compile(r"/[A-Za-z0-9._/-]{1,70}")
_ANSWER_TIMEOUT = 15.0  # seconds for the cluster to say where its session has its sockets
_LOCK_TIMEOUT = 10.0  # seconds for another setup to write


@dataclass(frozen=True)
class SetupOptions:
    """What the user decided beforehand."""

    port: int | None = None
    mux: bool = False
    submit: str | None = None  # None: as it is
    dry_run: bool = False
    yes: bool = False


def run(
    alias: str, *, session: str | None, config: str | None, options: SetupOptions, remove: bool
) -> None:
    """Set the cluster up, for `session` alone if it is named, or take that out; raises JlabError.

    `config`: the ssh config file; None: ssh's own.
    """
    if "+" in alias:
        raise JlabError(
            f"{alias!r} cannot be an alias",
            remedy="leave out jlab+, and name a session with --session",
            exit_code=USAGE,
        )
    where = target.parse(f"{alias}+{session}" if session is not None else alias)
    files = locate(config)
    if remove:
        remove_blocks(files, where, options)
    else:
        setup(files, where, options)


def setup(paths: Paths, target: Target, options: SetupOptions) -> None:
    """Make `ssh jlab+ALIAS` work; raises JlabError, and then nothing is half written."""
    before = text_file.read(paths.config)
    local_ports.port_of_block(before, target.host, wished=options.port)  # raises at once
    cluster = client.resolve(paths, target.alias)
    if not options.dry_run:
        keys.make_directory(paths)  # the connection is shared through it
    answer = _checked(cluster.call("setup", "--dry-run"))
    _warn_of_missing_programs(target, answer)
    directory = _sockets_of_newest(cluster, target) or answer["socket_dir"]

    def merge(text: str) -> str:
        block = document.Block(
            target=target,
            user=answer["user"],
            port=local_ports.port_of_block(text, target.host, wished=options.port),
            socket=f"{directory}/{target.session or 'lab'}.sock",
            proxy=launcher.words(paths, own_command()),
            paths=paths,
            share=cluster.share,
            mux=options.mux,
        )
        return document.merge(text, block)

    asking = {"dry_run": options.dry_run, "yes": options.yes}
    if not confirm_host_key(paths, target, answer["host_key"], **asking):
        return
    if not confirm_change(paths.config, before, merge(before), **asking):
        return
    cluster.call("setup", "--authorize", stdin=keys.public_key(paths))
    if options.submit is not None:
        _save_submit_command(cluster, target, options.submit)
    save(paths, target, answer["host_key"], merge)
    _print_what_to_type(paths, target)


def _print_what_to_type(paths: Paths, target: Target) -> None:
    port = document.ports(text_file.read(paths.config)).get(target.host)
    option = "" if paths.is_default else f" -F {shlex.quote(paths.config)}"
    print(messages.setup_is_done(target.host, target.name, port, option=option))


def _sockets_of_newest(cluster: ClusterClient, target: Target) -> str | None:
    """Return where the session there has its sockets: its job may say another directory.

    None if no session runs, or it is not known.
    """
    with contextlib.suppress(JlabError):
        answer = cluster.call(
            "url", "--unchecked", *target.sessions, batch=True, timeout=_ANSWER_TIMEOUT
        )
        directory = parse_session(answer.get("session")).socket_dir
        return directory if directory and _SOCKET_DIR.fullmatch(directory) else None
    return None


def save(paths: Paths, target: Target, host_key: str, merge: Callable[[str], str]) -> None:
    """Pin the key and write the block: into the files as they are by now. Raises JlabError."""
    with _setup_lock(paths):
        keys.save_pin(paths, target, host_key)
        launcher.write(paths, own_command())
        text_file.edit(paths.config, merge)


def _save_submit_command(cluster: ClusterClient, target: Target, command: str) -> None:
    """Let the cluster keep the command that submits a job; raises JlabError.

    It goes over standard input: no shell on the way reads it.
    """
    if not command.isprintable():
        raise messages.submit_is_no_line()
    session = [f"--session={target.session}"] if target.session else []
    cluster.call("setup", "--submit", *session, stdin=command + "\n")
    if command:
        print(f"when you connect and have no job, {target.alias} runs: {command}")


def remove_blocks(paths: Paths, target: Target, options: SetupOptions) -> None:
    """Take the blocks of an alias, or that of one session, out again; raises JlabError.

    The key stays: other clusters know it.
    """

    def without(text: str) -> str:
        gone = (
            host
            for host in document.hosts(text)
            if host == target.host or (not target.session and host.startswith(f"{target.host}+"))
        )
        return document.remove(text, *gone)

    before = text_file.read(paths.config)
    if without(before) == before:
        print(f"{paths.config} has no block for {target.host}")
        return
    after = without(before)
    if not confirm_change(paths.config, before, after, dry_run=options.dry_run, yes=options.yes):
        return
    keys.make_directory(paths)  # the lock is in it
    with _setup_lock(paths):
        text_file.edit(paths.config, without)
        left = document.hosts(text_file.read(paths.config))
        if any(host.split("+")[1] == target.alias for host in left):
            return
        keys.save_pin(paths, target, None)
    print(messages.block_is_removed(target.alias))


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer; raises JlabError if a value of it must not stand in ssh's config."""
    user, socket_dir = answer.get("user"), answer.get("socket_dir")
    fits = (
        isinstance(user, str)
        and _USER.fullmatch(user)
        and isinstance(socket_dir, str)
        and _SOCKET_DIR.fullmatch(socket_dir)
        and keys.is_host_key(answer.get("host_key"))
    )
    if not fits:
        raise messages.invalid_answer()
    return answer


def _warn_of_missing_programs(target: Target, answer: dict[str, Any]) -> None:
    """Print what sessions there will lack."""
    if not answer.get("jupyter"):
        print(messages.no_jupyter_lab(target.alias))
    if not answer.get("sshd"):
        print(messages.no_sshd(target.alias))


@contextlib.contextmanager
def _setup_lock(paths: Paths) -> Iterator[None]:
    """Keep other setups out, as far as the file system knows locks; raises JlabError."""
    lock = FileLock(f"{paths.directory}/lock", mode=0o600, timeout=_LOCK_TIMEOUT)
    try:
        lock.acquire()
    except Timeout:
        raise messages.another_setup(lock.lock_file, seconds=_LOCK_TIMEOUT) from None
    except (OSError, NotImplementedError):  # a full file system, or one without locks
        pass
    try:
        yield
    finally:
        lock.release()


def own_command(platform: str = os.name) -> list[str]:
    """Return the absolute words that start this program again, for ssh to use."""
    if platform == "nt":  # without the .exe in between, whose name sys.argv lacks
        return [sys.executable, "-m", "jlab_proxy"]
    started_as = Path(sys.argv[0])
    if started_as.name == "jlab-proxy" and started_as.exists():
        return [str(started_as.absolute())]
    beside = Path(sys.executable).with_name("jlab-proxy")
    if beside.exists():
        return [str(beside)]
    on_path = shutil.which("jlab-proxy")
    return [on_path] if on_path else [sys.executable, "-m", "jlab_proxy"]
