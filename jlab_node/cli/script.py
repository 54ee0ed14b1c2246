"""Files to begin with: job scripts, an environment, a tmuxp session."""

from __future__ import annotations

from typing import Any

import click

from .options import session_name


@click.group(invoke_without_command=True)
@click.pass_context
def script(context: click.Context) -> None:
    """Print a file to begin with: a job script, or what stands around a session."""
    if context.invoked_subcommand is None:  # click before 8.2 would print this help to the file
        click.echo(context.get_help(), err=True)
        context.exit(2)


@click.command()
@click.option("--name", default="lab", show_default=True, callback=session_name)
@click.option("--cpus", type=click.IntRange(1, 9999), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(0, 999), default=0, show_default=True)
@click.option("--mem", metavar="AMOUNT", help="For example 16G. Default: the site's.")
@click.option("--time", "span", metavar="TIME", default="4:00:00", show_default=True)
@click.option("--account", "--project", default="", help="Who pays for it.")
@click.option("--partition", "--queue", default="", help="Where it is to run.")
@click.option(
    "--env",
    "environment",
    default="",
    metavar="NAME|PATH",
    help="A conda environment, or the path of a venv. Default: where this jlab-node is.",
)
@click.option("--notebook-dir", default="", metavar="DIR", help="Default: your home directory.")
@click.option("--log-dir", default="~/jlab-logs", show_default=True, metavar="DIR")
@click.pass_context
def _job_script(context: click.Context, /, **options: Any) -> None:
    """Print a job script that runs JupyterLab.

    Example:  jlab-node script slurm --cpus 4 --mem 16G --time 8h > jlab.sh
    """
    from ..commands import script as command

    command.job_script(str(context.info_name), **options)


for _scheduler in ("slurm", "oar", "pbs", "sge", "lsf"):
    script.add_command(_job_script, _scheduler)


@script.command()
@click.option("--pip", "for_pip", is_flag=True, help="As a requirements.txt for pip.")
def environment(*, for_pip: bool) -> None:
    """Print an environment.yaml for conda: JupyterLab and what one likes to have with it.

    Example:  jlab-node script environment > environment.yaml
    """
    from ..commands import script as command

    command.environment(for_pip=for_pip)


@script.command()
@click.argument("where", metavar="ALIAS[+SESSION]")
def tmuxp(where: str) -> None:
    """Print a session file for tmuxp, for your computer: the tunnel, and a shell in the job.

    Example:  jlab-node script tmuxp gricad > gricad.yaml
    """
    from ..commands import script as command

    command.tmuxp(where)
