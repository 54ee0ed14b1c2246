"""`jlab-node setup`: ~/.jlab made complete, and what a laptop is to know of this side."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import JlabError
from ..jobs import detection, messages, submission
from ..registry import home
from ..runtime import runtime_directory
from ..session.jupyter import program
from ..session.ssh import sshd
from .json_output import print_json


def setup(
    *, authorize: bool, with_submit: bool, session: str | None, dry_run: bool, as_json: bool
) -> None:
    """Make ~/.jlab complete and print what is here; raises JlabError.

    `authorize`: let in the laptop whose public key is the next line of stdin. `with_submit`: submit
    by the command line there from now on, for `session` (None: any). `dry_run`: write nothing.
    """
    directory = home.state_dir() if dry_run else home.ensure_state_dir()
    if not dry_run:
        detection.site()  # known to ~/.jlab/connect from now on
    if authorize and not dry_run:
        home.authorize(directory, sys.stdin.readline())
    if with_submit and not dry_run:
        submission.set_command(directory, session, sys.stdin.readline().strip())
    found = about(directory)
    if as_json:
        print_json(found)
        return
    print(f"{directory.path} is {'here' if dry_run else 'ready'} on {found['host']}")
    print(f"  jupyter-lab  {found['jupyter'] or 'not found: activate its environment before run'}")
    print(f"  sshd         {found['sshd'] or 'not found: sessions will have no ssh endpoint'}")
    site = detection.site()
    script = f"jlab-node script {site.scheduler.NAME} > jlab.sh && " if site else ""
    print(f"Next:                       {script}{messages.how_to_start(site)}")
    print("and once on your computer:  pip install jlab-remote && jlab-proxy setup ALIAS")
    print("  where ALIAS is this cluster's name in your ~/.ssh/config")


def about(directory: home.Home) -> dict[str, Any]:
    """Return what a laptop is to know of this side; raises JlabError."""
    user = home.user()
    try:
        lab: str | None = program.find_command(None)[0]
    except JlabError:
        lab = None
    key = directory.public_host_key
    return {
        "host": os.uname().nodename,
        "user": user,
        "home": str(directory.path),
        "host_key": " ".join(key.read_text("utf-8").split()[:2]) if key.exists() else None,
        "socket_dir": str(runtime_directory.locate(os.environ, user)),
        "jupyter": lab,
        "sshd": sshd.find(None),
    }
