"""A plain server: what ps of procps 4.0 prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers import local
from jlab_node.schedulers.job import Answer, Job, Request, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.job import Machine

MINE = """\
      1 Ss   /sbin/init
   4711 Sl+  /opt/jlab/bin/python3 /opt/jlab/bin/jlab-node run --name gpu
   4712 S    /usr/bin/python3 -m jlab_node run
   4713 S    vim jlab-node.txt run
   4714 R    ps -ww -u u1 -o pid=,stat=,args=
   4715 Z    [jlab-node] <defunct>
   4716 S
"""


def test_every_process_is_a_job(machine: Callable[..., Machine]) -> None:
    assert local.detect({}, machine("m1")) == Job("local", "4711", "m1", "m1")


def test_mine() -> None:
    found = local.parse_mine(Answer(0, MINE))
    assert found is not None
    assert [status.job_id for status in found][:1] == ["4711"]
    assert all(status.state is State.RUNNING for status in found)
    assert not {"1", "4713", "4714", "4715", "4716"} & {status.job_id for status in found}
    assert local.parse_mine(Answer(127, "", "ps is not on PATH here")) is None


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("Sl+  /opt/bin/python3 /opt/bin/jlab-node run\n", State.RUNNING),
        ("Z+   [jlab-node] <defunct>\n", State.ENDED),
        ("Ss   -bash\n", State.ENDED),  # the number is another process's now
        ("", State.ENDED),
    ],
)
def test_one(printed: str, state: State) -> None:
    status = local.parse_one("4711", Answer(0 if printed else 1, printed))
    assert status is not None
    assert (status.job_id, status.state) == ("4711", state)


def test_no_ps() -> None:
    assert local.parse_one("4711", Answer(127, "", "ps is not on PATH here")) is None
    assert local.parse_one("4711", Answer(1, "", "error: unknown option\n")) is None


def test_commands(least: Request) -> None:
    assert local.cancel("4711") == ["kill", "4711"]
    assert local.directives(least) == []
    assert local.step("4711", "m1", ["true"]) == []
    assert Status("1", State.RUNNING).word == ""
