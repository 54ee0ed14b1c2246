"""The command line of jlab-proxy, but for what ssh itself calls (see __main__)."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from typing import NoReturn

import click

from . import connect as connecting
from . import login, paths, sshconfig, target
from . import setup as setting_up
from .errors import USAGE, JlabError

_config_option = click.option(
    "-F", "config", metavar="FILE", help="Another ssh config file, as ssh's own -F."
)


def main() -> NoReturn:
    """Run the command; raises JlabError."""
    try:
        cli(prog_name="jlab-proxy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        print(file=sys.stderr)
        sys.exit(130)
    sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("jlab-remote"), prog_name="jlab-proxy")
def cli() -> None:
    """Reach a JupyterLab that runs inside a job: once `setup`, then plain `ssh jlab+ALIAS`.

    ALIAS is a cluster's login node, by its name in your ~/.ssh/config.
    """


@cli.command()
@click.argument("alias")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The local port for JupyterLab. Default: the first from 8888 that no other block has.",
)
@click.option("--session", metavar="NAME", help="Only for the session of that name.")
@click.option(
    "--mux",
    is_flag=True,
    help="Share the connection to the job as well: later ones are quicker, but "
    "`ssh -N -L` returns at once.",
)
@click.option(
    "--submit",
    metavar="CMD",
    help="Let the cluster run CMD, such as 'sbatch jlab.sh', whenever you connect and have no "
    "job; '' ends that.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--remove", is_flag=True, help="Take the block (all of the alias) out again.")
@_config_option
def setup(
    alias: str,
    *,
    port: int | None,
    session: str | None,
    mux: bool,
    submit: str | None,
    dry_run: bool,
    yes: bool,
    remove: bool,
    config: str | None,
) -> None:
    """Make `ssh jlab+ALIAS` work: connect once, exchange keys, write a block to ~/.ssh/config.

    Example:  jlab-proxy setup gricad
    """
    if "+" in alias:
        raise JlabError(
            f"{alias!r} cannot be an alias: leave out jlab+, and name a session with --session",
            code=USAGE,
        )
    where = target.parse(f"{alias}+{session}" if session is not None else alias)
    act = setting_up.remove if remove else setting_up.setup
    act(
        paths.locate(config),
        where,
        setting_up.Answers(port=port, mux=mux, submit=submit, dry_run=dry_run, yes=yes),
    )


@cli.command()
@click.argument("where", metavar="ALIAS[+SESSION]")
@_config_option
def url(where: str, *, config: str | None) -> None:
    """Print the address that logs a browser in, while `ssh jlab+ALIAS` is open.

    It contains the session's token: whoever has it can do what you can.
    """
    files = paths.locate(config)
    wanted = target.parse(where)
    port = sshconfig.ports(sshconfig.read(files.config)).get(wanted.host)
    if port is None:
        session = f" --session {wanted.session}" if wanted.session else ""
        raise JlabError(
            f"no port of this computer leads to {wanted.name}: "
            f"jlab-proxy setup {wanted.alias}{session}"
        )
    arguments = [f"--port={port}", *([wanted.session] if wanted.session else [])]
    answer = login.find(files, wanted.alias).ask("url", *arguments)
    address = str(answer.get("url"))
    if not re.fullmatch(rf"https?://localhost:{port}/[\w.~%/-]*lab\?token=[0-9a-f]{{64}}", address):
        raise JlabError("the cluster's answer is not an address")
    if connecting.is_free(port):
        connecting.say(
            f"localhost:{port} is not open yet: keep `ssh {wanted.host}` running, "
            "then open this address"
        )
    print(address)


@cli.command()
@click.argument("host")
@click.option("--port", metavar="N", help="The local port to name in the line for the terminal.")
@click.option("--no-share", is_flag=True, help="Leave sharing the connection to the user's alias.")
@_config_option
def connect(**_: object) -> None:
    """Become the connection to a session: ssh's ProxyCommand, not for use by hand."""
    connecting.main(sys.argv[2:])
