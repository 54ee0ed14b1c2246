"""The picture of the house: floors from top to bottom, rooms as boxes, imports as lines. Plain SVG.

An arrow is left out where a longer way leads to the same room: what is drawn implies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping

Arrow = tuple[str, str]  # from a room to another that it imports

_FLOOR = 74  # between the tops of two floors, in pixels like all that follows
_BOX = 30
_GAP = 18
_MARGIN = 24
_HEADING = 64
_LETTER = 8.2  # the width of one, at the font size below
_STYLE = """
  text { font: 14px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle; fill: #1c2733 }
  .package { font-weight: bold; font-size: 17px }
  .ground { fill: #ffffff }
  .room { fill: #eef3fa; stroke: #7d93ad }
  .arrow { fill: none; stroke: #9aa9ba; stroke-width: 1.4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3e9f0 }
    .ground { fill: #12181f }
    .room { fill: #233040; stroke: #6f87a3 }
    .arrow { stroke: #5d6f84 }
  }
"""


def draw(packages: Mapping[str, tuple[Mapping[str, int], set[Arrow]]]) -> str:
    """Return the picture of all packages side by side: for each, its rooms' floors and arrows."""
    parts: list[str] = []
    left = _MARGIN
    lowest = 0
    for package, (floors, arrows) in packages.items():
        rows = _rows(floors, arrows)
        width = max(_width(row) for row in rows)
        parts += _package(package, rows, _essential(arrows), left, width)
        left += width + 2 * _MARGIN
        lowest = max(lowest, _HEADING + len(rows) * _FLOOR)
    size = f"{left - _MARGIN} {lowest - _BOX}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">',
            f"<title>The rooms of {escape(' and '.join(packages))}: imports run down only</title>",
            f"<style>{_STYLE}</style>",
            '<rect class="ground" width="100%" height="100%"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _package(
    name: str, rows: list[list[str]], arrows: set[Arrow], left: int, width: int
) -> list[str]:
    boxes: dict[str, tuple[int, int, int]] = {}  # room: the middle, the top, the width
    for number, row in enumerate(rows):
        x = left + (width - _width(row)) // 2
        for room in row:
            boxes[room] = (x + _box(room) // 2, _HEADING + number * _FLOOR, _box(room))
            x += _box(room) + _GAP
    parts = [f'<text class="package" x="{left + width // 2}" y="36">{escape(name)}</text>']
    for source, target in sorted(arrows):
        (x, y, _), (to_x, to_y, _) = boxes[source], boxes[target]
        y += _BOX
        bend = (to_y - y) // 2
        path = f"M{x} {y}C{x} {y + bend} {to_x} {to_y - bend} {to_x} {to_y}"
        parts.append(f'<path class="arrow" d="{path}"/>')
    for room, (x, y, wide) in boxes.items():
        box = f'x="{x - wide // 2}" y="{y}" width="{wide}" height="{_BOX}" rx="6"'
        parts.append(f'<rect class="room" {box}/>')
        parts.append(f'<text x="{x}" y="{y + 20}">{escape(room)}</text>')
    return parts


def _rows(floors: Mapping[str, int], arrows: set[Arrow]) -> list[list[str]]:
    """The floors from the top; on each, rooms stand below those that import them."""
    rows: list[list[str]] = []
    place: dict[str, float] = {}
    for floor in sorted(set(floors.values()), reverse=True):
        above = {
            room: [place[source] for source, target in _essential(arrows) if target == room]
            for room in floors
            if floors[room] == floor
        }
        row = sorted(above, key=lambda room: (sum(above[room]) / max(len(above[room]), 1), room))
        place |= {room: (number + 0.5) / len(row) for number, room in enumerate(row)}
        rows.append(row)
    return rows


def _essential(arrows: set[Arrow]) -> set[Arrow]:
    """The arrows without those that a longer way implies."""
    return {arrow for arrow in arrows if not _leads(arrows - {arrow}, *arrow)}


def _leads(arrows: set[Arrow], source: str, target: str) -> bool:
    return any(
        step == target or _leads(arrows, step, target) for at, step in arrows if at == source
    )


def _box(room: str) -> int:
    return int(len(room) * _LETTER) + 26


def _width(row: list[str]) -> int:
    return sum(_box(room) for room in row) + _GAP * (len(row) - 1)
