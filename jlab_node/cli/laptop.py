"""What serves laptops: setup, connect, doctor."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

import click

from ..connect import attempt as connecting
from ..errors import FAILED, JlabError
from ..jobs import messages, scheduler_client
from ..jobs import submission as submitting
from ..registry import home
from ..runtime import user_directory
from ..session.jupyter import program
from ..session.ssh import sshd
from .options import as_json, print_json, session_name


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
    directory = home.locate() if dry_run else home.prepare()
    if not dry_run:
        scheduler_client.site()  # known to ~/.jlab/connect from now on
    if authorize and not dry_run:
        home.authorize(directory, sys.stdin.readline())
    if with_submit and not dry_run:
        submitting.set_command(directory, session, sys.stdin.readline().strip())
    found = _about(directory)
    if as_json:
        print_json(found)
        return
    print(f"{directory.path} is {'here' if dry_run else 'ready'} on {found['host']}")
    print(f"  jupyter-lab  {found['jupyter'] or 'not found: activate its environment before run'}")
    print(f"  sshd         {found['sshd'] or 'not found: sessions will have no ssh endpoint'}")
    site = scheduler_client.site()
    script = f"jlab-node script {site.scheduler.NAME} > jlab.sh && " if site else ""
    print(f"Next:                       {script}{messages.how_to_start(site)}")
    print("and once on your computer:  pip install jlab-remote && jlab-proxy setup ALIAS")
    print("  where ALIAS is this cluster's name in your ~/.ssh/config")


def _about(directory: home.Home) -> dict[str, Any]:
    user = home.user()
    try:
        lab: str | None = program.find(None)[0]
    except JlabError:
        lab = None
    key = directory.public_host_key
    return {
        "host": os.uname().nodename,
        "user": user,
        "home": str(directory.path),
        "host_key": " ".join(key.read_text("utf-8").split()[:2]) if key.exists() else None,
        "socket_dir": str(user_directory.base_path(os.environ, user)),
        "jupyter": lab,
        "sshd": sshd.find(None),
    }


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--session", metavar="NAME", callback=session_name)
@click.option("--columns", type=int, metavar="N", help="The width of the laptop's terminal.")
@click.option("--no-submit", is_flag=True, help="Submit nothing, whatever `setup --submit` said.")
@click.option("--tried", metavar="FILE", help="The record whose node did not answer just now.")
def connect(
    session: str | None, *, columns: int | None, no_submit: bool, tried: str | None
) -> None:
    """Become the ssh connection to a session: what `ssh jlab+ALIAS` runs on the login node.

    Started by ~/.jlab/connect when the newest session does not answer at once.

    Example:  jlab-node connect --session gpu   (to see what it says)
    """
    wish = connecting.Wish(
        session, columns, may_submit=not no_submit, tried=tried, words=sys.argv[2:]
    )
    connecting.Connection(wish, env=os.environ, user=home.user()).establish()


@click.command()
@as_json
def doctor(*, as_json: bool) -> int:
    """Look at each link of the chain on this side; nothing is changed.

    One line each: ok, warning, failure or skipped. Exit code 1 if one has failed, 0 otherwise.
    From a laptop, `jlab-proxy doctor ALIAS` looks at all of the chain.

    Example:  jlab-node doctor
    """
    from ..commands import doctor as examining

    checks = []
    for each in examining.examine():
        checks.append(each)
        if not as_json:
            print(examining.render(each), flush=True)
    if as_json:
        host_key = _about(home.locate())["host_key"]
        print_json({"host_key": host_key, "checks": [dataclasses.asdict(each) for each in checks]})
    return FAILED if any(each.state == examining.FAILURE for each in checks) else 0
