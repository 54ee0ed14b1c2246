"""A plain server: what ps of procps 4.0 prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers import local
from jlab_node.schedulers.base import CommandResult, Job, JobRequest, State, Status

if TYPE_CHECKING:
    from typing import Callable

    from jlab_node.schedulers.base import Machine

MINE = """\
      1 Ss   /sbin/init
   4711 Sl+  /opt/jlab/bin/python3 /opt/jlab/bin/jlab-node run --name gpu
   4712 S    /usr/bin/python3 -m jlab_node run
   4713 S    vim jlab-node.txt run
   4714 R    ps -ww -u u1 -o pid=,stat=,args=
   4715 Z    [jlab-node] <defunct>
   4716 S
"""


def test_detect_takes_every_process(machine: Callable[..., Machine]) -> None:
    assert local.detect({}, machine("m1")) == Job("local", "4711", "m1", "m1")


def test_parse_job_list_takes_only_jlab_node_run() -> None:
    found = local.parse_job_list(CommandResult(0, MINE))
    assert found == [Status(job_id, State.RUNNING) for job_id in ("4711", "4712")]
    assert local.parse_job_list(CommandResult(127, "", "ps is not on PATH here")) is None


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("Sl+  /opt/bin/python3 /opt/bin/jlab-node run\n", State.RUNNING),
        ("Sl+  /opt/bin/python3 /opt/bin/jlab-node status\n", State.ENDED),
        ("Sl+  /usr/bin/rsync run\n", State.ENDED),
        ("Zl+  /opt/bin/python3 /opt/bin/jlab-node run\n", State.ENDED),
        ("Z+   [jlab-node] <defunct>\n", State.ENDED),
        ("Ss   -bash\n", State.ENDED),  # the number is another process's now
        ("", State.ENDED),
    ],
)
def test_parse_job_status_by_the_process(printed: str, state: State) -> None:
    status = local.parse_job_status("4711", CommandResult(0 if printed else 1, printed))
    assert status == Status("4711", state, reason="has ended" if state is State.ENDED else "")


def test_parse_without_ps_is_no_answer() -> None:
    assert local.parse_job_status("4711", CommandResult(127, "", "ps is not on PATH here")) is None
    assert local.parse_job_status("4711", CommandResult(1, "", "error: unknown option\n")) is None


def test_local_has_no_cluster_and_no_directives(least: JobRequest) -> None:
    assert local.directives(least) == []
    assert local.parse_cluster(CommandResult(0, "x")) == ""
