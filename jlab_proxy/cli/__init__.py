"""The command line of jlab-proxy, but for what ssh itself calls (see __main__)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from .. import VERSION
from ..ui.terminal import tolerate_encoding_errors

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_config_option = click.option(
    "-F", "config", metavar="FILE", help="Another ssh config file, as ssh's own -F."
)


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from ..commands.completion import complete  # only the shell's completion needs it

    return complete(context, parameter, incomplete)


def main() -> NoReturn:
    """Run the command; raises JlabError."""
    tolerate_encoding_errors()
    code: object = 0
    try:
        code = cli(prog_name="jlab-proxy", standalone_mode=False)
        print(end="", flush=True)  # a disk that is full is told of here, not at the very end
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        if error.__cause__ is None:  # it was at a question; elsewhere click has ended the line
            print(file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="jlab-proxy")
def cli() -> None:
    """Reach a JupyterLab that runs inside a job: once `setup`, then plain `ssh jlab+ALIAS`.

    ALIAS is a cluster's login node, by its name in your ~/.ssh/config.
    """


@cli.command()
@click.argument("alias", shell_complete=_complete)
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
    from ..commands import setup as command

    command.run(
        alias,
        session=session,
        config=config,
        options=command.SetupOptions(port=port, mux=mux, submit=submit, dry_run=dry_run, yes=yes),
        remove=remove,
    )


_where = click.argument("where", metavar="ALIAS[+SESSION]", shell_complete=_complete)


@cli.command("open")
@_where
@click.option(
    "--submit", metavar="CMD", help="If there is no session and no job, let the cluster run CMD."
)
@click.option(
    "--with",
    "exposed",
    metavar="NAME",
    multiple=True,
    help="Forward NAME as well: what `jlab-node expose NAME PORT` names in the job.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@_config_option
def open_(
    where: str,
    *,
    submit: str | None,
    exposed: tuple[str, ...],
    no_browser: bool,
    config: str | None,
) -> int:
    """Open JupyterLab in the browser, and hold the way to it until the job ends, or Ctrl-C.

    Waits for a job that is queued. Connects again, at the same port, when the network was gone or
    this computer has slept; follows the session when it moves to a new job.

    Example:  jlab-proxy open gricad --submit 'oarsub -S ./jlab.sh'
    """
    from ..commands import open_tunnel as command

    return command.run(
        where, submit=submit, exposed=exposed, with_browser=not no_browser, config=config
    )


@cli.command()
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1, shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")
@_config_option
def ls(aliases: tuple[str, ...], *, as_json: bool, config: str | None) -> int:
    """List the sessions of all clusters that are set up here (or of ALIAS...), side by side.

    The exit code is 1 if a cluster could not be asked.

    Example:  jlab-proxy ls
    """
    from ..commands import ls as command

    return command.ls(aliases, as_json=as_json, config=config)


@cli.command()
@_where
@_config_option
def url(where: str, *, config: str | None) -> None:
    """Print the address that logs a browser in, while `ssh jlab+ALIAS` is open.

    It is that of the session to which the port leads, and there is none where the port is another
    user's, or where nobody has it yet: somebody else could take it. It contains the session's
    token: whoever has it can do what you can.

    Example:  jlab-proxy url gricad+gpu
    """
    from ..commands import url as command

    command.url(where, config=config)


@cli.command()
@_where
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
@_config_option
def logs(where: str, *, follow: bool, lines: int, config: str | None) -> int:
    """Show what the last session and its JupyterLab wrote, even after its end.

    Example:  jlab-proxy logs -f gricad
    """
    from ..commands import logs as command

    return command.logs(where, follow=follow, lines=lines, config=config)


@cli.command()
@_where
@click.option("--yes", is_flag=True, help="Do not ask.")
@_config_option
def stop(where: str, *, yes: bool, config: str | None) -> int:
    """End a session and cancel its job (or the job that is to become one), once you have agreed.

    Example:  jlab-proxy stop gricad+gpu
    """
    from ..commands import stop as command

    return command.stop(where, yes=yes, config=config)


@cli.command()
@click.argument("aliases", metavar="[ALIAS]...", nargs=-1, shell_complete=_complete)
@_config_option
def close(aliases: tuple[str, ...], *, config: str | None) -> None:
    """Close what is still open to the clusters (or to ALIAS...): tunnels, shared connections.

    Shells that came over a shared connection, as most do, end with it. Nothing on the cluster ends.

    Example:  jlab-proxy close gricad
    """
    from ..commands import close as command

    command.run(aliases, config=config)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell's completion of jlab-proxy, with clusters and sessions.

    Example:  jlab-proxy completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101
    print(maker(cli, {}, "jlab-proxy", "_JLAB_PROXY_COMPLETE").source())


@cli.command()
@click.argument("alias", shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")
@_config_option
def doctor(alias: str, *, as_json: bool, config: str | None) -> int:
    """Walk the way to a session link by link: which one is broken, and what to do about it.

    One line each, ok, warning, failure or skipped (an earlier one comes first). Nothing is changed
    anywhere. Exit code 1 if a link has failed, 0 otherwise: warnings are no failures.

    Example:  jlab-proxy doctor gricad
    """
    from ..doctor import chain as command

    return command.run(alias, as_json=as_json, config=config)


@cli.command()
@click.argument("host")
@click.option("--port", metavar="N", help="The local port to name in the line for the terminal.")
@click.option("--sockets", metavar="DIR", help="Where on the node that port leads.")
@click.option("--no-share", is_flag=True, help="Leave sharing the connection to the user's alias.")
@_config_option
def connect(**_: object) -> None:
    """Become the connection to a session: ssh's ProxyCommand, not for use by hand.

    Example:  jlab-proxy connect jlab+gricad   (to see what it says)
    """
    from ..connect import main as become_ssh

    become_ssh(sys.argv[sys.argv.index("connect") + 1 :])  # after `jlab-proxy --`
