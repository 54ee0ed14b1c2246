"""Our blocks in ~/.ssh/config: render, merge, remove; pure, plus one atomic write.

A block stands between two markers, at the top of the file, because ssh takes the first value it
meets for each option; inline, because some editors' parsers skip Include.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import USAGE, JlabError
from ..port_check import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from ..paths import Paths
    from ..target import Target

FIRST_PORT = 8888
_MAX_PORT = 65535
_ATTEMPTS = 20
_SETTLING = 0.1  # seconds: an editor that has emptied the file has written it again by then

# Whether nothing listens on the port, without a word. ssh asks at each start, so no Python here.
# A listener that is full lets nobody in: it is not waited for.
_FREE = (
    f"bash -c 'exec </dev/null >/dev/null 2>&1; f() {{{{ for h in {HOST} ::1; do "
    ": </dev/tcp/$h/{port} && exit 1; done; exit 0; }}; export -f f; "
    "type timeout && exec timeout 2 bash -c f; f'"
)
# ssh before 9.6 hands any name to the shell. In quotes nothing is dangerous but a quote, and to
# fish a backslash; what the shell would obey outside of them is refused as well. None of *?" can
# stand here: two are wildcards, the third not all versions read alike.
_NO_NAMES = "!*!* !*#* !*$* !*%* !*&* !*(* !*)* !*,* !*/* !*:* !*;* !*<* !*=* !*>* !*@* !*[* !*]*"
_NO_NAMES += ' !*^* !*`* !*{* !*|* !*}* !*~* "!* *" "!*\'*" "!*\\*"'

_MARKER = re.compile(r"# (>>>|<<<) (jlab\+[a-z0-9._+-]+) (>>>|<<<)(\s|$)")
_FORWARD = re.compile(
    r"^\s*LocalForward (?:127\.0\.0\.1:)?([0-9]{1,5}) (/[A-Za-z0-9._/-]{1,107})$", re.MULTILINE
)
_QUOTABLE = re.compile(r'[^\x00-\x1f\x7f"]+')


@dataclass(frozen=True)
class Block:
    """What a block says."""

    target: Target
    user: str  # on the cluster
    port: int  # on this computer
    socket: str  # on the node
    proxy: Sequence[str]  # the words that start jlab-proxy
    paths: Paths
    share: bool  # the connection to the login node, with later ones
    mux: bool  # the connection to the job as well
    platform: str = os.name


def render(block: Block) -> str:
    """The lines of a block, markers included."""
    host, paths = block.target.host, block.paths
    ourselves = [word.replace("%", "%%") for word in block.proxy]
    proxy = [*ourselves, "connect"]
    ending = [] if paths.is_default else ["-F", paths.config.replace("%", "%%")]
    if not block.share:
        ending.append("--no-share")
    command = _windows_command if block.platform == "nt" else _command
    place = str(PurePosixPath(block.socket).parent)
    usual = f"/tmp/jlab-{block.user}"  # noqa: S108
    sockets = [] if place == usual else ["--sockets", place]
    with_port = command(proxy, ["--port", str(block.port), *sockets, *ending])
    others = [f"Host {host} {host}+* {_NO_NAMES}", f"    ProxyCommand {command(proxy, ending)}"]
    forward = f"    LocalForward {HOST}:{block.port} {block.socket}"
    # On Windows there may be no bash: a second connection will say that the port is taken.
    free = f'Match originalhost {host} exec "{_FREE.format(port=block.port)}"'
    always, if_free = ([forward], []) if block.platform == "nt" else ([], [free, forward])
    options = [
        "HostName %h",  # whatever "Host *" says further down
        f"User {block.user}",
        "Port 22",  # the pinned key is looked up with it
        f"IdentityFile {_path(paths, 'id')}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {_path(paths, 'known_hosts')}",
        "StrictHostKeyChecking yes",
        "ConnectTimeout 0",  # a job may have to wait in the queue
        "ServerAliveInterval 15",
        *_sharing(block),
    ]
    lines = [
        f"# >>> {host} >>> written by jlab-proxy setup, which can also --remove it",
        f"Host {host}",
        f"    ProxyCommand {with_port}",
        *always,
        *([] if block.target.session else others),
        *(f"    {option}" for option in options),
        *if_free,
        "Match all",  # what follows may be the user's global options
        f"# <<< {host} <<<",
    ]
    return "\n".join(lines) + "\n"


def _sharing(block: Block) -> list[str]:
    """Options about connections to the job that ride on another."""
    if block.platform == "nt":  # its ssh has no such thing
        if block.mux:
            raise JlabError(
                "ssh on Windows cannot share connections", remedy="leave out --mux", exit_code=USAGE
            )
        return []
    if block.mux:
        path = _path(block.paths, "job-%C")
        return ["ControlMaster auto", f"ControlPath {path}", "ControlPersist 10m"]
    return ["ControlMaster no", "ControlPath none"]


def _windows_command(before: Sequence[str], after: Sequence[str]) -> str:
    """With %h in between. No shell reads it, and so nothing can be quoted."""
    words = [*before, "%h", *after]
    for word in words:
        if not re.fullmatch(r'[^\x00-\x20\x7f"\']+', word):
            raise JlabError(
                f"ssh on Windows cannot use the path {word}",
                remedy="install jlab-remote where no space is "
                r"in the path, for example in a venv made by `py -m venv C:\jlab`",
            )
    return " ".join(words).replace("\\", "/")  # some builds of ssh do go through a shell


def _command(before: Sequence[str], after: Sequence[str]) -> str:
    """With %h in between, for a shell."""
    text = f"{shlex.join(before)} '%h' {shlex.join(after)}".rstrip()
    if not _QUOTABLE.fullmatch(text):
        raise JlabError(f"ssh's config file cannot hold this path: {text!r}")
    return text


def _path(paths: Paths, name: str) -> str:
    if paths.is_default:
        return f"~/.ssh/jlab/{name}"
    directory = paths.directory.replace("%", "%%")
    return f'"{directory}/{name}"'  # what could not be quoted has been refused in a command


@dataclass(frozen=True)
class _Region:
    """A block found in a file: its host and its lines, as a slice."""

    host: str
    start: int
    stop: int


def _lines(text: str) -> list[str]:
    """Lines as ssh sees them, ends included: str.splitlines knows ten more separators."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _regions(lines: Sequence[str]) -> list[_Region]:
    """Our blocks in order; raises JlabError when the markers do not pair."""
    found: list[_Region] = []
    opened: tuple[str, int] | None = None
    for number, line in enumerate(lines):
        marker = _MARKER.match(line)
        if marker is None:
            continue
        begins, host = marker[1] == ">>>", marker[2]
        if marker[1] != marker[3] or begins == (opened is not None):
            raise _unbalanced(number)
        if begins:
            opened = host, number
        else:
            assert opened is not None  # noqa: S101
            if host != opened[0]:
                raise _unbalanced(number)
            # The empty line after it is ours as well.
            stop = number + 1
            if stop < len(lines) and not lines[stop].strip():
                stop += 1
            found.append(_Region(host, opened[1], stop))
            opened = None
    if opened is not None:
        raise _unbalanced(opened[1])
    return found


