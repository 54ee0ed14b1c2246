"""A job has one session of a name; machines and containers with one home keep theirs apart."""

from __future__ import annotations

import shlex
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loopback import finished, wait_until

from jlab_node.identifiers import is_id
from jlab_node.registry import records as sessions
from jlab_node.registry.record import Record, parse
from tests.loopback.light import light

if TYPE_CHECKING:
    from loopback import Loopback

HOST = socket.gethostname()


def job(job_id: str) -> dict[str, str]:
    """What tells a process that it is in that Slurm job, so that nobody must be asked."""
    now = int(time.time())
    return {
        "SLURM_JOB_ID": job_id,
        "SLURMD_NODENAME": HOST,
        "SLURM_JOB_START_TIME": str(now - 60),
        "SLURM_JOB_END_TIME": str(now + 3600),
    }


def test_of_three_runs_at_one_moment_in_a_job_one_is_the_session(site: Loopback) -> None:
    """As `srun -n3 jlab-node run` starts them; and so of one that comes later, until its end."""
    server, env = light(site.root), job("4711")
    log = site.root / "job.log"
    runs = [site.start_session(*server, env=env) for _ in range(3)]
    wait_until(lambda: len([each for each in runs if each.poll() is None]) == 1, "two give up")
    (session,) = (each for each in runs if each.poll() is None)
    assert sorted(each.poll() or 0 for each in runs) == [0, 1, 1]
    refusal = f"jlab-node: session lab of this job runs on {HOST} already: start a second one"
    assert log.read_text().count(refusal) == 2
    wait_until(site.records, "it is published")
    (path,) = site.records()
    record = path.read_text()
    late = finished(site.node("run", *server), env={**site.env, **env})
    assert (late.returncode, late.stderr.startswith(refusal)) == (1, True)
    assert path.read_text() == record
    gpu = site.start_session("--name", "gpu", *server, env=env)
    other = site.start_session(*server, env=job("4712"))
    wait_until(lambda: len(site.records()) == 3, "another name, another job")
    session.kill()
    session.wait()
    again = site.start_session(*server, env=env)
    wait_until(lambda: path.read_text() != record, "it takes the place of a killed one")
    for each in (gpu, other, again):
        each.terminate()
    assert {each.wait(timeout=60) for each in (gpu, other, again)} == {143}
    assert site.records() == []
    left = sorted(each.name for each in (site.home / ".jlab/sessions").iterdir())
    assert left == [f".dead-slurm-{each}" for each in ("4711-gpu", "4711-lab", "4712-lab")]


def test_a_session_in_a_shell_of_the_session_needs_a_name_of_its_own(laptop: Loopback) -> None:
    session = laptop.start_session(*light(laptop.root))
    path = laptop.wait_for_session(session)
    record = path.read_text()
    nested = shlex.join(laptop.node("run", *light(laptop.root)))
    done = finished(laptop.ssh("jlab+demo", nested))
    assert done.returncode == 1
    assert (
        "jlab-node: session lab runs here already, and you are inside it: start a second one"
        in done.stderr
    )
    assert path.read_text() == record
    assert laptop.records() == [path]


def test_sessions_of_one_number_in_two_namespaces_with_one_home_live_side_by_side(
    site: Loopback,
) -> None:
    """As in two containers, or on two machines."""
    server = shlex.join(site.node("run", *light(site.root)))
    unshare = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child"]
    if finished([*unshare, "true"]).returncode:
        pytest.skip("no namespaces here")
    containers = [
        site.start_process([*unshare, "sh", "-c", f"hostname {host}; {server} 2>&1; exit $?"])
        for host in ("hosta", "hostb")
    ]
    wait_until(lambda: len(site.records()) == 2, "both are published")
    records = [parse(path.read_text()) for path in site.records()]
    assert len({each.job_id for each in records}) == 1, "the numbers are the same"
    assert {each.node for each in records} == {"hosta", "hostb"}
    assert {each.id for each in records} == {path.name for path in site.records()}
    assert all(is_id(each.id) for each in records)
    listed = finished(site.node("ls"), env=site.env)
    assert ["hosta" in listed.stdout, "hostb" in listed.stdout] == [True, True], listed.stderr
    before = site.records()
    stopped = [finished(site.node("stop", each.id), env=site.env) for each in records]
    assert {each.returncode for each in stopped} == {1}
    assert all("type this there" in each.stderr for each in stopped)
    assert site.records() == before
    for each in containers:
        each.kill()  # and with it all that it contains
        each.wait()


def test_stop_ends_no_process_but_the_sessions(site: Loopback) -> None:
    """Its number may be another session's by now."""
    living = site.start_session("--name", "living", *light(site.root))
    record = parse(site.wait_for_session(living).read_text())
    stale = {
        "its number": record.process.replace(f"{living.pid}.", f"{living.pid}.1", 1),
        "another version's": "",
    }
    for name, process in stale.items():
        write(site, record, name="old", process=process, started=int(time.time()) - 86400)
        done = finished(site.node("stop", "old"), env=site.env)
        assert done.returncode, name
        assert "no session is called 'old'" in done.stderr or "is over" in done.stderr
    assert living.poll() is None
    assert finished(site.node("stop", "living"), env=site.env).returncode == 0
    assert living.wait(timeout=60) == 143


def write(site: Loopback, record: Record, **changes: object) -> None:
    """A record beside that one, as a session left it that was killed."""
    sessions.publish(site.home / ".jlab/sessions", replace(record, token="ef" * 32, **changes))  # type: ignore[arg-type]
