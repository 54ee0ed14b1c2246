"""What `jlab-node run` makes of the job around it; tests/loopback lets it run."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jlab_node.registry.own_record import OwnRecord
from jlab_node.registry.record import parse
from jlab_node.session import walltime
from jlab_node.session.child_processes import Children
from jlab_node.session.io_thread import IoThread
from tests.jlab_node.conftest import Job

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Callable

    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands, Login


async def followed(directory: Path, record: Record, said: Callable[[], str]) -> Record:
    """Return what is published once the record has another end, and something is said of it."""
    async with Children(grace=1) as children:
        soon = int(time.time()) + 5 * 60 + 3
        publication = OwnRecord(directory, replace(record, ends_at=soon))
        with walltime.followed(publication, children, IoThread()):
            while publication.record.ends_at == soon or not said():
                await asyncio.sleep(0.05)
    return publication.record


def test_a_new_end_of_the_job_is_published(
    commands: Commands, record: Record, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At a warning it asks whether that is still right, and warns of what it is told."""
    commands.slurm(Job(word="RUNNING", start=-100, end=240))
    parts: list[str] = []

    def said() -> str:
        parts.append(capfd.readouterr().err)
        return "".join(parts)

    found = asyncio.run(asyncio.wait_for(followed(tmp_path, record, said), 60))
    assert parse((tmp_path / record.id).read_text()) == found
    assert commands.names == ["squeue"]
    assert "Slurm ends this job in 4 minutes, at " in said()


@pytest.mark.parametrize("inherited", [False, True])
def test_require_job_refuses_outside_of_a_job(
    login: Login, commands: Commands, *, inherited: bool
) -> None:
    """On a login node, say: sites kill what works there."""
    commands.slurm()
    if inherited:
        login.env["SLURM_JOB_ID"] = "12"
    done = login.run("run", "--jupyter", shlex.quote(sys.executable))  # it is not run
    assert (done.returncode, done.stdout) == (1, "")
    where = f"jlab-node: {socket.gethostname()} belongs to a Slurm cluster"
    is_set = " (SLURM_JOB_ID is set, but job 12 does not run here)" if inherited else ""
    assert done.stderr.startswith(f"{where}, and this is not in a job{is_set}: ")
    assert "or type `srun --pty jlab-node run`; `jlab-node run --here` starts it" in done.stderr
    assert login.records == []
