"""Our blocks in the text of ~/.ssh/config: found, merged, removed. Pure.

A block stands between two markers, at the top of the file, because ssh takes the first value it
meets for each option; inline, because some editors' parsers skip Include.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import JlabError
from .block import Block, render

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

__all__ = [
    "FIRST_PORT",
    "Block",
    "Forward",
    "block_of",
    "forwards",
    "hosts",
    "is_at_top",
    "merge",
    "ports",
    "remove",
    "render",
    "unused_port",
]

FIRST_PORT = 8888
_MAX_PORT = 65535

_MARKER = re.compile(r"# (>>>|<<<) (jlab\+[a-z0-9._+-]+) (>>>|<<<)(\s|$)")
_FORWARD = re.compile(
    r"^\s*LocalForward (?:127\.0\.0\.1:)?([0-9]{1,5}) (/[A-Za-z0-9._/-]{1,107})$", re.MULTILINE
)


@dataclass(frozen=True)
class _Region:
    """A block found in a file: its host and its lines, as a slice."""

    host: str
    start: int
    stop: int


def _lines(text: str) -> list[str]:
    """Return lines as ssh sees them, ends included: str.splitlines knows ten more separators."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _regions(lines: Sequence[str]) -> list[_Region]:
    """Return our blocks in order; raises JlabError if the markers do not pair."""
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
    """Return `text` with the block in it once: in its place if that is at the top, else at the top.

    "Host jlab+a+*" would speak for "Host jlab+a+b" as well, so a session's block comes before it.
    """
    lines = _lines(text)
    host = block.target.host
    regions = _regions(lines)
    mine = [region for region in regions if region.host == host]
    if len(mine) == 1 and is_at_top(text, host):
        above, below = lines[: mine[0].start], lines[mine[0].stop :]
        newline = _newline(lines)
    else:
        above, below = _split_around(lines, regions, host)
        newline = _newline([*above, *below])
    if above and not above[-1].endswith("\n"):
        above[-1] += newline
    new = [line + newline for line in render(block).split("\n")]
    return "".join([*above, *new, *below])


def _newline(lines: Sequence[str]) -> str:
    return "\r\n" if lines and lines[0].endswith("\r\n") else "\n"


def _end_of_leading_blocks(regions: Sequence[_Region]) -> int:
    """Return the line at which the blocks end that have no line but ours above them."""
    top = 0
    for region in regions:
        if region.start == top:
            top = region.stop
    return top


def _split_around(
    lines: Sequence[str], regions: Sequence[_Region], host: str
) -> tuple[list[str], list[str]]:
    """Return the lines without a block of `host`: those before a new one, and those after it.

    Before it stand the blocks of its sessions, which are brought up if need be.
    """
    top = _end_of_leading_blocks(regions)
    sessions = [region for region in regions if region.host.startswith(f"{host}+")]
    place = max((region.stop for region in sessions if region.stop <= top), default=0)
    low = [region for region in sessions if region.start >= top]
    mine = [region for region in regions if region.host == host]
    taken = {number for region in [*low, *mine] for number in range(region.start, region.stop)}
    kept = [(number, line) for number, line in enumerate(lines) if number not in taken]
    above = [line for number, line in kept if number < place]
    above += [line for region in low for line in lines[region.start : region.stop]]
    return above, [line for number, line in kept if number >= place]


def remove(text: str, *hosts: str) -> str:
    """Return `text` without the blocks of these hosts; raises JlabError."""
    lines = _lines(text)
    for region in reversed(_regions(lines)):
        if region.host in hosts:
            del lines[region.start : region.stop]
    return "".join(lines)


def hosts(text: str) -> set[str]:
    """Return the hosts that have a block; raises JlabError."""
    return {region.host for region in _regions(_lines(text))}


@dataclass(frozen=True)
class Forward:
    """Where a local port leads: to a socket on the node."""

    port: int
    socket: str


def forwards(text: str) -> dict[str, Forward]:
    """Return the forward of each of our blocks, by host; raises JlabError."""
    lines = _lines(text)
    found = {}
    for region in _regions(lines):
        forward = _FORWARD.search("".join(lines[region.start : region.stop]).replace("\r\n", "\n"))
        if forward and 1 <= int(forward[1]) <= _MAX_PORT:
            found[region.host] = Forward(int(forward[1]), forward[2])
    return found


def block_of(text: str, host: str) -> str:
    """Return the lines of the block of `host`, "" if there is none; raises JlabError."""
    lines = _lines(text)
    for region in _regions(lines):
        if region.host == host:
            return "".join(lines[region.start : region.stop])
    return ""


def is_at_top(text: str, host: str) -> bool:
    """Return whether only blocks of ours are above that of `host`, and all of its sessions are.

    "Host jlab+a+*" would speak for "Host jlab+a+b" as well.
    """
    regions = _regions(_lines(text))
    mine = next((region for region in regions if region.host == host), None)
    if mine is None or mine.stop > _end_of_leading_blocks(regions):
        return False
    below = (region for region in regions if region.start > mine.start)
    return not any(region.host.startswith(f"{host}+") for region in below)


def ports(text: str) -> dict[str, int]:
    """Return the local port of each of our blocks, by host; raises JlabError."""
    return {host: forward.port for host, forward in forwards(text).items()}


def unused_port(text: str, host: str, *, is_free: Callable[[int], bool]) -> int:
    """Return the port that this host has, or the first that no other block and no program has."""
    taken = ports(text)
    if host in taken:
        return taken[host]
    others = (port for port in range(FIRST_PORT, _MAX_PORT + 1) if port not in taken.values())
    return next(port for port in others if is_free(port))
