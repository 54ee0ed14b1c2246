"""Which /dev/pts lets an ordinary user's sshd give terminals: real ones, each in its own mounts."""

from __future__ import annotations

import grp
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import NOBODY

from jlab_node.session.ssh import pseudo_terminals

HERE = Path(__file__).parents[2]
_AS_NOBODY = f"setpriv --reuid={NOBODY} --regid={NOBODY}"
_PRINT = "from jlab_node.session.ssh.pseudo_terminals import can_be_given; print(can_be_given())"


def on(options: str, groups: str) -> str:
    """What it says to an ordinary user with these options of setpriv, and such a /dev/pts."""
    mount = f"mount -t devpts -o newinstance,ptmxmode=666,{options} devpts /dev/pts"
    become = f'exec {_AS_NOBODY} {groups} "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-ec",
            f"{mount}; {become}",
            "sh",
            sys.executable,
            "-c",
            _PRINT,
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    refused = ("mount", "unshare", "ermission", "loading shared libraries")  # the last of a Python
    if any(word in done.stderr for word in refused):  # in a home that is root's alone
        pytest.skip(f"another user with a /dev/pts of one's own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.root("only root can mount a /dev/pts, and be another user")
def test_can_be_given_to_an_ordinary_user_where_terminals_are_the_group_ttys() -> None:
    tty = grp.getgrnam("tty").gr_gid
    assert on(f"gid={tty},mode=620", "--clear-groups") == "True"
    assert on("mode=600", "--clear-groups") == "False", "sshd would hang up"
    assert on("mode=600", f"--groups={tty}") == "True"


@pytest.mark.root("it is root that always can")
def test_can_be_given_by_root_everywhere() -> None:
    assert pseudo_terminals.can_be_given()
