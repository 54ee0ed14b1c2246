"""`jlab-proxy setup`: check the cluster side, exchange keys, write the block. And the way back."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from filelock import FileLock, Timeout

from .. import messages, target
from ..cluster import client
from ..cluster.responses import parse_session
from ..errors import USAGE, JlabError
from ..forwarding import local_ports
from ..paths import locate
from ..ssh_config import document, keys, launcher, text_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from ..cluster.client import ClusterClient
    from ..paths import Paths
    from ..target import Target

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\$?")
_SOCKET_DIR = re.compile(r"/[A-Za-z0-9._/-]{1,70}")
_ANSWER_TIMEOUT = 15.0  # seconds
_PATIENCE = 10.0  # seconds for another setup to write


@dataclass(frozen=True)
class Answers:
    """What the user decided beforehand."""

    port: int | None = None
    mux: bool = False
    submit: str | None = None  # None: as it is
    dry_run: bool = False
    yes: bool = False


def run(
    alias: str, *, session: str | None, config: str | None, answers: Answers, remove: bool
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
        take_out(files, where, answers)
    else:
        setup(files, where, answers)


def setup(paths: Paths, target: Target, answers: Answers) -> None:
    """Make `ssh jlab+ALIAS` work; raises JlabError, and then nothing is half written."""
    before = text_file.read(paths.config)
    local_ports.port_of_block(before, target.host, wished=answers.port)  # raises at once
    cluster = client.resolve(paths, target.alias)
    if not answers.dry_run:
        keys.make_directory(paths)  # the connection is shared through it
    about = _checked(cluster.call("setup", "--dry-run"))
    _report(target, about)
    directory = _sockets_of_newest(cluster, target) or about["socket_dir"]

    def merge(text: str) -> str:
        block = document.Block(
            target=target,
            user=about["user"],
            port=local_ports.port_of_block(text, target.host, wished=answers.port),
            socket=f"{directory}/{target.session or 'lab'}.sock",
            proxy=launcher.words(paths, ourselves()),
            paths=paths,
            share=cluster.share,
            mux=answers.mux,
        )
        return document.merge(text, block)

    if not _trusted(paths, target, about["host_key"], answers):
        return
    if not _agreed(paths, answers, merge(before), before):
        return
    cluster.call("setup", "--authorize", stdin=keys.public_key(paths))
    if answers.submit is not None:
        _set_submit(cluster, target, answers.submit)
    save(paths, target, about["host_key"], merge)
    port = document.ports(text_file.read(paths.config)).get(target.host)
    option = "" if paths.is_default else f" -F {shlex.quote(paths.config)}"
    print(messages.setup_is_done(target.host, target.name, port, option=option))


def _sockets_of_newest(cluster: ClusterClient, target: Target) -> str | None:
    """Where the session there has its sockets, if one runs: its job may say another directory."""
    with contextlib.suppress(JlabError):
        answer = cluster.call(
            "url", "--unchecked", *target.sessions, batch=True, timeout=_ANSWER_TIMEOUT
        )
        found = parse_session(answer.get("session")).socket_dir
        return found if found and _SOCKET_DIR.fullmatch(found) else None
    return None


def save(paths: Paths, target: Target, host_key: str, merge: Callable[[str], str]) -> None:
    """Pin the key and write the block: into the files as they are by now. Raises JlabError."""
    with _lock(paths):
        keys.save_pin(paths, target, host_key)
        launcher.write(paths, ourselves())
        text_file.edit(paths.config, merge)


def _set_submit(cluster: ClusterClient, target: Target, command: str) -> None:
    """The command itself goes over standard input: no shell on the way reads it."""
    if not command.isprintable():
        raise messages.submit_is_no_line()
    session = [f"--session={target.session}"] if target.session else []
    cluster.call("setup", "--submit", *session, stdin=command + "\n")
    if command:
        print(f"when you connect and have no job, {target.alias} runs: {command}")


def take_out(paths: Paths, target: Target, answers: Answers) -> None:
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
    if not _agreed(paths, answers, without(before), before):
        return
    keys.make_directory(paths)  # the lock is in it
    with _lock(paths):
        text_file.edit(paths.config, without)
        left = document.hosts(text_file.read(paths.config))
        if any(host.split("+")[1] == target.alias for host in left):
            return
        keys.save_pin(paths, target, None)
    print(messages.block_is_removed(target.alias))


def _checked(about: dict[str, Any]) -> dict[str, Any]:
    """What the cluster says ends up in ssh's config: only what looks as it should."""
    user, socket_dir = about.get("user"), about.get("socket_dir")
    fits = (
        isinstance(user, str)
        and _USER.fullmatch(user)
        and isinstance(socket_dir, str)
        and _SOCKET_DIR.fullmatch(socket_dir)
        and keys.is_host_key(about.get("host_key"))
    )
    if not fits:
        raise messages.invalid_answer()
    return about