def _unbalanced(number: int) -> JlabError:
    return JlabError(
        f"line {number + 1} of the ssh config is half of a pair of jlab-remote's markers "
        "(# >>> jlab+... and # <<< jlab+...)",
        remedy="delete what is left of that block, then try again",
    )


def merge(text: str, block: Block) -> str:
    """`text` with the block in it, once: where it stands if that is at the top, else at the top.

    "Host jlab+a+*" would speak for "Host jlab+a+b" as well, so a session's block comes before it.
    """
    lines = _lines(text)
    host = block.target.host
    regions = _regions(lines)
    mine = [each for each in regions if each.host == host]
    if len(mine) == 1 and is_at_top(text, host):
        above, below = lines[: mine[0].start], lines[mine[0].stop :]
        newline = _newline(lines)
    else:
        above, below = _around(lines, regions, host)
        newline = _newline([*above, *below])
    if above and not above[-1].endswith("\n"):
        above[-1] += newline
    new = [line + newline for line in render(block).split("\n")]
    return "".join([*above, *new, *below])


def _newline(lines: Sequence[str]) -> str:
    return "\r\n" if lines and lines[0].endswith("\r\n") else "\n"


def _top(regions: Sequence[_Region]) -> int:
    """Where those end above which there is no other line than ours."""
    top = 0
    for each in regions:
        if each.start == top:
            top = each.stop
    return top


def _around(
    lines: Sequence[str], regions: Sequence[_Region], host: str
) -> tuple[list[str], list[str]]:
    """The lines without a block of `host`: those that come before a new one, and the others.

    Before it stand the blocks of its sessions, which are brought up if need be.
    """
    top = _top(regions)
    sessions = [each for each in regions if each.host.startswith(f"{host}+")]
    place = max((each.stop for each in sessions if each.stop <= top), default=0)
    low = [each for each in sessions if each.start >= top]
    mine = [each for each in regions if each.host == host]
    taken = {number for each in [*low, *mine] for number in range(each.start, each.stop)}
    kept = [(number, line) for number, line in enumerate(lines) if number not in taken]
    above = [line for number, line in kept if number < place]
    above += [line for each in low for line in lines[each.start : each.stop]]
    return above, [line for number, line in kept if number >= place]


