"""What `setup` shows and asks before it changes something on this computer."""

from __future__ import annotations

import difflib
import re
import sys
from typing import TYPE_CHECKING

import click

from .. import messages
from ..errors import JlabError
from ..ssh_config import keys, text_file

if TYPE_CHECKING:
    from ..paths import Paths
    from ..target import Target


def confirm_host_key(
    paths: Paths, target: Target, host_key: str, *, dry_run: bool, yes: bool
) -> bool:
    """Show a host key that is not the pinned one; return whether the key is to be pinned.

    Raises JlabError where nobody is there to be asked: who sits in between would have another, too.
    """
    pinned = keys.changed(paths, target, host_key)
    if pinned is None:
        return True
    fingerprints = keys.fingerprint(pinned), keys.fingerprint(host_key)
    print(
        messages.other_host_key(target.alias, pinned=fingerprints[0], sent=fingerprints[1]),
        flush=True,
    )
    if dry_run or yes:
        return True
    return _ask("Pin the new key?", default=False, remedy="type --yes to pin the new host key")


def confirm_change(config: str, before: str, after: str, *, dry_run: bool, yes: bool) -> bool:
    """Show the change to the config file; return whether it is to be made. Raises JlabError."""
    text_file.check_writable(config)
    if after == before:
        print(f"{config} needs no change")
        return not dry_run
    sys.stdout.writelines(_diff(before, after, config))
    if dry_run:
        print("dry run: nothing was changed")
        return False
    if yes:
        return True
    return _ask(
        f"Write this to {config}?",
        default=True,
        remedy="type --yes to write this without being asked",
    )


def _ask(question: str, *, default: bool, remedy: str) -> bool:
    """Return the answer of the person at the terminal; raises JlabError where nobody is there."""
    if not sys.stdin.isatty():
        raise JlabError("nothing was changed", remedy=remedy)
    agreed = click.confirm(question, default=default)
    if not agreed:
        print("nothing was changed")
    return agreed


def _diff(before: str, after: str, path: str) -> list[str]:
    old, new = ([line.rstrip("\r\n") for line in text.splitlines()] for text in (before, after))
    lines = difflib.unified_diff(old, new, path, path, lineterm="")
    return [re.sub(r"[^\t\x20-\x7e]", "?", line) + "\n" for line in lines]
