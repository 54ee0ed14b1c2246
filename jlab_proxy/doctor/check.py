"""One link of the chain as `doctor` found it: how it reads, and what a cluster may say. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import click

from ..errors import JlabError, printable

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"

_COLOURS = {OK: "green", WARNING: "yellow", FAILURE: "red", SKIPPED: None}
_NAME = re.compile(r"[A-Za-z0-9~][A-Za-z0-9~./ -]{0,31}")
_MAX_TEXT = 1000  # characters of a sentence
_MAX_CHECKS = 100  # checks


@dataclass(frozen=True)
class Check:
    """A link: what it is like, and unless it is ok what to do. Skipped: another comes first."""

    check: str
    state: str
    found: str
    remedy: str = ""


def skipped(name: str, because: str) -> Check:
    """Return a link that is not looked at, since another comes first."""
    return Check(name, SKIPPED, f"not looked at: {because} comes first")


def broken(name: str, error: JlabError, *, remedy: str = "") -> Check:
    """Return the link whose look has raised `error`; `remedy` is for one that names none."""
    return Check(name, FAILURE, printable(error.problem), printable(error.remedy) or remedy)


def render(check: Check) -> str:
    """Return what a person reads: the line, and under it the remedy."""
    state = click.style(f"{check.state:8}", fg=_COLOURS[check.state])
    line = f"{state} {check.check:16} {check.found}"
    return line if not check.remedy else f"{line}\n{'':25} -> {check.remedy}"


def parse(answer: dict[str, Any], *, alias: str) -> list[Check]:
    """Return the checks in an answer of `jlab-node doctor --json`; raises JlabError."""
    given = answer.get("checks")
    if not isinstance(given, list) or not 1 <= len(given) <= _MAX_CHECKS:
        raise _invalid_answer()
    return [_parse(each, alias) for each in given]


def _invalid_answer() -> JlabError:
    return JlabError(
        "the answer of jlab-node doctor is not valid",
        remedy="log in to the cluster and type pip install -U jlab-remote && jlab-node setup",
    )


def _parse(given: object, alias: str) -> Check:
    values = given if isinstance(given, dict) else {}
    name, state, found, remedy = (
        values.get(key, "") for key in ("check", "state", "found", "remedy")
    )
    fits = (
        isinstance(name, str)
        and _NAME.fullmatch(name)
        and state in (OK, WARNING, FAILURE, SKIPPED)
        and isinstance(found, str)
        and isinstance(remedy, str)
    )
    if not fits:
        raise _invalid_answer()
    found, remedy = (printable(text[:_MAX_TEXT]) for text in (found, remedy))
    return Check(name, state, found, f"on {alias}: {remedy}" if remedy else "")
