"""Children that cannot be killed, or whose parent is; the rest is seen in the life of a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import wait_until

from jlab_node.connect import routes
from jlab_node.session.child_processes import _signal_group

if TYPE_CHECKING:
    from tests.jlab_node.conftest import Children, Unkillable


def test_a_group_that_is_another_users(unkillable: Unkillable) -> None:
    with subprocess.Popen(unkillable.command, start_new_session=True) as process:
        wait_until(lambda: unkillable.is_it(process.pid), "it is the other user's")
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            assert _signal_group(process.pid, number)
        assert process.poll() is None
        unkillable.end()
        process.wait()
        assert not _signal_group(process.pid, 0), "it is gone"


def test_a_group_of_our_own() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        assert _signal_group(process.pid, 0)
        assert _signal_group(process.pid, signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_way_through_a_command_that_is_another_users(
    unkillable: Unkillable, children: Children
) -> None:
    with pytest.raises(routes.RouteUnavailable, match=r"^timed out$"):
        routes.via_command(unkillable.command, timeout=2)
    (left,) = children()
    assert unkillable.is_it(left.pid)
    unkillable.end()
    left.wait()


# A child whose parent dies between fork and prctl: no signal would come any more.
ORPHAN_AT_BIRTH = """
import asyncio, os, signal, sys
from jlab_node.session.child_processes import Children

async def main():
    children = Children(grace=1)
    prctl = children._prctl
    def too_late(*arguments):
        os.kill(os.getppid(), signal.SIGKILL)
        while os.getppid() == parent:
            pass
        return prctl(*arguments)
    parent, children._prctl = os.getpid(), too_late
    children.start(["sleep", sys.argv[1]])

asyncio.run(main())
"""


def test_a_child_of_one_who_has_just_died() -> None:
    nap = f"61.{os.getpid()}"
    done = subprocess.run([sys.executable, "-c", ORPHAN_AT_BIRTH, nap], check=False)
    assert done.returncode == -signal.SIGKILL

    def is_left() -> bool:
        lines = (each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"]))
        return any(nap in line for line in lines)

    wait_until(lambda: not is_left(), "it has ended as well", seconds=20)