def _report(target: Target, about: dict[str, Any]) -> None:
    """Say what sessions there will lack."""
    if not about.get("jupyter"):
        print(messages.no_jupyter_lab(target.alias))
    if not about.get("sshd"):
        print(messages.no_sshd(target.alias))


def _trusted(paths: Paths, target: Target, host_key: str, answers: Answers) -> bool:
    """Whether the sessions' host key is the one that is pinned, if any, or is to take its place.

    Raises JlabError where nobody is there to be asked: who sits in between would have another, too.
    """
    before = keys.changed(paths, target, host_key)
    if before is None:
        return True
    pinned, sent = keys.fingerprint(before), keys.fingerprint(host_key)
    print(messages.other_host_key(target.alias, pinned=pinned, sent=sent), flush=True)
    if answers.dry_run or answers.yes:
        return True
    if not sys.stdin.isatty():
        raise JlabError("nothing was changed", remedy="type --yes to pin the new host key")
    if click.confirm("Pin the new key?", default=False):
        return True
    print("nothing was changed")
    return False


def _agreed(paths: Paths, answers: Answers, after: str, before: str) -> bool:
    """Show the change to the config file; whether it is to be made."""
    text_file.check_writable(paths.config)
    if after == before:
        print(f"{paths.config} is as it should be")
        return not answers.dry_run
    sys.stdout.writelines(_diff(before, after, paths.config))
    if answers.dry_run:
        print("dry run: nothing was changed")
        return False
    if answers.yes:
        return True
    if not sys.stdin.isatty():
        raise JlabError(
            "nothing was changed", remedy="type --yes to write this without being asked"
        )
    if click.confirm(f"Write this to {paths.config}?", default=True):
        return True
    print("nothing was changed")
    return False


@contextlib.contextmanager
def _lock(paths: Paths) -> Iterator[None]:
    """One setup at a time, as far as the file system knows locks; raises JlabError."""
    lock = FileLock(f"{paths.directory}/lock", mode=0o600, timeout=_PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise messages.another_setup(lock.lock_file, seconds=_PATIENCE) from None
    except (OSError, NotImplementedError):  # a full file system, or one without locks
        pass
    try:
        yield
    finally:
        lock.release()


def _diff(before: str, after: str, path: str) -> list[str]:
    old, new = ([line.rstrip("\r\n") for line in text.splitlines()] for text in (before, after))
    lines = difflib.unified_diff(old, new, path, path, lineterm="")
    return [re.sub(r"[^\t\x20-\x7e]", "?", line) + "\n" for line in lines]


def ourselves(platform: str = os.name) -> list[str]:
    """The absolute words that start this program again, for ssh to use."""
    if platform == "nt":  # without the .exe in between, whose name sys.argv lacks
        return [sys.executable, "-m", "jlab_proxy"]
    started_as = Path(sys.argv[0])
    if started_as.name == "jlab-proxy" and started_as.exists():
        return [str(started_as.absolute())]
    beside = Path(sys.executable).with_name("jlab-proxy")
    found = shutil.which("jlab-proxy")
    if beside.exists():
        return [str(beside)]
    return [found] if found else [sys.executable, "-m", "jlab_proxy"]
