"""The structure of both packages, as their own imports draw it: rooms, arrows, circles, sizes.

A room is a module or a package right below `jlab_node` or `jlab_proxy`. An arrow leads from one
room to another that it imports, however often. Imports for type checkers count like the rest.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from pathlib import Path

import house_svg

PACKAGES = ("jlab_node", "jlab_proxy")
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Print the figures of both packages; 1 if an import runs up or in a circle."""
    parser = argparse.ArgumentParser(prog="scripts/house", description=__doc__)
    parser.add_argument("--arrows", action="store_true", help="each arrow, and which files make it")
    parser.add_argument("--svg", action="store_true", help="only the picture, for docs/house.svg")
    options = parser.parse_args()
    if options.svg:
        print(picture(), end="")
        return 0
    sound = True
    for package in PACKAGES:
        imports = imports_of(package)
        arrows = arrows_of(imports)
        floors, circle = floors_of(arrows)
        print(f"{package}: {len(floors) + len(circle)} rooms, {len(arrows)} arrows")
        for floor in sorted(set(floors.values()), reverse=True):
            print(f"  {floor}  {', '.join(sorted(r for r in floors if floors[r] == floor))}")
        if circle:
            sound = False
            print(f"  in or above a circle: {', '.join(sorted(circle))}")
        for what, (length, where) in sizes(package).items():
            print(f"  longest {what}: {length} lines, {where}")
        if options.arrows:
            for (source, target), files in sorted(arrows.items()):
                print(f"  {source} -> {target}: {', '.join(sorted(files))}")
    return 0 if sound else 1


def picture() -> str:
    """The house as SVG; raises KeyError if the imports run in a circle."""
    packages = {}
    for package in PACKAGES:
        arrows = arrows_of(imports_of(package))
        packages[package] = (floors_of(arrows)[0], set(arrows))
    return house_svg.draw(packages)


def _modules(package: str) -> dict[str, Path]:
    paths = {}
    for path in sorted((_ROOT / package).rglob("*.py")):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports_of(package: str) -> dict[str, set[str]]:
    """For each module of the package, the modules of it that it imports."""
    modules = _modules(package)
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        home = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found[module] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found[module] |= _targets(node, home, modules)
    return found


def _targets(node: ast.ImportFrom, home: str, modules: dict[str, Path]) -> set[str]:
    base = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    targets = set()
    for alias in node.names:
        target = f"{source}.{alias.name}"
        targets |= {each for each in (target, source) if each in modules and each.count(".")}
        if target in modules:
            targets.discard(source)
    return targets


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def arrows_of(imports: dict[str, set[str]]) -> dict[tuple[str, str], set[str]]:
    """The arrows between rooms, each with the imports that make it."""
    arrows = defaultdict(set)
    for module, targets in imports.items():
        for target in targets:
            if _room(module) != _room(target):
                what = f"{module.split('.', 1)[-1]} ({target.split('.', 1)[1]})"
                arrows[_room(module), _room(target)].add(what)
    return dict(arrows)


def floors_of(arrows: dict[tuple[str, str], set[str]]) -> tuple[dict[str, int], set[str]]:
    """The floor of each room, above all that it imports; and the rooms that have none."""
    rooms = {room for arrow in arrows for room in arrow}
    floors: dict[str, int] = {}
    while True:
        ready = {
            room
            for room in rooms - floors.keys()
            if all(target in floors for source, target in arrows if source == room)
        }
        if not ready:
            return floors, rooms - floors.keys()
        for room in ready:
            below = [floors[target] for source, target in arrows if source == room]
            floors[room] = max(below, default=0) + 1


def sizes(package: str) -> dict[str, tuple[int, str]]:
    """The longest module, class and function: lines, and where."""
    found = {"module": (0, ""), "class": (0, ""), "function": (0, "")}
    for path in _modules(package).values():
        text = path.read_text(encoding="utf-8")
        where = str(path.relative_to(_ROOT))
        found["module"] = max(found["module"], (text.count("\n"), where))
        for node in ast.walk(ast.parse(text)):
            kind = {ast.ClassDef: "class", ast.FunctionDef: "function"}.get(type(node))
            kind = "function" if isinstance(node, ast.AsyncFunctionDef) else kind
            if kind and isinstance(
                node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            ):  # for the type checker
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                found[kind] = max(found[kind], (length, f"{node.name} in {where}"))
    return found


if __name__ == "__main__":
    sys.exit(main())
