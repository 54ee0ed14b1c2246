"""One session of a name in a job: many that start at once, and those that were killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loopback import finished

from jlab_node import process_id
from jlab_node.errors import JlabError
from jlab_node.identifiers import is_id
from jlab_node.jobs import claims
from jlab_node.jobs.liveness import JobSnapshot
from jlab_node.registry.record import Record, render
from tests.jlab_node.conftest import JOB_12

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NONCE = "0f" * 16
ELSEWHERE = f"4711.134058.4026531836.{NONCE}"  # a process of another machine
REFUSED = r"^session lab of this job runs on n1 already: start a second one with --name NAME$"

# Claims the id when its stdin says so, says what came of it, and has it until its stdin ends.
PROGRAM = """
import os, secrets, sys
from pathlib import Path
from jlab_node import process_id
from jlab_node.jobs import claims
from jlab_node.errors import JlabError
from jlab_node.registry.record import Record
draft = Record("lab", "n1", 1, secrets.token_hex(32), scheduler="slurm", job_id="12",
               cluster="cal1", process=process_id.identity(os.getpid()))
sys.stdin.readline()
try:
    claim = claims.take(Path(sys.argv[1]), draft)
    print("has it", flush=True)
    sys.stdin.read()
    claim.release()
except JlabError as error:
    print(error, flush=True)
