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
from . import home, jobs, jupyter, sessions, sockets, sshd, templates, wording
from . import logs as logging
from . import run as running
from . import status as standing
from . import stop as stopping
from . import submit as submitting
from .connect import laptop_is_gone
from .errors import FAILED, UNAVAILABLE, JlabError
from .record import MAX_PORT, is_id, is_name
from .screen import printable
from .upcoming import Upcoming

if TYPE_CHECKING:
    from .record import Record
    from .schedulers.job import Status
    from .sessions import Published

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
        print(f"jlab-node: {printable(line)}", file=sys.stderr)
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


def _session(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (is_name(value) or is_id(value)):
        raise click.BadParameter("that is neither a session's name nor its id")
    return value


def _session_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_id(value):
        raise click.BadParameter("a session's id is SCHEDULER-JOB-NAME")
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
    jobs.site()  # known to ~/.jlab/connect from now on
    if authorize and not dry_run:
        home.authorize(directory, sys.stdin.readline())
    if with_submit and not dry_run:
        submitting.set_command(directory, session, sys.stdin.readline().strip())
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
    """List the running sessions, newest first, and the jobs that will become one.

    Example:  jlab-node ls
    """
    directory = home.locate()
    _, unreadable = sessions.read_all(directory.sessions)
    published = standing.living(directory, user=home.user())
    upcoming = _upcoming(directory, None)
    ahead = upcoming.jobs(max_age=standing.MAX_AGE)
    if as_json:
        found = [_public(each.record) for each in published]
        _print_json({"sessions": found, "jobs": [_queued(each) for each in ahead]})
        return
    if upcoming.problem:
        print(f"jlab-node: {printable(upcoming.problem)}", file=sys.stderr)
    elif not published and not ahead:
        print(f"no session is running: start one with `{wording.how_to_start(jobs.site())}`")
    width = max((len(each.record.name) for each in published), default=0)
    for each in published:
        record = each.record
        job = f"{record.scheduler} {record.job_id}"
        print(f"{record.name:{width}}  {record.node}  {job}  {_times(each)}")
    for status in ahead:
        print(printable(wording.waiting([status], now=time.time())))
    for broken in unreadable:
        print(
            f"jlab-node: {broken.path.parent / sessions.printable(broken.path)} is no use: "
            f"{broken.why}",
            file=sys.stderr,
        )


def _upcoming(directory: home.Home, wanted: str | None) -> Upcoming:
    return Upcoming(directory, jobs.site(), user=home.user(), wanted=wanted)


def _queued(status: Status) -> dict[str, Any]:
    return {
        "job_id": status.job_id,
        "name": status.name,
        "state": status.state.value,
        "text": wording.waiting([status], now=time.time()),
        "starts_at": status.starts_at,
    }


def _times(published: Published) -> str:
    def text(when: int | None) -> str:
        return "?" if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))

    record = published.record
    ends = f", ends {text(record.ends_at)}" if record.ends_at else ""
    return f"since {text(record.started)}{ends}"


