"""What serves laptops: setup, connect, doctor."""

from __future__ import annotations

import click

from .options import as_json, session_name


@click.command()
@click.option(
    "--authorize",
    is_flag=True,
    help="Let in the laptop whose ssh public key stands on standard input.",
)
@click.option(
    "--submit",
    "with_submit",
    is_flag=True,
    help="Let `ssh jlab+ALIAS` submit a job when there is none, by the command line that stands on "
    "standard input; an empty one ends that.",
)
@click.option("--session", metavar="NAME", callback=session_name, help="--submit for NAME only.")
@click.option("--dry-run", is_flag=True, help="Tell what is here, write nothing.")
@as_json
def setup(
    *, authorize: bool, with_submit: bool, session: str | None, dry_run: bool, as_json: bool
) -> None:
    """Make ~/.jlab complete and current. Safe to repeat; `run` does it too.

    Example:  jlab-node setup
    """
    from ..commands import setup as command

    command.setup(
        authorize=authorize,
        with_submit=with_submit,
        session=session,
        dry_run=dry_run,
        as_json=as_json,
    )


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--session", metavar="NAME", callback=session_name)
@click.option("--columns", type=int, metavar="N", help="The width of the laptop's terminal.")
@click.option("--no-submit", is_flag=True, help="Submit nothing, whatever `setup --submit` said.")
@click.option("--tried", metavar="FILE", help="The record whose node did not answer just now.")
@click.option("--tagged", is_flag=True, help="Begin status lines with [waiting], for a program.")
def connect(
    session: str | None, *, columns: int | None, no_submit: bool, tried: str | None, tagged: bool
) -> None:
    """Become the ssh connection to a session: what `ssh jlab+ALIAS` runs on the login node.

    Started by ~/.jlab/connect when the newest session does not answer at once.

    Example:  jlab-node connect --session gpu   (to see what it says)
    """
    from ..commands import connect as command

    command.connect(session, columns=columns, may_submit=not no_submit, tried=tried, tagged=tagged)


@click.command()
@as_json
def doctor(*, as_json: bool) -> int:
    """Look at each link of the chain on this side; nothing is changed.

    One line each: ok, warning, failure or skipped. Exit code 1 if one has failed, 0 otherwise.
    From a laptop, `jlab-proxy doctor ALIAS` looks at all of the chain.

    Example:  jlab-node doctor
    """
    from ..commands import doctor as command

    return command.doctor(as_json=as_json)
