"""Every sentence that the two packages may show a person, as their code has it: docs/messages.md.

Failures, news, status lines, output and complaints about command lines are found by their calls.
What a sentence is filled with is shown as {name}.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    Names = dict[str, list[ast.expr]]  # what may be assigned to a name

PACKAGES = ("jlab_node", "jlab_proxy")
DOCUMENT = Path(__file__).parents[1] / "docs/messages.md"
_ROOT = Path(__file__).parents[1]
_EXIT_CODES = {"FAILED": "1", "USAGE": "2", "UNAVAILABLE": "69"}
_USAGE_ERRORS = {"BadParameter", "UsageError"}
_SAID = {"say", "log", "status", "_show", "print", "echo", "confirm"}
_SENTENCE = re.compile(r"[A-Za-z]{2,}.* .*[a-z]{2,}", re.DOTALL)
_HEAD = """\
# Messages

The sentences that `jlab-node` and `jlab-proxy` may show, by package and room.
`scripts/messages --write` makes this list from the code; do not edit it.

A number is the exit code of the program that ends with the sentence; `n` is the exit code of
another program, passed on; `-` is a sentence that ends nothing. `{name}` stands for what is filled
in, `a/b` for either word, `[a]` for what may be left out. What `doctor` finds is in
[doctor.md](doctor.md). What to do about the lines of `ssh jlab+ALIAS` is in
[connecting.md](connecting.md).
"""


class Message(NamedTuple):
    """One sentence, and the exit code of the program that ends with it: "-" for none."""

    exit_code: str
    text: str


def main() -> int:
    """Print the list, or write docs/messages.md."""
    parser = argparse.ArgumentParser(prog="scripts/messages", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/messages.md")
    if parser.parse_args().write:
        DOCUMENT.write_text(document(), encoding="utf-8")
    else:
        print(document(), end="")
    return 0


def document() -> str:
    """Return the text of docs/messages.md as the code is now."""
    parts = [_HEAD]
    for package in PACKAGES:
        parts.append(f"## {package}\n")
        for room, messages in sorted(_by_room(package).items()):
            lines = "\n".join(
                _line(each) for each in sorted(messages, key=lambda m: m.text.lower())
            )
            parts.append(f"### {room}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def _line(message: Message) -> str:
    return f"{message.exit_code:>3}  " + message.text.strip("\n").replace("\n", "\n     ")


def _by_room(package: str) -> dict[str, set[Message]]:
    sources = {
        path.relative_to(_ROOT / package): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((_ROOT / package).rglob("*.py"))
    }
    failures = _failures(list(sources.values()))
    constants = {
        name: values
        for tree in sources.values()
        for name, values in _assigned(_top(tree, ast.Assign)).items()
        if name.isupper() and not name.startswith("_")
    }
    rooms: dict[str, set[Message]] = defaultdict(set)
    for path, tree in sources.items():
        found = set(_Finder(failures, constants, returns=path.name == "messages.py").find(tree))
        if found:
            rooms[path.parts[0].removesuffix(".py")] |= found
    return rooms


def _failures(trees: list[ast.Module]) -> set[str]:
    """Return the names of JlabError and of the classes that are made from it."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"JlabError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


class _Finder:
    """Finds the messages of one module. `returns`: what its functions return are messages too."""

    def __init__(self, failures: set[str], constants: Names, *, returns: bool) -> None:
        self._failures = failures
        self._constants = constants
        self._returns = returns

    def find(self, tree: ast.Module) -> Iterator[Message]:
        """Yield each message; one that consists of values alone is none."""
        for scope, names in _scopes(tree):
            for node in ast.walk(scope):
                for message in self._messages(node, {**self._constants, **names}):
                    if _SENTENCE.search(re.sub(r"\{[^}]*\}", "", message.text)):
                        yield message

    def _messages(self, node: ast.AST, names: Names) -> Iterator[Message]:
        if self._returns and isinstance(node, ast.Return) and node.value:
            for text in _texts(node.value, names):
                yield Message("-", text)
        if not isinstance(node, ast.Call) or not node.args:
            return
        name = _name(node.func)
        if name in self._failures:
            yield from self._failure(node, names)
        elif name in _SAID or name in _USAGE_ERRORS:
            for text in _texts(node.args[0], names):
                yield Message("2" if name in _USAGE_ERRORS else "-", text)

    @staticmethod
    def _failure(node: ast.Call, names: Names) -> Iterator[Message]:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        code = _name(given.get("exit_code", ast.Name("FAILED")))
        remedies = _texts(given["remedy"], names) if "remedy" in given else [""]
        for problem in _texts(node.args[0], names):
            for remedy in remedies:
                text = f"{problem}: {remedy}" if remedy else problem
                yield Message(_EXIT_CODES.get(code, "n"), text)


def _scopes(tree: ast.Module) -> Iterator[tuple[ast.AST, Names]]:
    """Yield the module and each outermost function, with what is assigned to its names."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    outside = _assigned(_top(tree, ast.Assign))
    for node in tree.body:
        if isinstance(node, functions):
            returns = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value]
            outside[f"{node.name}()"] = returns
    outer = [node for node in tree.body if isinstance(node, functions)]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            outer += [each for each in node.body if isinstance(each, functions)]
    for function in outer:
        yield function, {**outside, **_assigned(function)}


def _top(tree: ast.Module, kind: type[ast.stmt]) -> ast.Module:
    return ast.Module([node for node in tree.body if isinstance(node, kind)], [])


def _assigned(scope: ast.AST) -> Names:
    found: Names = defaultdict(list)
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id].append(node.value)
    return found


def _texts(node: ast.expr, names: Names) -> list[str]:
    """Return what the expression may be as text: one for each branch and each value of a name.

    A call of a function of the same module is what that function returns.
    """
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, names), *_texts(node.orelse, names)]
    key = f"{_name(node)}()" if isinstance(node, ast.Call) else _name(node)
    if isinstance(node, (ast.Name, ast.Attribute, ast.Call)) and names.get(key):
        inner = {name: values for name, values in names.items() if name != key}
        return [text for value in names[key] for text in _texts(value, inner)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _texts(node.left, names) for b in _texts(node.right, names)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_piece(each) for each in node.values)]
    return [_piece(node)]


def _piece(node: ast.expr) -> str:
    """Return a literal as it is, and anything else as {name}."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        return _piece(node.value)
    if isinstance(node, ast.IfExp):
        either = [_texts(node.body, {})[0], _texts(node.orelse, {})[0]]
        return "/".join(either) if all(either) else f"[{''.join(either)}]"
    return f"{{{_name(node).strip('_').lower()}}}"


def _name(node: ast.expr) -> str:
    """Return a word for what the expression stands for."""
    name = "..."
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.Call):
        is_joined = isinstance(node.func, ast.Attribute) and node.func.attr == "join"
        name = _name(node.args[0] if is_joined and node.args else node.func)
    elif isinstance(node, (ast.Subscript, ast.Starred)):
        name = _name(node.value)
    elif isinstance(node, ast.BinOp):
        name = _name(node.left)
    elif isinstance(node, (ast.GeneratorExp, ast.ListComp)):
        name = _name(node.generators[0].iter)
    elif isinstance(node, ast.BoolOp):
        name = _name(node.values[0])
    return name


if __name__ == "__main__":
    sys.exit(main())
