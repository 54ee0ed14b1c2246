"""The house stays one that can be drawn: few rooms, few arrows, no circle; its map is true."""

from __future__ import annotations

import re
from pathlib import Path

import house
import pytest

ROOT = Path(__file__).parents[1]
MOST_ROOMS = 16
MOST_ARROWS = {"jlab_node": 50, "jlab_proxy": 52}


@pytest.mark.parametrize("package", house.PACKAGES)
def test_imports_run_down_and_are_few(package: str) -> None:
    arrows = house.arrows_of(house.imports_of(package))
    floors, circle = house.floors_of(arrows)
    assert not circle
    assert len(floors) <= MOST_ROOMS
    assert len(arrows) <= MOST_ARROWS[package]


def test_picture_is_what_the_imports_draw() -> None:
    picture = (ROOT / "docs" / "house.svg").read_text(encoding="utf-8")
    assert picture == house.picture(), "scripts/house --svg > docs/house.svg draws it anew"


@pytest.mark.parametrize("package", house.PACKAGES)
def test_map_has_each_room(package: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = text.partition("## The house")[2].partition("## Glossary")[0]
    for room in {room for arrow in house.arrows_of(house.imports_of(package)) for room in arrow}:
        assert f"`{room}`" in rooms or f"`{room}/`" in rooms, room


def test_modules_that_are_named_exist() -> None:
    """Where a document, a docstring or a comment of ours names a file of Python, there is one."""
    known = {str(path.relative_to(ROOT)) for path in ROOT.glob("[jst]*/**/*.py")}
    theirs = {"jupyter_server_config.py", "connect.py", "enter.py"}  # of Jupyter; that ssh starts
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("jlab_*/*.bash")]
    for document in [*documents, *ROOT.glob("jlab_*/**/*.py")]:
        for name in re.findall(r"[a-z_/]+\.py\b", document.read_text(encoding="utf-8")):
            exists = any(f"/{path}".endswith(f"/{name.lstrip('/')}") for path in known)
            assert exists or name.rpartition("/")[2] in theirs, f"{document.name}: {name}"
