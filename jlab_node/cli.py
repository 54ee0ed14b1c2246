"""The command line of jlab-node."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import connect as connecting
from . import expose as exposing
from . import home, jobs, jupyter, sessions, sockets, sshd, submit, wording
from . import run as running
from .errors import FAILED, UNAVAILABLE, JlabError
from .record import MAX_PORT, is_name

if TYPE_CHECKING:
    from .sessions import Published, Unreadable

JSON_FORMAT = 1
_RESUBMIT = 99  # to OAR this exit status means: run the job again

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")


def main() -> NoReturn:
    """Run the command; an expected failure is one sentence and its exit code, no traceback."""
    try:
        code = cli(prog_name="jlab-node", standalone_mode=False)
    except JlabError as error:
        _fail(str(error), error.code)
    except OSError as error:  # a full disk, a home that is gone: nothing that we foresaw here
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", FAILED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    sys.exit(_exit_code(code) if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> NoReturn:
    for line in text.splitlines():
        print(f"jlab-node: {line}", file=sys.stderr)
    sys.exit(_exit_code(code))


def _exit_code(code: int) -> int:
    return FAILED if code == _RESUBMIT else code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("jlab-remote"), prog_name="jlab-node")
def cli() -> None:
    """JupyterLab inside a batch job, and the way to it from a laptop.

    In the job:  jlab-node run.  On the laptop:  ssh jlab+ALIAS.
    """


def _session_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_name(value):
        raise click.BadParameter(
            "a name is 1 to 32 of a-z 0-9 . _ - and begins with a letter or a digit"
        )
    return value


def _port_range(_: click.Context, __: click.Parameter, value: str | None) -> range | None:
    if value is None:
        return None
    numbers = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value)
    low, high = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= low <= high <= MAX_PORT:
        raise click.BadParameter("write it as LO-HI, for example 40000-40999")
    return range(low, high + 1)


@cli.command()
@click.option(
    "--name",
    default=sockets.NEWEST,
    show_default=True,
    callback=_session_name,
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
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- JUPYTER-LAB-ARGUMENTS]")
def run(
    name: str,
    *,
    port_range: range | None,
    jupyter_command: str | None,
    sshd_path: str | None,
    here: bool,
    arguments: tuple[str, ...],
) -> int:
    """Start JupyterLab here, inside the job, and make it reachable from a laptop.

    Ends with JupyterLab, or on SIGTERM, SIGINT and SIGHUP. Arguments after -- go to jupyter-lab.

    Example:  jlab-node run --name gpu -- --notebook-dir=/data/alice
    """
    return running.run(
        running.Options(
            name=name,
            port_range=port_range,
            jupyter=jupyter_command,
            sshd=sshd_path,
            here=here,
            arguments=arguments,
        )
    )


@cli.command()
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
@click.option("--session", metavar="NAME", callback=_session_name, help="--submit for NAME only.")
@click.option("--dry-run", is_flag=True, help="Tell what is here, write nothing.")
@_as_json
def setup(
    *, authorize: bool, with_submit: bool, session: str | None, dry_run: bool, as_json: bool
) -> None:
    """Make ~/.jlab complete and current. Safe to repeat; `run` does it too."""
    directory = home.locate() if dry_run else home.prepare()
    if not dry_run:
        home.remember_site(directory, jobs.site())
    if authorize and not dry_run:
        home.authorize(directory, sys.stdin.readline())
    if with_submit and not dry_run:
        submit.set_command(directory, session, sys.stdin.readline().strip())
    found = _about(directory)
    if as_json:
        _print_json(found)
        return
    print(f"{directory.path} is {'here' if dry_run else 'ready'} on {found['host']}")
    print(f"  jupyter-lab  {found['jupyter'] or 'not found: activate its environment before run'}")
    print(f"  sshd         {found['sshd'] or 'not found: sessions will have no ssh endpoint'}")
    site = jobs.site()
    script = f"jlab-node script {site.scheduler.NAME} > jlab.sh && " if site else ""
    print(f"Next:                       {script}{wording.how_to_start(site)}")
    print("and once on your computer:  pip install jlab-remote && jlab-proxy setup ALIAS")
    print("  where ALIAS is this cluster's name in your ~/.ssh/config")


def _about(directory: home.Home) -> dict[str, Any]:
    user = home.user()
    try:
        lab: str | None = jupyter.find(None)[0]
    except JlabError:
        lab = None
    key = directory.public_host_key
    return {
        "host": os.uname().nodename,
        "user": user,
        "home": str(directory.path),
        "host_key": " ".join(key.read_text("utf-8").split()[:2]) if key.exists() else None,
        "socket_dir": str(sockets.base_path(os.environ, user)),
        "jupyter": lab,
        "sshd": sshd.find(None),
    }


@cli.command()
@_as_json
def ls(*, as_json: bool) -> None:
    """List the running sessions, newest first."""
    published, unreadable = _read()
    if as_json:
        _print_json({"sessions": [_public(each) for each in published]})
        return
    if not published:
        print(f"no session is running: start one with `{wording.how_to_start(jobs.site())}`")
    else:
        width = max(len(each.record.name) for each in published)
        for each in published:
            record = each.record
            job = f"{record.scheduler} {record.job_id}"
            print(f"{record.name:{width}}  {record.node}  {job}  {_times(each)}")
    for broken in unreadable:
        print(
            f"jlab-node: {broken.path.parent / sessions.printable(broken.path)} is no use: "
            f"{broken.why}",
            file=sys.stderr,
        )


def _read() -> tuple[list[Published], list[Unreadable]]:
    """The sessions whose jobs have not ended, as far as can be told here; files that hold none.

    Those of this cluster come first, as ssh goes to no other: a home may be seen from several.
    """
    published, unreadable = sessions.read_all(home.locate().sessions)
    living = jobs.living(published, home.user())
    return sorted(living, key=lambda each: not jobs.can_tell(each.record)), unreadable


def _times(published: Published) -> str:
    def text(when: int | None) -> str:
        return "?" if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))

    record = published.record
    ends = f", ends {text(record.ends_at)}" if record.ends_at else ""
    return f"since {text(record.started)}{ends}"


def _public(published: Published) -> dict[str, Any]:
    """A record without what lets one in."""
    record = published.record
    keys = (
        "id",
        "name",
        "scheduler",
        "job_id",
        "cluster",
        "node",
        "user",
        "started",
        "ends_at",
        "log",
        "version",
    )
    exposed = record.exposed.split(",") if record.exposed else []
    return {**{key: getattr(record, key) for key in keys}, "exposed": exposed}


@cli.command()
@click.argument("name", required=False)
@click.option(
    "--port",
    type=click.IntRange(1, MAX_PORT),
    default=8888,
    show_default=True,
    help="The port on your computer that leads here.",
)
@_as_json
def url(name: str | None, *, port: int, as_json: bool) -> None:
    """Print the address that logs a browser in to a session (the newest one, or NAME).

    It contains the token: whoever has it can do what you can.
    """
    published, _ = _read()
    starting = sockets.starting(sockets.base_path(os.environ, home.user()))
    if starting and not published:
        raise JlabError(f"session {starting[0]} is starting: try again soon", code=UNAVAILABLE)
    start = wording.how_to_start(jobs.site())
    record = sessions.choose(published, name, start=start).record
    address = f"{record.scheme}://localhost:{port}{record.base_url}lab?token={record.token}"
    if as_json:
        _print_json({"id": record.id, "url": address})
    else:
        print(address)


@cli.command()
@click.argument("name")
@_as_json
def stop(name: str, *, as_json: bool) -> None:
    """End the session NAME (a name or an id from `ls`) and its job."""
    published = sessions.choose(_read()[0], name)
    connecting.stop(published)
    if as_json:
        _print_json({"stopped": published.record.id})
    else:
        print(f"session {published.record.id} is stopped")


@cli.command()
@click.argument("name", required=False, callback=_session_name)
@click.argument("port", required=False, type=click.IntRange(1, MAX_PORT))
@click.option("--stop", "end", is_flag=True, help="NAME is to lead nowhere any more.")
@_as_json
def expose(name: str | None, port: int | None, *, end: bool, as_json: bool) -> None:
    """In the job: let `ssh -L` reach PORT of this node by NAME; without either, list.

    Example:  jlab-node expose dask 8787
    """
    if end != (name is not None and port is None):
        raise click.UsageError("NAME PORT, or NAME --stop, or neither")
    base, request = sockets.base_path(os.environ, home.user()), exposing.Request(name, port)
    answer = exposing.ask(base, request)
    if as_json:
        _print_json(dataclasses.asdict(answer))
    else:
        print(exposing.sentence(request, answer, base))


@cli.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--session", metavar="NAME", callback=_session_name)
@click.option("--columns", type=int, metavar="N", help="The width of the laptop's terminal.")
@click.option("--tried", metavar="FILE", help="The record whose node did not answer just now.")
def connect(session: str | None, *, columns: int | None, tried: str | None) -> None:
    """Become the ssh connection to a session: what `ssh jlab+ALIAS` runs on the login node.

    Started by ~/.jlab/connect when the newest session does not answer at once.
    """
    wish = connecting.Wish(session, columns, tried, words=sys.argv[2:])
    connecting.Connection(wish, env=os.environ, user=home.user()).establish()


@cli.command()
@click.argument("scheduler", type=click.Choice(["slurm", "oar", "pbs", "sge", "lsf"]))
@click.option("--name", default="lab", show_default=True, callback=_session_name)
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
def script(scheduler: str, **options: Any) -> None:
    """Print a job script that runs JupyterLab.

    Example:  jlab-node script slurm --cpus 4 --mem 16G --time 8h > jlab.sh
    """
    from . import schedulers
    from . import script as scripting

    print(scripting.compose(schedulers.TABLE[scheduler], **options), end="")
    if sys.stdout.isatty():
        print(scripting.next_commands(schedulers.TABLE[scheduler], sys.argv), file=sys.stderr)


def _print_json(value: dict[str, Any]) -> None:
    # One line, so that a reader can tell it from what a noisy .bashrc says.
    print(json.dumps({"format": JSON_FORMAT, "version": version("jlab-remote"), **value}))
