"""`doctor`'s links on this computer: ssh, its config file, our block in it, our key, the port."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from .. import open_state
from ..errors import JlabError, printable
from ..forwarding import port_owners
from ..ssh_config import document, text_file
from ..ssh_config import keys as identity
from .check import FAILURE, OK, WARNING, Check

if TYPE_CHECKING:
    from ..paths import Paths
    from ..target import Target

_OLDEST_SSH = (7, 6)  # the first with RemoteCommand, which we switch off
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def ssh_version() -> Check:
    """Check which ssh there is on this computer."""
    install = "install OpenSSH's client, or a newer one"
    try:
        done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False)
    except OSError as error:
        return Check("ssh", FAILURE, f"ssh cannot be started: {error.strerror}", install)
    return parse_version((done.stderr + done.stdout).strip())


def parse_version(output: str) -> Check:
    """Return the check of what `ssh -V` said."""
    numbers = re.match(r"OpenSSH_(?:for_Windows_)?(\d+)\.(\d+)", output)
    name = printable(output.partition(",")[0]) or "ssh -V says nothing"
    if numbers is None:
        return Check("ssh", FAILURE, f"not OpenSSH: {name}", "install OpenSSH's client")
    if tuple(map(int, numbers.groups())) < _OLDEST_SSH:
        return Check("ssh", FAILURE, f"{name} is too old", "install OpenSSH 7.6 or newer")
    return Check("ssh", OK, name)


def config(paths: Paths, target: Target) -> Check:
    """Check whether ssh takes the config file."""
    try:
        settings(_config_option(paths), target.alias)
    except JlabError as error:
        remedy = f"mend that line: `ssh {target.alias}` has to work"
        return Check("config", FAILURE, printable(str(error)), remedy)
    return Check("config", OK, f"ssh takes {paths.config}")


def _config_option(paths: Paths) -> list[str]:
    return [] if paths.is_default else ["-F", paths.config]


def permissions(paths: Paths) -> Check:
    """Check whether the config file and the directories are ours alone to write."""
    for path in (Path(paths.config).parent, Path(paths.config), Path(paths.directory)):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # the links that follow say so
        except OSError as error:
            remedy = f"chmod u+rwx {shlex.quote(str(path.parent))}"
            return Check("permissions", FAILURE, f"{path}: {error.strerror}", remedy)
        if status.st_uid not in (0, _uid(status)):
            return Check(
                "permissions",
                FAILURE,
                f"{path} belongs to another user",
                f"make it yours: sudo chown $USER {shlex.quote(str(path))}",
            )
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            return Check(
                "permissions",
                FAILURE if path == Path(paths.config) else WARNING,  # ssh refuses such a file
                f"other users can write {path} (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod go-w {shlex.quote(str(path))}",
            )
    return Check("permissions", OK, f"only you can write {paths.config}, and what is beside it")


def _uid(status: os.stat_result) -> int:
    """Return our number; on Windows, which has none, whatever the file has."""
    return os.getuid() if hasattr(os, "getuid") else status.st_uid


def key(paths: Paths, target: Target) -> Check:
    """Check that our key is there, closed, and without a passphrase."""
    path, setup = Path(paths.key), f"jlab-proxy setup {target.alias}   makes one"
    try:
        status = path.stat()
    except OSError as error:
        return Check("key", FAILURE, f"{path}: {error.strerror}", setup)
    if os.name == "posix" and status.st_mode & _OTHERS:
        return Check(
            "key",
            FAILURE,
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}), "
            "and ssh refuses it",
            f"chmod 600 {shlex.quote(str(path))}",
        )
    try:
        identity.public_key(paths)
    except JlabError as error:
        remedy = f"rm {shlex.quote(str(path))} && {setup}"
        return Check("key", FAILURE, f"{path} cannot be used: {printable(str(error))}", remedy)
    return Check("key", OK, f"{path} is only yours to read")


def block(paths: Paths, target: Target) -> Check:
    """Check whether there is one, with a program behind its ProxyCommand."""
    setup = f"jlab-proxy setup {target.alias}"
    try:
        text = document.block_of(text_file.read(paths.config), target.host)
    except JlabError as error:
        return Check("block", FAILURE, printable(str(error)), f"afterwards: {setup}")
    if not text:
        return Check("block", FAILURE, f"{paths.config} has none for {target.host}", setup)
    command = re.search(r"^ *ProxyCommand (.*)$", text, re.M)
    program, *files = _paths(command[1]) if command else [""]
    if shutil.which(program) is None:
        found = f"its ProxyCommand {printable(program)!r} is not a program (any more)"
        return Check("block", FAILURE, found, f"write it again: {setup}")
    for each in files:
        if not os.path.exists(each):  # noqa: PTH110
            found = f"its ProxyCommand names {printable(each)!r}, which is not there (any more)"
            return Check("block", FAILURE, found, f"write it again: {setup}")
    return Check("block", OK, f"{paths.config} has one for {target.host}")


def _paths(command: str) -> list[str]:
    """Return the first word, and those of the others that are paths of this computer."""
    try:
        program, *others = [word.replace("%%", "%") for word in shlex.split(command)]
    except ValueError:
        return [command]
    there = {after for word, after in zip(others, others[1:]) if word == "--sockets"}
    return [program, *(word for word in others if word.startswith("/") and word not in there)]


def order(paths: Paths, target: Target) -> Check:
    """Check whether only blocks of ours stand above it, those of single sessions among them."""
    if document.is_at_top(text_file.read(paths.config), target.host):
        return Check("block order", OK, f"it is at the top of {paths.config}")
    return Check(
        "block order",
        WARNING,
        f"it is not at the top of {paths.config}: ssh takes the first value that it meets",
        f"jlab-proxy setup {target.alias}   moves it there",
    )


def in_force(paths: Paths, target: Target) -> Check:
    """Check whether ssh makes of the whole file what it makes of the block alone."""
    text = document.block_of(text_file.read(paths.config), target.host)
    keys = {line.split()[0].lower() for line in text.splitlines() if line.startswith(" ")}
    with tempfile.TemporaryDirectory() as directory:
        alone = Path(directory, "config")
        alone.write_bytes(text.encode("utf-8", errors="surrogateescape"))
        wanted = settings(["-F", str(alone)], target.host)
    real = settings(_config_option(paths), target.host)
    # The port may have been taken in between.
    for name in sorted(keys - {"localforward"}):
        if real.get(name) != wanted.get(name):
            return Check(
                "block in force",
                FAILURE,
                f"{name} is {printable(real.get(name, 'none'))}, "
                f"not {printable(wanted.get(name, 'none'))}",
                f"jlab-proxy setup {target.alias}   moves the block above what overrides it",
            )
    if real.get("remotecommand", "none") != "none":
        return Check(
            "block in force",
            WARNING,
            f"a RemoteCommand speaks for all hosts: {printable(real['remotecommand'])}",
            "scp, rsync and editors cannot work with it: put it under the hosts it is meant for",
        )
    return Check("block in force", OK, f"ssh uses all of its {len(keys)} settings")


def settings(options: list[str], host: str) -> dict[str, str]:
    """Return what `ssh -G` says, of each option the first value; raises JlabError."""
    done = subprocess.run(
        ["ssh", *options, "-G", "--", host],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    if done.returncode:
        complaints = done.stderr.strip().splitlines()
        raise JlabError(
            complaints[0] if complaints else f"ssh -G ended with exit code {done.returncode}"
        )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, value)
    return found


def local_port(paths: Paths, target: Target) -> Check:
    """Check whether ssh could listen on it; if not, who does."""
    port = document.ports(text_file.read(paths.config)).get(target.host)
    if port is None:
        remedy = f"jlab-proxy setup {target.alias}"
        return Check("local port", FAILURE, "the block forwards none", remedy)
    held = port_owners.listeners_on(port)
    if held.by_nobody:
        return Check("local port", OK, f"{port} is free")
    by_open = open_state.query(paths, port)
    if by_open.get("host") == target.host and not held.by_others:
        found = f"{port} leads to a session: by jlab-proxy open, process {by_open.get('pid')}"
        return Check("local port", OK, printable(found))
    owner = held.processes[0] if held.processes and not held.by_others else None
    if owner is not None and port_owners.is_session_ssh(owner, target.host, paths):
        return Check(
            "local port", OK, f"{port} leads to a session: by your ssh, process {owner.pid}"
        )
    by = "a program of another user"
    with contextlib.suppress(psutil.Error):
        by = f"{printable(owner.name())}, process {owner.pid}" if owner is not None else by
    return Check(
        "local port",
        FAILURE,
        f"{port} is taken by {by}",
        f"end that, or take another: jlab-proxy setup {target.alias} --port N",
    )
