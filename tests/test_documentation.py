"""Every command and option is in the README."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from jlab_node.cli import cli as node
from jlab_proxy.cli import cli as proxy

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = [
    (f"{program} {name}", command)
    for program, group in (("jlab-node", node), ("jlab-proxy", proxy))
    for name, command in group.commands.items()
]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_the_readme_has_it(name: str, command: click.Command) -> None:
    (row,) = (line for line in README.splitlines() if line.startswith(f"| `{name}"))
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    for option in (p for c in commands for p in c.params if isinstance(p, click.Option)):
        longest = max(option.opts, key=len)
        assert longest in row or longest == "-F", f"{name} {longest}"
    for each in commands:
        assert each.help
        assert re.search("Example:  .*jlab-", each.help) or isinstance(each, click.Group)
