"""What several commands share: their options."""

from __future__ import annotations

import click

from ..identifiers import is_id, is_name

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")


def session_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_name(value):
        raise click.BadParameter(
            "a name is 1 to 32 of a-z 0-9 . _ - and begins with a letter or a digit"
        )
    return value


def session(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (is_name(value) or is_id(value)):
        raise click.BadParameter("that is neither a session's name nor its id")
    return value


def session_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter("a session's id is SCHEDULER-JOB-NAME")
    return value
