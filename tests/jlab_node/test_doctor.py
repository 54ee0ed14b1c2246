"""The cluster's half of doctor: real directories, and little programs that stand for a site's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable

import pytest

from jlab_node.commands import machine_checks
from jlab_node.registry import home
from jlab_node.registry.record import Record, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jlab_node.registry.home import Home

RECORD = Record(
    name="lab",
    node="localhost",
    port=1,
    token="ab" * 32,
    scheduler="slurm",
    job_id="12",
    ssh_port=1,
    sshd_config="/tmp/jlab-u1/x7k2m9qa/sshd_config",
    nonce="0f" * 16,
)
SQUEUE = "printf '12\\037{}\\037None\\037N/A\\037N/A\\037localhost\\037jlab\\037/x.sh\\n'"
ENTER = "printf 'SSH-2.0-OpenSSH_9.2\\r\\n'; exec cat"


@pytest.fixture
def jlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home directory with a ~/.jlab."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return home.ensure_state_dir()


def found(code: int = 0) -> dict[str, dict[str, Any]]:
    """What `jlab-node doctor` says, by the names of the links."""
    done = subprocess.run(
        [sys.executable, "-m", "jlab_node", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert RECORD.token not in done.stdout
    assert RECORD.nonce not in done.stdout
    return {each["check"]: each for each in json.loads(done.stdout)["checks"]}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def publish(jlab: Home, record: Record) -> None:
    (jlab.sessions / record.id).write_text(render(record))


def test_a_scheduler_that_does_not_answer(jlab: Home, program: Callable[[str, str], Path]) -> None:
    program("squeue", "echo down >&2; exit 1")
    check = found(1)["scheduler"]
    assert (check["state"], check["found"]) == ("failure", "Slurm does not answer")
    assert check["remedy"] == "wait, or ask your site: `squeue` has to work"


def test_scheduler_that_answers_is_ok(jlab: Home, program: Callable[[str, str], Path]) -> None:
    program("squeue", SQUEUE.format("PENDING"))
    checks = found()
    assert checks["scheduler"]["found"] == "Slurm; jobs of yours: 0 running, 1 queued"
    assert checks["session"]["remedy"] == "start one: `sbatch jlab.sh`"


def test_node_reached_by_a_step_alone_is_a_warning(
    jlab: Home, program: Callable[[str, str], Path]
) -> None:
    program("squeue", SQUEUE.format("RUNNING"))
    program("srun", ENTER)
    program("ssh", "echo 'Permission denied (publickey).' >&2; exit 255")
    publish(jlab, RECORD)
    check = found()["node"]
    assert check["state"] == "warning"
    tcp, step, ssh = check["found"].removeprefix("localhost: ").split("; ")
    assert tcp == "tcp: Connection refused (port 1)"
    assert step.startswith("srun: answers in ")
    assert ssh == "ssh: Permission denied (publickey)"
    assert "--port-range" in check["remedy"]


def test_node_tries_every_route(
    jlab: Home, program: Callable[[str, str], Path], listener: socket.socket
) -> None:
    program("squeue", SQUEUE.format("RUNNING"))
    program("srun", "echo 'srun: Invalid job id specified' >&2; exit 1")
    program("ssh", ENTER)
    record = replace(RECORD, ssh_port=listener.getsockname()[1])
    publish(jlab, record)
    process = subprocess.Popen(
        [sys.executable, "-m", "jlab_node", "doctor", "--json"], stdout=subprocess.PIPE, text=True
    )
    connection, _ = listener.accept()
    with connection:
        connection.sendall(f"jlab {record.nonce}\r\nSSH-2.0-test\r\n".encode())
        output, _ = process.communicate()
    (check,) = (each for each in json.loads(output)["checks"] if each["check"] == "node")
    assert check["state"] == "ok"
    tcp, step, ssh = check["found"].removeprefix("localhost: ").split("; ")
    assert tcp.startswith("tcp: answers in ")
    assert step == "srun: Invalid job id specified"
    assert ssh.startswith("ssh: answers in ")


def test_node_without_route_is_a_failure(jlab: Home, program: Callable[[str, str], Path]) -> None:
    program("squeue", SQUEUE.format("RUNNING"))
    program("srun", "printf 'srun: \\033[2Jjob 12 is unknown\\n' >&2; exit 1")
    program("ssh", f"exit {69}")
    publish(jlab, RECORD)
    check = found(1)["node"]
    assert check["state"] == "failure"
    assert "srun: ?[2Jjob 12 is unknown; ssh: its jlab-node has ended" in check["found"]
    assert "jlab-node stop slurm-12-lab" in check["remedy"]


def test_a_session_without_sshd(jlab: Home, program: Callable[[str, str], Path]) -> None:
    program("squeue", SQUEUE.format("RUNNING"))
    publish(jlab, replace(RECORD, ssh_port=None, nonce="", sshd_config=""))
    assert "has no sshd to let you in" in found(1)["node"]["found"]


def test_a_session_of_another_cluster(jlab: Home, program: Callable[[str, str], Path]) -> None:
    program("squeue", SQUEUE.format("RUNNING"))
    publish(jlab, replace(RECORD, scheduler="oar"))
    checks = found()
    assert "in OAR job 12, which this machine does not know" in checks["session"]["found"]
    assert checks["node"]["state"] == "skipped"


@pytest.mark.parametrize(
    ("quota", "state", "says"),
    [
        ("exit 0", "ok", "no limit is exceeded"),
        ("echo; echo ' In block grace period on /home'; exit 1", "warning", "In block grace"),
        ("echo 'quota: no server' >&2; exit 1", "skipped", "not known: quota: no server"),
    ],
    ids=["fine", "exceeded", "broken"],
)
def test_quota_that_is_exceeded_is_a_warning(
    program: Callable[[str, str], Path], quota: str, state: str, says: str
) -> None:
    program("quota", quota)
    check = machine_checks.quota()
    assert check.state == state
    assert says in check.found


def test_quota_that_hangs_is_skipped(
    program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "_QUOTA_TIMEOUT", 0.2)
    program("quota", "exec sleep 60")
    assert machine_checks.quota().state == "skipped"


def test_a_home_that_cannot_be_written(bound_by_modes: Path) -> None:
    assert machine_checks.home_directory(bound_by_modes).state == "ok"
    assert list(bound_by_modes.iterdir()) == [], "nothing is left there"
    bound_by_modes.chmod(0o500)
    check = machine_checks.home_directory(bound_by_modes)
    assert check.state == "failure"
    assert "Permission denied" in check.found
    assert "ask your site" in check.remedy


def test_the_order_of_jlab_s_flaws(jlab: Home) -> None:
    assert machine_checks.jlab_directory(jlab).state == "ok"
    jlab.sessions.chmod(0o755)
    check = machine_checks.jlab_directory(jlab)
    assert (check.state, check.remedy) == ("warning", f"`chmod go-rwx {jlab.sessions}`")
    jlab.host_key.unlink()
    check = machine_checks.jlab_directory(jlab)
    assert (check.state, check.found) == ("failure", f"{jlab.host_key} is missing")


def test_what_is_another_users(jlab: Home) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(jlab.authorized_keys, 65534, -1)
    check = machine_checks.jlab_directory(jlab)
    assert (check.state, check.found) == ("failure", f"{jlab.authorized_keys} is another user's")
