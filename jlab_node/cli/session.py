"""What is typed in a job: run, expose."""

from __future__ import annotations

import re

import click

from ..identifiers import MAX_PORT, NEWEST, is_socket_path
from .options import as_json, session_name


def _port_range(_: click.Context, __: click.Parameter, value: str | None) -> range | None:
    if value is None:
        return None
    numbers = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value)
    low, high = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= low <= high <= MAX_PORT:
        raise click.BadParameter("write it as LO-HI, for example 40000-40999")
    return range(low, high + 1)


# What it does not know is jupyter-lab's: the line of the older way works as it is.
@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--name",
    default=NEWEST,
    show_default=True,
    callback=session_name,
    help="What `ssh jlab+ALIAS+NAME` and `jlab-node stop NAME` will call it.",
)
@click.option(
    "--port-range",
    metavar="LO-HI",
    callback=_port_range,
    help="Ports that the site's firewall lets pass from login to compute nodes. "
    "Default: the kernel picks.",
)
@click.option(
    "--jupyter",
    "jupyter_command",
    metavar="CMD",
    help="Another jupyter-lab, for example 'conda run -n dl jupyter-lab'.",
)
@click.option("--sshd", "sshd_path", metavar="PATH", help="Another sshd.")
@click.option("--here", is_flag=True, help="Even outside of a job, on a cluster's own machine.")
@click.option("--socket-only", is_flag=True, help="JupyterLab opens no port, its socket alone.")
@click.option(
    "--debugger",
    is_flag=True,
    help="Let kernels open a debugger. It asks for no password: only for who is alone on the node.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTER-LAB-ARGUMENTS]")
def run(
    name: str,
    *,
    port_range: range | None,
    jupyter_command: str | None,
    sshd_path: str | None,
    here: bool,
    socket_only: bool,
    debugger: bool,
    arguments: tuple[str, ...],
) -> int:
    """Start JupyterLab here, inside the job, and make it reachable from a laptop.

    Ends with JupyterLab, or on SIGTERM, SIGINT and SIGHUP. Other options go to jupyter-lab; --ip,
    --port, --token and --no-browser are not needed and left out. After -- all are jupyter-lab's.

    Example:  jlab-node run --name gpu --notebook-dir=/data/alice
    """
    from ..session import supervisor

    return supervisor.run(
        supervisor.Options(
            name=name,
            port_range=port_range,
            jupyter=jupyter_command,
            sshd=sshd_path,
            here=here,
            socket_only=socket_only,
            debugger=debugger,
            arguments=arguments,
        )
    )


def _port_or_path(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int | None, str | None]:
    if value is None:
        return None, None
    if is_socket_path(value):
        return None, value
    if value.isdecimal():
        return click.IntRange(1, MAX_PORT).convert(int(value), parameter, context), None
    raise click.BadParameter("this must be a port, or the absolute path of a unix socket")


@click.command()
@click.argument("name", required=False, callback=session_name)
@click.argument("target", required=False, callback=_port_or_path, metavar="PORT|/SOCKET")
@click.option("--stop", "end", is_flag=True, help="NAME is to lead nowhere any more.")
@as_json
def expose(
    name: str | None, target: tuple[int | None, str | None], *, end: bool, as_json: bool
) -> None:
    """In the job: let `ssh -L` reach PORT of this node, or a unix socket, by NAME; alone, list.

    Example:  jlab-node expose dask 8787
    """
    from ..commands import expose as command

    if end != (name is not None and target == (None, None)):
        raise click.UsageError("give NAME and PORT, or NAME and --stop, or none of them")
    command.expose(name, *target, as_json=as_json)
