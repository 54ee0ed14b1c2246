"""Every command and option is in the README, every sentence in its list; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import click
import messages
import pytest

from jlab_node.cli import cli as node
from jlab_proxy.cli import cli as proxy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands(program: str, group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(f"{program} {name}", command) for name, command in found if command]


COMMANDS = [*commands("jlab-node", node), *commands("jlab-proxy", proxy)]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_the_readme_has_it(name: str, command: click.Command) -> None:
    (row,) = (line for line in README.splitlines() if line.startswith(f"| `{name}"))
    family = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    for option in (p for c in family for p in c.params if isinstance(p, click.Option)):
        longest = max(option.opts, key=len)
        assert longest in row or longest == "-F", f"{name} {longest}"
    for each in family:
        assert each.help
        assert re.search("Example:  .*jlab-", each.help) or isinstance(each, click.Group)


def test_the_list_of_messages_is_that_of_the_code() -> None:
    assert messages.DOCUMENT.read_text("utf-8") == messages.document(), (
        "scripts/messages --write makes it anew"
    )


def test_the_list_of_messages_has_each_kind() -> None:
    listed = messages.DOCUMENT.read_text("utf-8").splitlines()
    assert "  1  {path} is not a directory: remove it, then try again" in listed
    assert "  2  a session's id is SCHEDULER-JOB-NAME" in listed
    assert " 69  the laptop has ended the connection" in listed
    assert "  -  connected again" in listed


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