def remove(text: str, *hosts: str) -> str:
    """`text` without the blocks of these hosts."""
    lines = _lines(text)
    for region in reversed(_regions(lines)):
        if region.host in hosts:
            del lines[region.start : region.stop]
    return "".join(lines)


def hosts(text: str) -> set[str]:
    """The hosts that have a block."""
    return {region.host for region in _regions(_lines(text))}


@dataclass(frozen=True)
class Forward:
    """Where a local port leads: to a socket on the node."""

    port: int
    socket: str


def forwards(text: str) -> dict[str, Forward]:
    """The forward of each of our blocks, by host."""
    lines = _lines(text)
    found = {}
    for region in _regions(lines):
        forward = _FORWARD.search("".join(lines[region.start : region.stop]).replace("\r\n", "\n"))
        if forward and 1 <= int(forward[1]) <= _MAX_PORT:
            found[region.host] = Forward(int(forward[1]), forward[2])
    return found


def block_of(text: str, host: str) -> str:
    """The lines of the block of `host`, "" where there is none; raises JlabError."""
    lines = _lines(text)
    for region in _regions(lines):
        if region.host == host:
            return "".join(lines[region.start : region.stop])
    return ""


def is_at_top(text: str, host: str) -> bool:
    """Whether nothing but our own blocks is above that of `host`, those of its sessions included.

    "Host jlab+a+*" would speak for "Host jlab+a+b" as well.
    """
    regions = _regions(_lines(text))
    mine = next((each for each in regions if each.host == host), None)
    if mine is None or mine.stop > _top(regions):
        return False
    below = (each for each in regions if each.start > mine.start)
    return not any(each.host.startswith(f"{host}+") for each in below)


def ports(text: str) -> dict[str, int]:
    """The local port of each of our blocks, by host."""
    return {host: forward.port for host, forward in forwards(text).items()}


def unused_port(text: str, host: str, *, is_free: Callable[[int], bool]) -> int:
    """The port this host has already, or the first that no other block and no program has."""
    taken = ports(text)
    if host in taken:
        return taken[host]
    others = (port for port in range(FIRST_PORT, _MAX_PORT + 1) if port not in taken.values())
    return next(port for port in others if is_free(port))


def read(path: str) -> str:
    """The file's text, "" where there is none; any bytes survive read and write."""
    try:
        return Path(path).read_bytes().decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise JlabError(f"cannot read {path}: {error.strerror}") from error


def check_writable(path: str) -> None:
    """Refuse a file that its owner has closed, although it could be replaced; raises JlabError."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.stat().st_mode & stat.S_IWUSR:
        raise JlabError(f"{path} is read-only", remedy=f"`chmod u+w {path}`, then try again")


def edit(path: str, change: Callable[[str], str]) -> None:
    """Let the file be what `change` makes of its text; raises JlabError.

    Nothing that somebody else writes meanwhile is lost: then `change` is asked again.
    """
    for _ in range(_ATTEMPTS):
        before = read(path)
        after = change(before)
        if after == before or write(path, after, instead_of=before):
            return
    raise JlabError(f"another program keeps changing {path}", remedy="try again when it has ended")


def write(path: str, text: str, *, instead_of: str | None = None) -> bool:
    """Replace the file in one step, through links, keeping its mode; raises JlabError.

    `instead_of`: only if that is its text still; whether it was.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    try:
        temporary = _written_beside(target, text)
        try:
            if instead_of is not None:
                time.sleep(_SETTLING)
                if read(path) != instead_of:
                    return False
            os.replace(temporary, target)  # noqa: PTH105
        finally:
            _unlink(temporary)
    except OSError as error:
        raise JlabError(f"cannot write {path}: {error.strerror}") from error
    return True


def _written_beside(target: Path, text: str) -> str:
    """A file in the same directory with this text and the mode of `target`; raises OSError."""
    import tempfile  # here: it is dear, and the shell's completion only reads

    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o600
    descriptor, temporary = tempfile.mkstemp(prefix=".jlab-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, "fchmod"):  # not on Windows
                os.fchmod(file.fileno(), mode)
            _take_over(target, file.fileno())
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _take_over(target: Path, descriptor: int) -> None:
    """Give a file the owner and the access control list of `target`, as far as that can be."""
    with contextlib.suppress(OSError, AttributeError):
        found = target.stat()
        os.fchown(descriptor, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError, AttributeError):
        for name in os.listxattr(target):
            os.setxattr(descriptor, name, os.getxattr(target, name))


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
