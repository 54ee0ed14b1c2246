"""What is typed on the login node, or from a laptop, about sessions."""

from __future__ import annotations

import click

from ..identifiers import MAX_PORT
from .options import as_json, session, session_id, session_name


@click.command()
@as_json
def ls(*, as_json: bool) -> None:
    """List the running sessions, newest first, and the jobs that will become one.

    Example:  jlab-node ls
    """
    from ..commands import ls as command

    command.ls(as_json=as_json)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--port",
    type=click.IntRange(1, MAX_PORT),
    default=8888,
    show_default=True,
    help="The port on your computer that leads here.",
)
@click.option("--unchecked", is_flag=True, help="Do not ask the scheduler whether it still runs.")
@as_json
def url(name: str | None, *, port: int, unchecked: bool, as_json: bool) -> None:
    """Print the address that logs a browser in to a session (the newest one, or NAME).

    It contains the token: whoever has it can do what you can.

    Example:  jlab-node url gpu
    """
    from ..commands import url as command

    command.url(name, port=port, unchecked=unchecked, as_json=as_json)


@click.command()
@click.argument("name", required=False, callback=session)
@click.option(
    "--after",
    metavar="ID",
    callback=session_id,
    help="If there is none: what became of the session ID.",
)
@as_json
def status(name: str | None, *, after: str | None, as_json: bool) -> int:
    """Tell how it stands with a session (the newest one, or NAME): since when, how long, why not.

    The exit code is 0 if it runs or will, 69 if not.

    Example:  jlab-node status gpu
    """
    from ..commands import status as command

    return command.status(name, after=after, as_json=as_json)


@click.command()
@click.argument("name", required=False, callback=session_name)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
def logs(name: str | None, *, follow: bool, lines: int) -> None:
    """Show what a session (the last one, or NAME) and its JupyterLab wrote, even after their end.

    Example:  jlab-node logs -f gpu
    """
    from ..commands import logs as command

    command.logs(name, follow=follow, lines=lines)


@click.command()
@click.argument("name")
@as_json
def stop(name: str, *, as_json: bool) -> None:
    """End the session NAME (a name or an id from `ls`) and its job; or the job NAME in the queue.

    Example:  jlab-node stop gpu
    """
    from ..commands import stop as command

    command.stop(name, as_json=as_json)


@click.command()
@click.argument("name", required=False, callback=session_name)
@as_json
def submit(name: str | None, *, as_json: bool) -> None:
    """Submit a job, if no session (NAME) runs or is on its way: by the command on standard input.

    An empty line there stands for what `setup --submit` was told.

    Example:  echo sbatch jlab.sh | jlab-node submit
    """
    from ..commands import submit as command

    command.submit(name, as_json=as_json)