def _public(record: Record) -> dict[str, Any]:
    """A record without what lets one in."""
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

    Example:  jlab-node url gpu
    """
    directory, user = home.locate(), home.user()
    published = standing.living(directory, user=user)
    starting = sockets.starting(sockets.base_path(os.environ, user))
    if starting and not published:
        raise JlabError(f"session {starting[0]} is starting: try again soon", code=UNAVAILABLE)
    start = wording.how_to_start(jobs.site())
    record = sessions.choose(published, name, start=start).record
    address = f"{record.scheme}://localhost:{port}{record.base_url}lab?token={record.token}"
    if as_json:
        _print_json({"id": record.id, "url": address, "session": _public(record)})
    else:
        print(address)


@cli.command()
@click.argument("name", required=False, callback=_session)
@click.option(
    "--after",
    metavar="ID",
    callback=_session_id,
    help="If there is none: what became of the session ID.",
)
@_as_json
def status(name: str | None, *, after: str | None, as_json: bool) -> int:
    """Tell how it stands with a session (the newest one, or NAME): since when, how long, why not.

    The exit code is 0 if it runs or will, 69 if not.

    Example:  jlab-node status gpu
    """
    directory, user = home.locate(), home.user()
    found = standing.look(
        directory,
        _upcoming(directory, name),
        user=user,
        wanted=name,
        after=after,
        base=sockets.base_path(os.environ, user),
    )
    if as_json:
        session = _public(found.record) if found.record else None
        _print_json(
            {
                "state": found.state,
                "text": found.text,
                "session": session,
                "job_id": found.job_id,
            }
        )
        return 0
    print(printable(found.text))
    return UNAVAILABLE if found.state in (standing.OVER, standing.NONE) else 0


@cli.command()
@click.argument("name", required=False, callback=_session_name)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
def logs(name: str | None, *, follow: bool, lines: int) -> None:
    """Show what a session (the last one, or NAME) and its JupyterLab wrote, even after their end.

    Example:  jlab-node logs -f gpu
    """
    path = logging.find(home.locate(), name)
    logging.show(
        path, lines=lines, follow=follow, reader_is_gone=lambda: laptop_is_gone(descriptors=(1,))
    )


@cli.command()
@click.argument("name")
@_as_json
def stop(name: str, *, as_json: bool) -> None:
    """End the session NAME (a name or an id from `ls`) and its job; or the job NAME in the queue.

    Example:  jlab-node stop gpu
    """
    directory = home.locate()
    published = standing.living(directory, user=home.user())
    site = jobs.site()
    queued = [each.job_id for each in _upcoming(directory, None).jobs(max_age=standing.MAX_AGE)]
    if site and name in queued:
        jobs.cancel_job(site.scheduler, name)
        stopped, said = name, f"{wording.job(site.scheduler.NAME, name)} is cancelled"
    else:
        found = sessions.choose(published, name)
        stopping.stop(directory, found)
        stopped, said = found.record.id, f"session {found.record.id} is stopped"
    if as_json:
        _print_json({"stopped": stopped})
    else:
        print(said)


@cli.command()
@click.argument("name", required=False, callback=_session_name)
@_as_json
def submit(name: str | None, *, as_json: bool) -> None:
    """Submit a job, if no session (NAME) runs or is on its way: by the command on standard input.

    An empty line there stands for what `setup --submit` was told.

    Example:  echo sbatch jlab.sh | jlab-node submit
    """
    directory, user = home.locate(), home.user()
    upcoming = _upcoming(directory, name)
    typed = sys.stdin.readline().strip()
    submitting.check(typed)
    text = typed or submitting.command(directory, name)

    base = sockets.base_path(os.environ, user)

    def look() -> standing.Standing:
        found = standing.look(directory, upcoming, user=user, wanted=name, base=base, max_age=0)
        if found.state == standing.UNKNOWN:
            raise JlabError(f"nothing is submitted: {found.text}", code=UNAVAILABLE)
        return found

    found, site = look(), jobs.site()
    if found.state != standing.NONE:
        said = f"nothing is submitted: {found.text}"
    elif site is None or not text:
        raise JlabError(found.text, code=UNAVAILABLE)
    else:
        said = submitting.submit(
            directory,
            text,
            site.scheduler,
            is_needed=lambda: look().state == standing.NONE,
            just_asked=bool(typed),
        )
    if as_json:
        _print_json({"text": said})
    else:
        print(printable(said))


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
@click.option("--no-submit", is_flag=True, help="Submit nothing, whatever `setup --submit` said.")
@click.option("--tried", metavar="FILE", help="The record whose node did not answer just now.")
def connect(
    session: str | None, *, columns: int | None, no_submit: bool, tried: str | None
) -> None:
    """Become the ssh connection to a session: what `ssh jlab+ALIAS` runs on the login node.

    Started by ~/.jlab/connect when the newest session does not answer at once.
    """
    wish = connecting.Wish(
        session, columns, may_submit=not no_submit, tried=tried, words=sys.argv[2:]
    )
    connecting.Connection(wish, env=os.environ, user=home.user()).establish()


@cli.group()
def script() -> None:
    """Print a file to begin with: a job script, or what stands around a session."""


@click.command()
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
@click.pass_context
def _job_script(context: click.Context, /, **options: Any) -> None:
    """Print a job script that runs JupyterLab.

    Example:  jlab-node script slurm --cpus 4 --mem 16G --time 8h > jlab.sh
    """
    from . import schedulers
    from . import script as scripting

    scheduler = schedulers.TABLE[str(context.info_name)]
    print(scripting.compose(scheduler, **options), end="")
    if sys.stdout.isatty():
        print(scripting.next_commands(scheduler, sys.argv), file=sys.stderr)


for _scheduler in ("slurm", "oar", "pbs", "sge", "lsf"):
    script.add_command(_job_script, _scheduler)


@script.command()
@click.option("--pip", "for_pip", is_flag=True, help="As a requirements.txt for pip.")
def environment(*, for_pip: bool) -> None:
    """Print an environment.yaml for conda: JupyterLab and what one likes to have with it.

    Example:  jlab-node script environment > environment.yaml
    """
    print(templates.requirements() if for_pip else templates.environment(), end="")


@script.command()
@click.argument("where", metavar="ALIAS[+SESSION]")
def tmuxp(where: str) -> None:
    """Print a session file for tmuxp, for your computer: the tunnel, and a shell in the job.

    Example:  jlab-node script tmuxp gricad > gricad.yaml
    """
    print(templates.tmuxp(where), end="")


@cli.command()
@_as_json
def doctor(*, as_json: bool) -> int:
    """Look at each link of the chain on this side; nothing is changed.

    One line each: ok, warning, failure or skipped. Exit code 1 if one has failed, 0 otherwise.
    From a laptop, `jlab-proxy doctor ALIAS` looks at all of the chain.
    """
    from . import doctor as examining

    checks = []
    for each in examining.examine():
        checks.append(each)
        if not as_json:
            print(examining.render(each), flush=True)
    if as_json:
        host_key = _about(home.locate())["host_key"]
        _print_json({"host_key": host_key, "checks": [dataclasses.asdict(each) for each in checks]})
    return FAILED if any(each.state == examining.FAILURE for each in checks) else 0


def _print_json(value: dict[str, Any]) -> None:
    # One line, so that a reader can tell it from what a noisy .bashrc says.
    print(json.dumps({"format": JSON_FORMAT, "version": version("jlab-remote"), **value}))