"""

# As on a file system without hard links.
NO_LINKS = """
import errno, os, sys
def refuse(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
sys.addaudithook(refuse)
"""


def mine(**changes: object) -> Record:
    """That of a session which is about to start in job 12, on another node than the one here."""
    draft = replace(JOB_12, node="n2", process=process_id.identity(os.getpid()), token="cd" * 32)
    return replace(draft, **changes)  # type: ignore[arg-type]


def published(directory: Path, record: Record) -> Record:
    """Claimed, and so far as to have been told where it can be asked."""
    (directory / f".claim-1-{record.id}").write_text(render(record))
    return record


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextlib.contextmanager
def racers(directory: Path, program: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", program, str(directory)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(count)
        ]


@pytest.mark.parametrize("before", [None, 1, 7], ids=["fresh", "after a dead one", "after a 7th"])
@pytest.mark.parametrize("program", [PROGRAM, NO_LINKS + PROGRAM], ids=["links", "no links"])
def test_of_many_at_one_moment_one_has_it_and_the_rest_are_told(
    tmp_path: Path, program: str, before: int | None
) -> None:
    if before:
        _, _, place = process_id.identity(os.getpid()).split(".", 2)
        dead = replace(JOB_12, process=f"1.{10**15}.{place}")
        (tmp_path / f".claim-{before}-{dead.id}").write_text(render(dead))
    with racers(tmp_path, program, 12) as everyone:
        for each in everyone:
            assert each.stdin
            each.stdin.write("\n")
        for each in everyone:
            assert each.stdin
            each.stdin.flush()
        said = [each.stdout.readline() for each in everyone if each.stdout]
        assert said.count("has it\n") == 1
        assert {each for each in said if each != "has it\n"} == {
            "session lab of this job runs on n1 already: start a second one with --name NAME\n"
        }
        winner = everyone[said.index("has it\n")]
        claim = tmp_path / f".claim-{(before or 0) + 1}-slurm-12-lab"
        assert files(tmp_path) == [claim.name], "nothing is left of the others, nor of the dead"
        assert claim.stat().st_mode & 0o777 == 0o600
        winner.kill()
        winner.wait()
        claims.take(tmp_path, mine()).release()
    assert files(tmp_path) == []


@contextlib.contextmanager
def greets(nonce: str) -> Iterator[int]:
    """A port of this machine that says this nonce to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(f"jlab {nonce}\r\n".encode())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_one_on_another_node_is_asked_whether_it_lives(tmp_path: Path) -> None:
    with greets(NONCE) as port:
        rival = replace(JOB_12, process=ELSEWHERE, node="localhost", ssh_port=port, nonce=NONCE)
        published(tmp_path, rival)
        with pytest.raises(JlabError, match="of this job runs on localhost already"):
            claims.take(tmp_path, mine())
        assert claims.take(tmp_path, mine(name="gpu")).record.id == "slurm-12-gpu"
        published(tmp_path, replace(rival, nonce="1e" * 16))
        claims.take(tmp_path, mine()).release()  # the port is another's by now
    published(tmp_path, rival)
    claims.take(tmp_path, mine()).release()  # it refuses


def test_one_of_an_older_version_is_asked_too(tmp_path: Path) -> None:
    """It has no claim, but a record."""
    with greets(NONCE) as port:
        old = replace(JOB_12, node="localhost", ssh_port=port, nonce=NONCE)
        (tmp_path / old.id).write_text(render(old))
        with pytest.raises(JlabError, match="of this job runs on localhost already"):
            claims.take(tmp_path, mine())
    claims.take(tmp_path, mine()).release()
    (tmp_path / old.id).write_text(render(replace(old, ssh_port=None)))
    claims.take(tmp_path, mine()).release()


@pytest.mark.parametrize(
    ("began", "refused"),
    [
        pytest.param((None, None), True, id="nobody knows when"),
        pytest.param((1000, None), True, id="only that one"),
        pytest.param((1000, 1001), True, id="in this run of the job"),
        pytest.param((1000, 1200), False, id="before the job was started again"),
    ],
)
@pytest.mark.usefixtures("commands")
def test_one_that_does_not_answer_lives_unless_the_job_was_started_again(
    tmp_path: Path, began: tuple[int | None, int | None], *, refused: bool
) -> None:
    """For how long its port is silent nobody knows: node and network may be down."""
    published(tmp_path, replace(JOB_12, process=ELSEWHERE, job_started=began[0]))
    draft = mine(job_started=began[1])
    if refused:
        with pytest.raises(JlabError, match=REFUSED):
            claims.take(tmp_path, draft)
    else:
        claims.take(tmp_path, draft)


def test_one_without_a_port_is_starting_for_ten_minutes(tmp_path: Path) -> None:
    path = tmp_path / ".claim-1-slurm-12-lab"
    published(tmp_path, replace(JOB_12, process=ELSEWHERE))
    with pytest.raises(JlabError, match=REFUSED):
        claims.take(tmp_path, mine())
    os.utime(path, (time.time() - 700,) * 2)
    claims.take(tmp_path, mine()).release()


@pytest.mark.parametrize(
    ("rival", "draft"),
    [
        pytest.param(
            {"scheduler": "local", "process": ELSEWHERE, "node": "n2"},
            {"scheduler": "local"},
            id="a process of another machine",
        ),
        pytest.param(
            {"scheduler": "local"}, {"scheduler": "local"}, id="the same, of an older version"
        ),
        pytest.param({"cluster": "cal2"}, {}, id="a job of another Slurm"),
        pytest.param({"scheduler": "oar"}, {"scheduler": "oar"}, id="a job of another OAR"),
    ],
)
def test_a_job_of_the_same_number_elsewhere_is_another_one(
    tmp_path: Path, rival: dict[str, object], draft: dict[str, object]
) -> None:
    """Both have this home. Ids differ then, and keep the form that older versions read."""
    found = published(tmp_path, replace(JOB_12, **rival))  # type: ignore[arg-type]
    claim = claims.take(tmp_path, mine(**draft), nodes=("n2", "n3"))
    assert claim.record.id != found.id
    assert is_id(claim.record.id)
    assert claim.record.job_id == found.job_id
    assert len(files(tmp_path)) == 2
    claim.release()
    assert files(tmp_path) == [f".claim-1-{found.id}"]


def test_claim_of_another_session_is_left(tmp_path: Path) -> None:
    """Whatever the file is called."""
    claim = claims.take(tmp_path, mine())
    another = render(mine(token="ef" * 32))
    claim.path.write_text(another)
    claim.update(mine(ssh_port=1))
    claim.release()
    assert claim.path.read_text() == another


def test_prune_removes_claims_of_ended_sessions(tmp_path: Path) -> None:
    now = int(time.time())
    lists_none = JobSnapshot("slurm", "cal1", frozenset(), now)
    over = replace(JOB_12, process=ELSEWHERE, started=now - 90_000)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        killed = process_id.identity(process.pid)
    for each in (
        replace(over, name="over"),
        replace(over, name="elsewhere", cluster="cal2"),
        replace(over, name="new", started=now),
        replace(over, name="killed", process=killed, started=now),
        mine(name="mine"),
    ):
        published(tmp_path, each)
    (tmp_path / ".claim-1-slurm-12-broken").write_text("format=1\n")
    claims.prune(tmp_path, [lists_none])
    assert [name.rpartition("-")[2] for name in files(tmp_path)] == [
        "broken",
        "elsewhere",
        "mine",
        "new",
    ]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(JlabError, match=r"cannot write in .*/gone: No such file or directory"):
        claims.take(tmp_path / "gone", mine())


def test_refuse_nested_session_of_the_same_name(tmp_path: Path) -> None:
    record = replace(JOB_12, scheduler="local", process=process_id.identity(os.getpid()))
    published(tmp_path, record)
    code = f"""
from pathlib import Path
from jlab_node.jobs import claims
from jlab_node.registry.record import Record
claims.refuse_nested(Path({str(tmp_path)!r}), Record("lab", "n1", 1, "ab" * 32))
"""
    done = finished(["sh", "-c", 'exec "$@"', "sh", sys.executable, "-c", code])
    assert "session lab runs here already, and you are inside it: start a second one" in done.stderr
    published(tmp_path, replace(record, name="gpu"))
    (tmp_path / f".claim-1-{record.id}").unlink()
    assert finished([sys.executable, "-c", code]).returncode == 0
