"""What is typed on the login node, or from a laptop, about sessions."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..commands import status as standing
from ..commands import stop as stopping
from ..connect.attempt import laptop_is_gone
from ..errors import UNAVAILABLE, JlabError
from ..jobs import messages, scheduler_client
from ..jobs import submission as submitting
from ..jobs.pending import Upcoming
from ..registry import home, records
from ..registry import logs as logging
from ..registry.record import MAX_PORT
from ..runtime import session_lookup, user_directory
from ..terminal import printable
from .options import as_json, print_json, session, session_id, session_name

if TYPE_CHECKING:
    from ..registry.record import Record
    from ..registry.records import Published
    from ..schedulers.base import Status


@click.command()
@as_json
def ls(*, as_json: bool) -> None:
    """List the running sessions, newest first, and the jobs that will become one.

    Example:  jlab-node ls
    """
    directory = home.find()
    _, unreadable = records.read_all(directory.sessions)
    published = standing.living(directory, user=home.user())
    upcoming = _upcoming(directory, None)
    ahead = upcoming.jobs(max_age=standing.MAX_AGE)
    if as_json:
        found = [_public(each.record) for each in published]
        print_json({"sessions": found, "jobs": [_queued(each) for each in ahead]})
        return
    if upcoming.problem:
        print(f"jlab-node: {printable(upcoming.problem)}", file=sys.stderr)
    elif not published and not ahead:
        start = messages.how_to_start(scheduler_client.site())
        print(f"no session is running: start one with `{start}`")
    width = max((len(each.record.name) for each in published), default=0)
    for each in published:
        record = each.record
        job = f"{record.scheduler} {record.job_id}"
        print(f"{record.name:{width}}  {record.node}  {job}  {_times(each)}")
    for status in ahead:
        print(printable(messages.waiting([status], now=time.time())))
    for broken in unreadable:
        print(
            f"jlab-node: {broken.path.parent / records.printable(broken.path)} is no use: "
            f"{broken.why}",
            file=sys.stderr,
        )


def _upcoming(directory: home.Home, wanted: str | None) -> Upcoming:
    return Upcoming(directory, scheduler_client.site(), user=home.user(), wanted=wanted)


def _queued(status: Status) -> dict[str, Any]:
    return {
        "job_id": status.job_id,
        "name": status.name,
        "state": status.state.value,
        "text": messages.waiting([status], now=time.time()),
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
    sockets = record.socket_dir or str(user_directory.base_path({}, record.user or home.user()))
    known = {key: getattr(record, key) for key in keys}
    return {**known, "exposed": exposed, "socket_dir": sockets}


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
    directory, user = home.find(), home.user()
    published = standing.living(directory, user=user, unchecked=unchecked)
    starting = session_lookup.starting(user_directory.base_path(os.environ, user))
    if starting and not published:
        raise JlabError(f"session {starting[0]} is starting: try again soon", code=UNAVAILABLE)
    start = messages.how_to_start(
        scheduler_client.remembered_site() if unchecked else scheduler_client.site()
    )
    record = records.choose(published, name, start=start).record
    path = f":{port}{record.base_url}lab?token={record.token}"
    if as_json:  # laptops of 0.1.0 know this name alone; newer ones put the number there
        address = f"{record.scheme}://localhost{path}"
        print_json({"id": record.id, "url": address, "session": _public(record)})
    else:
        print(f"{record.scheme}://127.0.0.1{path}")


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
    directory, user = home.find(), home.user()
    found = standing.look(
        directory,
        _upcoming(directory, name),
        user=user,
        wanted=name,
        after=after,
        base=user_directory.base_path(os.environ, user),
    )
    if as_json:
        session = _public(found.record) if found.record else None
        print_json(
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


@click.command()
@click.argument("name", required=False, callback=session_name)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True)
def logs(name: str | None, *, follow: bool, lines: int) -> None:
    """Show what a session (the last one, or NAME) and its JupyterLab wrote, even after their end.

    Example:  jlab-node logs -f gpu
    """
    path = logging.find(home.find(), name)
    logging.show(
        path, lines=lines, follow=follow, reader_is_gone=lambda: laptop_is_gone(descriptors=(1,))
    )


@click.command()
@click.argument("name")
@as_json
def stop(name: str, *, as_json: bool) -> None:
    """End the session NAME (a name or an id from `ls`) and its job; or the job NAME in the queue.

    Example:  jlab-node stop gpu
    """
    directory = home.find()
    published = standing.living(directory, user=home.user())
    site = scheduler_client.site()
    queued = [each.job_id for each in _upcoming(directory, None).jobs(max_age=standing.MAX_AGE)]
    if site and name in queued:
        scheduler_client.cancel_job(site.scheduler, name)
        stopped, said = name, f"{messages.job(site.scheduler.NAME, name)} is cancelled"
    else:
        found = records.choose(published, name)
        stopping.stop(directory, found)
        stopped, said = found.record.id, f"session {found.record.id} is stopped"
    if as_json:
        print_json({"stopped": stopped})
    else:
        print(said)


@click.command()
@click.argument("name", required=False, callback=session_name)
@as_json
def submit(name: str | None, *, as_json: bool) -> None:
    """Submit a job, if no session (NAME) runs or is on its way: by the command on standard input.

    An empty line there stands for what `setup --submit` was told.

    Example:  echo sbatch jlab.sh | jlab-node submit
    """
    directory, user = home.find(), home.user()
    upcoming = _upcoming(directory, name)
    typed = sys.stdin.readline().strip()
    submitting.check(typed)
    text = typed or submitting.command(directory, name)

    base = user_directory.base_path(os.environ, user)

    def look() -> standing.Standing:
        found = standing.look(directory, upcoming, user=user, wanted=name, base=base, max_age=0)
        if found.state == standing.UNKNOWN:
            raise JlabError(f"nothing is submitted: {found.text}", code=UNAVAILABLE)
        return found

    found, site = look(), scheduler_client.site()
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
        print_json({"text": said})
    else:
        print(printable(said))
