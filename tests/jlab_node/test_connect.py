"""`jlab-node connect` on a login node whose scheduler is some little programs: the real command."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from jlab_node.connect import attempt, job_watch
from jlab_node.connect.client import client_disconnected
from jlab_node.connect.request import ConnectRequest
from jlab_node.errors import JlabError
from jlab_node.jobs import submission
from jlab_node.jobs.matching import STARTING_PERIOD
from jlab_node.registry import home as homes
from jlab_node.registry import records
from jlab_node.registry.record import render
from jlab_node.runtime import runtime_directory
from jlab_node.runtime.session_directory import SessionDirectory
from tests.jlab_node.conftest import FAILS, Job, from_the_second_time

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands, Login

AGE = 7200  # seconds that the session in job 12 is old
NONCE = "0f" * 16
WRITE_ONE = "(`jlab-node script slurm > jlab.sh` writes it)"
NO_JOB = (
    "no session to connect to, and you have no job there: log in and submit one with "
    f"`sbatch jlab.sh` {WRITE_ONE}"
)


job = partial(Job, node="localhost")


@pytest.fixture
def record(record: Record) -> Iterator[Record]:
    """That session's, here; its port refuses whoever comes."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield replace(
            record,
            node="localhost",
            ssh_port=closed.getsockname()[1],
            sshd_config="/tmp/jlab-u/x/sshd_config",
            nonce=NONCE,
            started=int(time.time()) - AGE,
        )


@pytest.fixture
def endpoint(record: Record) -> Iterator[Record]:
    """The record of a session that answers whoever comes, and hangs up when they do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.sendall(f"jlab {NONCE}\r\nSSH-2.0-test\r\n".encode())
                    while connection.recv(4096):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield replace(record, ssh_port=listener.getsockname()[1], token="cd" * 32)
        listener.shutdown(socket.SHUT_RDWR)


def connect_here() -> None:
    """As `jlab-node connect` without words, in this process."""
    request = ConnectRequest(None, None, may_submit=True, unresponsive_record=None, arguments=())
    env = {"JLAB_TMPDIR": "/nowhere"}
    attempt.ConnectAttempt(request, env=env, user=homes.user()).run()


def both(one: str, mine: str) -> str:
    """A squeue that is asked for one job, or for all of mine."""
    return f'case "$*" in *--jobs=*) {one};; *) {mine};; esac'


def prints(line: Job) -> str:
    return f"echo '{line}'"


def runs_without_a_step(commands: Commands) -> None:
    """A Slurm where job 12 runs, and takes no further step."""
    commands.slurm(job(word="RUNNING", start=-AGE))
    commands.put("srun", "echo 'srun: error: Unable to create step' >&2; exit 1")


def test_connect_without_session_or_job_fails(login: Login, commands: Commands) -> None:
    commands.slurm()
    assert login.connect() == [NO_JOB]
    assert commands.names == ["scontrol", "squeue"]
    assert login.site_file.read_text() == "slurm:cal1 slurm:\n"
    login.later()
    assert login.connect() == [NO_JOB]
    assert commands.names == ["scontrol", "squeue", "squeue"], "the cluster's name is known"


def test_a_program_knows_the_status_by_its_tag(login: Login, commands: Commands) -> None:
    commands.slurm(job(reason="Resources"))
    (line,) = login.connect("--tagged", waits=True)
    assert line.startswith("[waiting] job 12 (jlab) is queued, ")


def test_a_job_is_waited_for(login: Login, commands: Commands) -> None:
    commands.slurm(job(reason="Resources"))
    assert login.connect(waits=True) == [
        "job 12 (jlab) is queued, its start is not known yet: PENDING, Resources"
    ]


def test_the_waiting_ends_in_the_session(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    commands.slurm(job())
    with login.start("connect") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert "job 12 (jlab) is queued" in process.stderr.readline()
        login.publish(endpoint)
        assert process.stdout.readline() == "SSH-2.0-test\n"
        process.stdin.close()
        assert process.wait(timeout=60) == -signal.SIGKILL  # ssh has gone, and nobody looks
        assert process.stderr.read() == ""


def test_the_relay_ends_by_sigpipe_like_any_program(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    """Python ignores that signal, and what it starts would as well."""
    commands.slurm(job(word="RUNNING", start=0))
    login.publish(endpoint)
    with login.start("connect") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().startswith("SSH-2.0-test")
        comm = Path(f"/proc/{process.pid}/comm")
        wait_until(lambda: "cat" in comm.read_text(), "it is the relay")
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
        assert found
        assert not int(found[1], 16) & 1 << (signal.SIGPIPE - 1)
        process.stdin.close()
        process.wait(timeout=60)


def test_a_scheduler_that_is_away_does_not_make_it_forget_the_cluster(
    login: Login, commands: Commands, record: Record
) -> None:
    """Its answer is a day old; a record of another cluster is still another cluster's."""
    commands.put("squeue", "exit 0")
    commands.put("scontrol", FAILS)
    login.site_file.parent.mkdir()
    login.site_file.write_text("slurm:cal1 slurm:\n")
    os.utime(login.site_file, (1, 1))
    path = login.publish(replace(record, cluster="cal2"))
    assert login.connect() == [
        "session lab runs on localhost in Slurm job 12 of cluster cal2, which this machine does "
        "not know",
        NO_JOB,
    ]
    assert commands.names == ["scontrol", "squeue"]
    assert login.site_file.read_text() == "slurm:cal1 slurm:\n"
    assert path.exists()


def test_a_job_that_was_started_again(login: Login, commands: Commands, record: Record) -> None:
    commands.slurm(job(word="RUNNING", start=-30))
    login.publish(replace(record, job_started=int(time.time()) - 100))
    assert login.connect(waits=True) == [
        "session lab is over: Slurm job 12 was started again; its record is removed",
        "job 12 (jlab) runs on localhost; JupyterLab is starting",
    ]
    assert login.records == [".dead-slurm-12-lab"]
    login.later()
    assert login.connect(waits=True) == ["job 12 (jlab) runs on localhost; JupyterLab is starting"]


@pytest.mark.parametrize("skew", [-600, 600], ids="the node's clock is {} s off".format)
@pytest.mark.parametrize("knows", [True, False], ids=["a record of now", "of an older version"])
def test_a_session_lives_whatever_clock_its_node_has(
    login: Login, commands: Commands, record: Record, *, knows: bool, skew: int
) -> None:
    """TCP does not pass, nor does anything else: the scheduler's times are all that tells."""
    started = int(time.time()) - 30
    commands.slurm(job(word="RUNNING", start=-30))
    commands.put("srun", "echo 'srun: error: no way' >&2; exit 1")
    record = replace(record, started=started + 2 + skew, job_started=started if knows else None)
    login.publish(record)
    before = login.records
    (line, *_) = login.connect()
    assert "runs on localhost, but no way leads there" in line
    assert login.records == before


def test_a_job_that_seems_to_be_started_again_keeps_the_record_of_an_older_version(
    login: Login, commands: Commands, record: Record
) -> None:
    """By two clocks one only guesses: it is passed over, and the new session is waited for."""
    commands.slurm(job(word="RUNNING", start=-30))
    path = login.publish(replace(record, started=int(time.time()) - 90_000))
    assert login.connect(waits=True) == [
        "session lab is over: Slurm job 12 was started again",
        "job 12 (jlab) runs on localhost; JupyterLab is starting",
    ]
    assert path.exists()


def test_a_job_that_goes_on_after_its_session(
    login: Login, commands: Commands, record: Record
) -> None:
    """Then the record is buried, so that nobody waits for that job."""
    commands.slurm(job(word="RUNNING", start=-60))
    commands.put("srun", "exit 69")
    login.publish(replace(record, started=int(time.time()) - 30))
    nothing = NO_JOB.replace(
        "you have no job there",
        "the session of your Slurm job 12 (jlab) is over, although the job still runs",
    )
    assert login.connect() == [
        "session lab is over: its jlab-node has ended, although Slurm job 12 still runs; its "
        "record is removed",
        nothing,
    ]
    assert login.records == [".dead-slurm-12-lab"]
    login.later()
    assert login.connect() == [nothing]
    assert login.records == [".dead-slurm-12-lab"]
    login.later()
    commands.slurm(job(reason="BeginTime"))
    assert "is queued" in login.connect(waits=True)[0], "it will have a session again"
    login.later()
    commands.slurm()
    assert login.connect() == [NO_JOB]
    assert login.records == [], "its job is not in the queue any more"


def test_a_job_that_was_put_back_in_the_queue(
    login: Login, commands: Commands, record: Record
) -> None:
    commands.slurm(job(reason="BeginTime"))
    login.publish(record)
    assert login.connect(waits=True) == [
        "session lab is over: Slurm job 12 was put back in the queue; its record is removed",
        "job 12 (jlab) is queued, its start is not known yet: PENDING, BeginTime",
    ]
    assert login.records == []


def test_a_job_that_is_suspended(login: Login, commands: Commands, record: Record) -> None:
    commands.slurm(job(word="SUSPENDED", start=-AGE))
    commands.put("srun", "exit 1")
    path = login.publish(record)
    assert login.connect() == [
        "session lab runs on localhost, but Slurm job 12 is suspended",
    ]
    assert path.exists()
    assert "srun" not in commands.names, "a step would wait for its time"


@pytest.mark.parametrize(
    ("word", "reason", "how"),
    [
        pytest.param("COMPLETED", "None", "has finished", id="it has ended"),
        pytest.param("COMPLETING", "NonZeroExitCode", "failed", id="it is failing"),
        pytest.param("COMPLETING", "TimeLimit", "reached its time limit", id="its time is up"),
        pytest.param("COMPLETING", "None", "is ending", id="it is ending"),
    ],
)
def test_a_job_that_has_ended(
    login: Login, commands: Commands, record: Record, *, word: str, reason: str, how: str
) -> None:
    commands.slurm(job(word=word, reason=reason, start=-AGE))
    commands.put("srun", "exit 1")
    login.publish(record)
    assert login.connect() == [
        f"session lab is over: Slurm job 12 {how}; its record is removed",
        NO_JOB,
    ]
    assert login.records == []
    assert "srun" not in commands.names


@pytest.mark.parametrize(
    ("found", "age"),
    [
        pytest.param(job(word="COMPLETED", start=-AGE, end=-3600), 3600, id="when its job did"),
        pytest.param(job(word="COMPLETED", start=-AGE), 0, id="nobody knows when"),
        pytest.param(job(word="RUNNING", start=-30, end=3600), 0, id="its job goes on"),
    ],
)
def test_when_the_session_ended_is_noted(
    login: Login, commands: Commands, record: Record, *, found: Job, age: int
) -> None:
    """For a while after that no job is submitted by itself."""
    commands.slurm(found)
    login.publish(record)
    login.connect(waits="RUNNING" in str(found))
    noted = (login.home.path / "submitted").stat().st_mtime
    assert age <= time.time() - noted < age + 300


def stale(login: Login, record: Record, count: int) -> None:
    """Older records of jobs of the same cluster that were killed without a warning."""
    for number in range(count):
        old = replace(record, job_id=f"9{number}", token=f"{number + 1:064x}")
        records.publish(login.home.sessions, old, mtime=1000 + number)


def test_how_one_of_many_ended_is_told(login: Login, commands: Commands, record: Record) -> None:
    """The others are counted, and cost no question; the number of their files does not matter."""
    ended = job(word="TIMEOUT", start=-AGE)
    commands.slurm()
    commands.put("squeue", both(prints(ended), "exit 0"))
    stale(login, record, 300)
    login.publish(record)
    assert login.connect() == [
        "session lab is over: Slurm job 12 reached its time limit; its record is removed",
        "300 other sessions are over as well; their records are removed",
        NO_JOB,
    ]
    assert len(commands.names) < 10, "however slow the machine is"
    assert login.records == []


def test_connect_finds_live_session_below_ended_ones(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    """What is older than that is left alone."""
    commands.slurm()
    commands.put("squeue", both("exit 0", prints(job("11", "RUNNING", start=-9000))))
    dead = replace(endpoint, nonce="1e" * 16)  # the port is another's by now
    stale(login, dead, 40)
    records.publish(login.home.sessions, replace(endpoint, job_id="11"), mtime=1020.5)
    with login.start("connect") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "SSH-2.0-test\n"
        process.stdin.close()
        assert len(process.stderr.read().splitlines()) == 2
    assert len(login.records) == 22
    assert commands.names.count("squeue") < 10


def test_connect_reports_unreachable_session_between_ended_ones(
    login: Login, commands: Commands, record: Record
) -> None:
    """What is on both sides of it is counted apart."""
    commands.slurm()
    running, ended = (job(*each, start=-9000) for each in (("11", "RUNNING"), ("12", "TIMEOUT")))
    one = f"case $* in *=11*) {prints(running)};; *) {prints(ended)};; esac"
    commands.put("squeue", both(one, prints(running)))
    stale(login, record, 4)
    living = replace(record, job_id="11", token="cd" * 32)
    records.publish(login.home.sessions, living, mtime=1000.5)
    login.publish(record)
    over, *cleared, unreachable, _ = login.connect()
    assert over.startswith("session lab is over: ")
    assert cleared == [
        "3 other sessions are over as well; their records are removed",
        "1 other session is over as well; its record is removed",
    ]
    assert unreachable.startswith("session lab runs on localhost, but no way leads there: ")
    assert login.records == [living.id]


@pytest.mark.parametrize("squeue", [FAILS, "exit 0"], ids=["no answer", "another cluster's"])
def test_what_nobody_can_tell_of_is_not_removed(
    login: Login, commands: Commands, record: Record, squeue: str
) -> None:
    commands.slurm()
    cluster = "cal1" if squeue == FAILS else "cal2"
    commands.put("squeue", both(prints(job(word="TIMEOUT", start=-AGE)), squeue))
    stale(login, replace(record, cluster=cluster, sshd_config=""), 5)
    login.publish(record)
    lines = login.connect(waits=squeue == FAILS)
    assert "session lab is over: Slurm job 12 reached its time limit" in lines[0]
    assert not any("other session" in line for line in lines)
    assert len(login.records) == 5


@pytest.mark.parametrize(
    ("count", "more"),
    [(3, []), (4, ["1 more record is no use"]), (5, ["2 more records are no use"])],
)
def test_records_that_are_no_use(
    login: Login, commands: Commands, count: int, more: list[str]
) -> None:
    commands.slurm()
    for number in range(count):
        (login.home.sessions / f"slurm-{number}-lab").write_text("")
    lines = login.connect()
    assert len(set(lines[:3])) == 3
    assert all(line.endswith("-lab is no use: it is cut short") for line in lines[:3])
    assert lines[3:] == [*more, NO_JOB]


def test_a_job_that_ends_while_the_ways_to_it_are_tried(
    login: Login, commands: Commands, record: Record, tmp_path: Path
) -> None:
    running, ended = (job(word=word, start=-AGE) for word in ("RUNNING", "TIMEOUT"))
    over = tmp_path / "over"
    commands.slurm()
    commands.put("squeue", f"if [ -e '{over}' ]; then {both(prints(ended), ':')}; else "
                           f"{prints(running)}; fi")  # fmt: skip
    commands.put("srun", f">'{over}'; echo 'srun: error: Unable to create step' >&2; exit 1")
    login.publish(record)
    assert login.connect() == [
        "session lab is over: Slurm job 12 reached its time limit; its record is removed",
        NO_JOB,
    ]
    assert "srun" in commands.names
    assert login.records == []


def test_a_session_that_is_starting_here(login: Login, commands: Commands, base: Path) -> None:
    """On a plain server there is no job that would tell of it."""
    login.env["JLAB_TMPDIR"] = str(base)
    starting = [
        f"session local-7-my-lab runs on {socket.gethostname()}; JupyterLab is starting",
    ]
    with SessionDirectory(
        runtime_directory.locate(login.env, login.user), "my-lab", "local-7-my-lab"
    ):
        assert login.connect(waits=True) == starting
        assert login.connect("--session=my-lab", waits=True) == starting
        assert "no session called lab" in login.connect("--session=lab")[0]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param(
            "RUNNING", "runs on localhost, but there is no sshd to let you in", id="it runs"
        ),
        pytest.param(
            "TIMEOUT", "is over: Slurm job 12 reached its time limit", id="its job is over"
        ),
    ],
)
def test_a_session_without_an_sshd(
    login: Login, commands: Commands, record: Record, *, word: str, said: str
) -> None:
    commands.slurm()
    commands.put("squeue", both(prints(job(word=word, start=-AGE)), "exit 0"))
    login.publish(replace(record, ssh_port=None))
    assert login.connect()[0].startswith(f"session lab {said}")
    assert login.records == ([record.id] if word == "RUNNING" else [])


def test_a_session_of_this_machine_that_does_not_answer(
    login: Login, commands: Commands, record: Record, session: subprocess.Popen[bytes]
) -> None:
    """There is no further way to it."""
    here = socket.gethostname()
    login.publish(replace(record, scheduler="local", job_id=str(session.pid), node=here))
    assert login.connect() == [
        f"session lab runs on {here}, but it does not answer (TCP to port {record.ssh_port}: "
        "Connection refused)"
    ]


def test_a_node_that_was_silent_just_now(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    """~/.jlab/connect has waited for it, and nobody does so once more."""
    runs_without_a_step(commands)
    login.publish(endpoint)
    assert login.connect(f"--tried={endpoint.id}")[0] == (
        "session lab runs on localhost, but no way leads there: TCP to port "
        f"{endpoint.ssh_port}: no answer; srun: error: Unable to create step; "
        "ssh: n1: No route to host"
    )


def test_a_session_that_only_seems_to_be_over(
    login: Login, commands: Commands, record: Record
) -> None:
    """An ssh that was let in, though not into the job, may not see its /tmp."""
    runs_without_a_step(commands)
    commands.put("ssh", "exit 69")
    login.publish(record)
    assert login.connect()[0].endswith(
        "; ssh: its jlab-node has ended, as far as can be seen from outside of the job"
    )
    assert login.records == [record.id]


def test_connect_without_route_to_a_running_job_fails(
    login: Login, commands: Commands, record: Record
) -> None:
    runs_without_a_step(commands)
    login.publish(record)
    assert login.connect() == [
        "session lab runs on localhost, but no way leads there: TCP to port "
        f"{record.ssh_port}: Connection refused; srun: error: Unable to create step; "
        "ssh: n1: No route to host",
        "if the node is up, ask your site which ports pass from login to compute nodes, and say "
        "them to jlab-node run --port-range LO-HI",
    ]
    assert login.records == [record.id]


def test_a_session_that_cannot_be_reached_beside_a_job_that_is_waited_for(
    login: Login, commands: Commands, record: Record
) -> None:
    commands.slurm(job(word="RUNNING", start=-AGE), job("13"))
    login.publish(record)
    unreachable, hint, waiting = login.connect(waits=True)
    assert unreachable.startswith("session lab runs on localhost, but no way leads there: ")
    assert hint.startswith("if the node is up, ask your site")
    assert waiting.startswith("job 13 (jlab) is queued")


@pytest.mark.parametrize(
    "by", [(), ("bash", "-c", 'exec 3</dev/null; exec "$@"', "bash")], ids=["", "3 is taken"]
)
def test_connect_by_a_step_in_the_job(
    login: Login, commands: Commands, record: Record, by: tuple[str, ...]
) -> None:
    """Whatever descriptor it gets, the relay finds it."""
    commands.slurm(job(word="RUNNING", start=-AGE))
    commands.put("srun", "echo SSH-2.0-step; exec /bin/cat")
    login.publish(record)
    with login.start("connect", by=by) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "SSH-2.0-step\n"
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == "hello\n"
        process.stdin.close()


def on_terminal(stderr: str) -> list[str]:
    """What stood on the status line, or was said, one after the other."""
    first, *shown = stderr.split("\n\x1b[K")  # "\r", as Python reads it
    assert first == ""
    return [re.sub(r"\[0:\d\d\]", "[TIME]", each) for each in shown]


def test_connect_shows_each_route_on_a_terminal(
    login: Login, commands: Commands, record: Record
) -> None:
    """Each is told while it is tried, in place."""
    runs_without_a_step(commands)
    login.publish(record)
    shown = on_terminal(login.run("connect", "--columns=200").stderr)
    why = f"TCP to port {record.ssh_port}: Connection refused"
    session = "jlab-node [TIME]: session lab on localhost"
    assert shown[:3] == [
        "jlab-node [TIME]: looking for your session",
        f"{session}: trying srun ({why})",
        f"{session}: trying ssh (srun: error: Unable to create step)",
    ]
    assert shown[3].startswith("jlab-node: session lab runs on localhost, but no way leads there:")
    assert len(shown) == 4


def test_the_relay_on_a_terminal(login: Login, commands: Commands, endpoint: Record) -> None:
    """It begins where the status line stood."""
    commands.slurm(job())
    with login.start("connect", "--columns=200") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        shown = ""
        while not shown.endswith("PENDING"):
            shown += process.stderr.read(1)
        login.publish(endpoint)
        assert process.stdout.readline() == "SSH-2.0-test\n"
        process.stdin.close()
        *_, waiting, said = on_terminal(shown + process.stderr.read())
    assert waiting.startswith("jlab-node [TIME]: job 12 (jlab) is queued")
    assert said == "jlab-node: session lab on localhost, slurm job 12\n"


@pytest.mark.parametrize(
    ("found", "is_over"),
    [
        pytest.param({"state": "Running"}, False, id="another's, running"),
        pytest.param({"state": "Terminated"}, False, id="another's, ended"),
        pytest.param({"state": "Waiting", "startTime": 0}, False, id="another's, queued"),
        pytest.param(
            {"state": "Error", "startTime": 0, "owner": "ME"}, False, id="mine, and it never ran"
        ),
        pytest.param({"state": "Terminated", "owner": "ME"}, True, id="mine"),
    ],
)
def test_an_oar_job_of_the_same_number(
    login: Login, commands: Commands, record: Record, found: dict[str, object], *, is_over: bool
) -> None:
    """Two clusters that share a home have the same job numbers, and OAR has no cluster's name."""
    owner = login.user if found.get("owner") == "ME" else "somebody-else"
    commands.oar("12", **{"startTime": int(time.time()), **found, "owner": owner})
    listed = (commands.directory / "oarstat").read_text().split("\n", 2)[2]
    commands.put("oarstat", f'case "$*" in *--user*) exit 0; esac\n{listed}')
    commands.put("oarsh", "echo 'oarsh: no' >&2; exit 1")
    login.publish(replace(record, scheduler="oar", cluster=""))
    said = login.connect()
    assert said[0].startswith(
        "session lab is over: OAR job 12 has finished"
        if is_over
        else "session lab runs on localhost, but no way leads there: TCP"
    )
    assert login.records == ([] if is_over else ["oar-12-lab"])


def test_a_record_of_another_cluster_hides_no_job(
    login: Login, commands: Commands, record: Record
) -> None:
    commands.slurm(job())
    path = login.publish(replace(record, cluster="cal2"))
    assert login.connect(waits=True) == [
        "job 12 (jlab) is queued, its start is not known yet: PENDING"
    ]
    assert path.exists()


def test_a_dead_session_of_another_cluster_hides_no_job(
    login: Login, commands: Commands, record: Record
) -> None:
    commands.slurm(job(word="RUNNING", start=-30))
    dead = login.home.sessions / ".dead-slurm-12-lab"
    dead.write_text(render(replace(record, cluster="cal2")))
    assert login.connect(waits=True) == ["job 12 (jlab) runs on localhost; JupyterLab is starting"]
    login.later()
    commands.slurm()
    assert login.connect() == [NO_JOB]
    assert dead.exists(), "the other cluster's queue tells when it may go"


@pytest.mark.parametrize(
    ("line", "script", "wanted", "said"),
    [
        pytest.param(
            job(name="work"),
            "./notebook.sh\n",
            [],
            "job 12 (work) is queued, its start is not known yet: PENDING",
            id="whatever it looks like",
        ),
        pytest.param(
            job(name="work"),
            "./notebook.sh\n",
            ["--session=gpu"],
            "job 12 (work) is queued, its start is not known yet: PENDING",
            id="it may be of that name",
        ),
        pytest.param(
            job(name="work"),
            "jlab-node run --name gpu\n",
            ["--session=lab"],
            "no session called lab to connect to, and your Slurm job 12 (work) will be a session "
            "of another name: log in and submit one with `sbatch jlab.sh` (`jlab-node script slurm "
            "--name lab > jlab.sh` writes it)",
            id="it is of another name",
        ),
        pytest.param(
            job(word="RUNNING", start=-STARTING_PERIOD - 60, name="work"),
            "./notebook.sh\n",
            [],
            "no session to connect to, and none of your Slurm jobs (1) looks like a session (jlab "
            "in its name, or jlab-node in its script): log in and submit one with "
            f"`sbatch jlab.sh` {WRITE_ONE}",
            id="it has run for long",
        ),
    ],
)
def test_the_job_that_was_submitted_last(
    login: Login,
    commands: Commands,
    tmp_path: Path,
    *,
    line: Job,
    script: str,
    wanted: list[str],
    said: str,
) -> None:
    (tmp_path / "job.sh").write_text(script)
    commands.slurm(replace(line, command=str(tmp_path / "job.sh")))
    (login.home.path / "submitted").write_text("12")
    assert login.connect(*wanted, waits="queued" in said) == [said]


def test_another_job_that_looks_like_nothing_is_not_waited_for(
    login: Login, commands: Commands
) -> None:
    commands.slurm(job(name="work"))
    assert "none of your Slurm jobs (1) looks like a session" in login.connect()[0]


@pytest.fixture
def sbatch(login: Login, commands: Commands) -> str:
    """The user has opted in: that command is run when there is no job."""
    commands.put("sbatch", "echo Submitted batch job 12")
    submission.set_command(login.home, None, "sbatch jlab.sh")
    return "sbatch jlab.sh"


def test_a_job_is_submitted_and_waited_for(login: Login, commands: Commands, sbatch: str) -> None:
    commands.slurm()
    queued = f"[ -e '{login.home.path}/submitted' ] && {prints(job(name='work'))}; exit 0"
    commands.put("squeue", queued)
    assert login.connect(waits=True) == [
        f"submitted Slurm job 12 by `{sbatch}`",
        "job 12 (work) is queued, its start is not known yet: PENDING",
    ]
    assert commands.names.count("sbatch") == 1


def test_a_job_is_submitted_beside_what_is_no_session_of_that_name_here(
    login: Login, commands: Commands, sbatch: str, endpoint: Record
) -> None:
    commands.slurm()
    login.publish(replace(endpoint, cluster="cal2"))
    login.publish(replace(endpoint, name="other", token="ef" * 32))
    (login.home.sessions / "slurm-13-lab").write_text("")
    submission.set_command(login.home, "lab", sbatch)
    said = login.connect("--session=lab", waits=True)
    assert f"submitted Slurm job 12 by `{sbatch}`" in said
    assert commands.names.count("sbatch") == 1


def test_a_job_that_somebody_else_has_just_submitted(
    login: Login, commands: Commands, sbatch: str, tmp_path: Path
) -> None:
    commands.slurm()
    # The second question is the one before submitting.
    commands.put("squeue", from_the_second_time(tmp_path, prints(job())))
    assert login.connect(waits=True) == [
        "another connection of yours has submitted a job just now",
        "job 12 (jlab) is queued, its start is not known yet: PENDING",
    ]
    assert "sbatch" not in commands.names


@pytest.mark.parametrize("columns", [[], ["--columns=200"]], ids=["log", "terminal"])
def test_a_client_that_reconnects_by_itself_submits_nothing(
    login: Login, commands: Commands, sbatch: str, columns: list[str]
) -> None:
    """By a terminal there is a person."""
    commands.slurm()
    submitted = login.home.path / "submitted"
    submitted.write_text("11")
    os.utime(submitted, (1, 1))
    done = login.run("connect", *columns, stdin="")
    assert ("without a terminal once a session has ended" in done.stderr) is (columns == [])
    assert commands.names.count("sbatch") == len(columns)


def test_a_job_that_is_never_listed(
    login: Login, commands: Commands, sbatch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed at once, perhaps; another one is not submitted so soon."""
    commands.slurm()
    commands.link("ls")
    monkeypatch.setenv("HOME", str(login.directory))
    monkeypatch.setattr(job_watch, "LISTING_DELAY", 0.1)
    with pytest.raises(JlabError, match="jlab-node submits no job"):
        connect_here()
    assert commands.names.count("sbatch") == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"EAGER_PERIOD": 1000, "EAGER_MAX_AGE": 0.0, "PATIENT_MAX_AGE": 1000}, id="at first"
        ),
        pytest.param(
            {"EAGER_PERIOD": 0, "EAGER_MAX_AGE": 1000, "PATIENT_MAX_AGE": 0.0}, id="later"
        ),
    ],
)
def test_how_often_the_scheduler_is_asked(
    login: Login,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, float],
) -> None:
    """Until the job is gone; what is not often enough would never notice."""
    monkeypatch.setenv("HOME", str(login.directory))
    for name, seconds in changes.items():
        monkeypatch.setattr(job_watch, name, seconds)
    commands.slurm()
    asked = tmp_path / "asked"
    commands.put("squeue", both("exit 0", f"[ -e '{asked}' ] || {prints(job())}; >'{asked}'"))
    with pytest.raises(JlabError, match=r"^job 12 .* is not in the queue any more"):
        connect_here()


def test_a_job_that_is_not_listed_at_once(login: Login, commands: Commands, sbatch: str) -> None:
    commands.slurm()
    assert login.connect(waits=True) == [
        f"submitted Slurm job 12 by `{sbatch}`",
        "a job was submitted; it is not listed yet",
    ]
    assert commands.names.count("sbatch") == 1


def test_nothing_is_submitted_when_the_laptop_does_not_want_it(
    login: Login, commands: Commands, sbatch: str
) -> None:
    commands.slurm()
    assert login.connect("--no-submit") == [NO_JOB]
    assert "sbatch" not in commands.names


def test_nothing_is_submitted_when_the_scheduler_stops_answering(
    login: Login, commands: Commands, sbatch: str, tmp_path: Path
) -> None:
    """There may be a job that it would have told of."""
    commands.slurm()
    commands.put("squeue", from_the_second_time(tmp_path, FAILS))
    assert login.connect() == ["nothing is submitted: Slurm does not answer (down)"]
    assert commands.names == ["scontrol", "squeue", "squeue"]


def test_nothing_is_submitted_when_a_session_was_published_meanwhile(
    login: Login, commands: Commands, sbatch: str, endpoint: Record, tmp_path: Path
) -> None:
    commands.slurm()
    waiting = tmp_path / "record"
    waiting.write_text(render(endpoint))
    published = login.home.sessions / endpoint.id
    # The second question is the one before submitting.
    put = f"/bin/cat '{waiting}' >'{published}'"
    commands.put("squeue", from_the_second_time(tmp_path, put))
    with login.start("connect") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "SSH-2.0-test\n"
        process.stdin.close()
        assert process.stderr.read() == (
            "jlab-node: another connection of yours has submitted a job just now\n"
        )
    assert "sbatch" not in commands.names


def test_what_another_connection_has_heard_is_not_the_last_word(
    login: Login, commands: Commands
) -> None:
    """The job was submitted since."""
    commands.slurm()
    assert login.connect() == [NO_JOB]
    commands.slurm(job())
    for kept in login.home.path.glob("queue/*"):
        os.utime(kept)
    with login.start("connect") as process:
        assert process.stdin
        assert process.stderr
        assert "job 12 (jlab) is queued" in process.stderr.readline()
        process.stdin.close()
        process.wait(timeout=60)


@pytest.mark.parametrize(
    ("squeue", "said"),
    [
        pytest.param(
            prints(job(word="FAILED", reason="NonZeroExitCode", start=0)),
            "failed before its session started: its log says why",
            id="it failed",
        ),
        pytest.param(
            FAILS, "is not in the queue any more: its log may say why", id="nobody knows why"
        ),
    ],
)
def test_a_job_that_is_gone_before_it_was_a_session(
    login: Login, commands: Commands, tmp_path: Path, *, squeue: str, said: str
) -> None:
    gone = tmp_path / "gone"
    commands.slurm()
    queued = f"{prints(job())}; {prints(job('13'))}"
    one_of_two = both(f"case $* in *=12*) {squeue};; esac", "exit 0")
    commands.put("squeue", f"if [ -e '{gone}' ]; then {one_of_two}; else {queued}; fi")
    with login.start("connect") as process:
        assert process.stderr
        assert "job 12 (jlab) is queued" in process.stderr.readline()
        gone.touch()
        assert process.wait(timeout=60) == 69
        assert process.stderr.read() == f"jlab-node: job 12 (jlab) {said}\n"
        assert process.stdout
        assert process.stdout.read() == ""


def said_when_published(
    login: Login, commands: Commands, record: Record, *, waited_for: Job, then: str
) -> list[str]:
    """What is said after the wait for a job: `record` appears, and squeue does `then`."""
    start, waiting = login.directory / "start", login.directory / "record"
    waiting.write_text(render(record))
    published = login.home.sessions / record.id
    commands.slurm()
    commands.put("squeue", f"if ! [ -e '{start}' ]; then {prints(waited_for)}; exit; fi; "
                           f"[ -e '{waiting}' ] && /bin/mv '{waiting}' '{published}'; "
                           f"{then}")  # fmt: skip
    with login.start("connect") as process:
        assert process.stderr
        assert f"job {waited_for.job_id} (jlab) is queued" in process.stderr.readline()
        start.touch()
        assert process.wait(timeout=60) == 69
        return process.stderr.read().splitlines()


@pytest.mark.parametrize("runs_on", [True, False], ids=["its job runs on", "its job has ended"])
def test_a_session_that_was_waited_for_and_is_over_at_once(
    login: Login, commands: Commands, record: Record, *, runs_on: bool
) -> None:
    """The job was not in vain: it is told how the session ended, and that there is nothing now."""
    new = replace(record, started=int(time.time()))
    after = job(word="RUNNING", start=0) if runs_on else job(word="CANCELLED", start=0)
    listed = prints(after) if runs_on else "exit 0"
    commands.put("srun", "exit 69")
    over, nothing = said_when_published(
        login, commands, new, waited_for=job(), then=both(prints(after), listed)
    )
    assert over.startswith("jlab-node: session lab is over: ")
    assert nothing.startswith("jlab-node: no session to connect to, and ")
    assert ("is over, although the job still runs" in nothing) is runs_on


def test_a_job_that_is_gone_just_when_another_session_is_over(
    login: Login, commands: Commands, record: Record
) -> None:
    """Both are told: it is not that session that was waited for."""
    ended = prints(job(word="TIMEOUT", start=-AGE))
    one_of_two = both(f"case $* in *=12*) {ended};; esac", "exit 0")
    over, in_vain = said_when_published(
        login, commands, record, waited_for=job("13"), then=one_of_two
    )
    assert over.startswith("jlab-node: session lab is over: Slurm job 12 reached its time limit")
    assert in_vain == "jlab-node: job 13 (jlab) is not in the queue any more: its log may say why"


def test_connect_sleeps_between_two_looks(
    login: Login, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node is everybody's."""
    really_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if seconds == attempt.LOOK_INTERVAL:
            raise KeyboardInterrupt
        really_sleep(seconds)

    monkeypatch.setenv("HOME", str(login.directory))
    monkeypatch.setattr(time, "sleep", sleep)
    commands.slurm(job())
    with pytest.raises(KeyboardInterrupt):
        connect_here()


def test_a_job_that_was_waited_for_and_is_a_session_of_another_name(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    commands.slurm(job(word="RUNNING", start=0, name="my-jlab"))
    with login.start("connect", "--session=gpu") as process:
        assert process.stdin
        assert process.stderr
        assert "JupyterLab is starting" in process.stderr.readline()
        login.publish(replace(endpoint, started=int(time.time())))
        assert process.stderr.readline() == (
            "jlab-node: no session called gpu to connect to (there are: lab), and you have no "
            "other job there: log in and submit one with `sbatch jlab.sh` (`jlab-node script slurm "
            "--name gpu > jlab.sh` writes it)\n"
        )
        process.stdin.close()
        assert process.wait(timeout=60) == 69


@pytest.mark.parametrize("columns", [[], ["--columns=200"]], ids=["log", "terminal"])
def test_what_a_terminal_would_obey_is_not_printed(
    login: Login, commands: Commands, columns: list[str]
) -> None:
    commands.slurm(job(reason="a\x1b]0;PWNED\x07b", name="jlab\x9b2J"))
    done = login.run("connect", *columns, stdin="")
    assert "(jlab?2J) is queued, its start is not known yet: PENDING, a?]0;PWNED?b" in done.stderr
    assert not re.search(r"[^\n\x20-\x7e]", done.stderr.replace("\n\x1b[K", ""))


def test_a_scheduler_that_does_not_answer(login: Login, commands: Commands) -> None:
    commands.slurm()
    commands.put("squeue", FAILS)
    assert login.connect(waits=True) == ["Slurm does not answer (down); asking again"]


def test_connect_on_a_plain_server_without_session_fails(login: Login, commands: Commands) -> None:
    submission.set_command(login.home, None, "sbatch jlab.sh")  # from a cluster that has this home
    assert login.connect("--session=gpu") == [
        f"no session called gpu to connect to on {socket.gethostname()}: start one there with "
        "`jlab-node run --name gpu`"
    ]
    assert not login.site_file.exists()


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_connect_ends_when_the_laptop_disconnects(
    login: Login, commands: Commands, stream: str
) -> None:
    commands.slurm(job())
    with login.start("connect") as process:
        assert process.stderr
        assert "is queued" in process.stderr.readline()
        getattr(process, stream).close()
        assert process.stderr.read() == "jlab-node: the laptop has ended the connection\n"
        assert process.wait(timeout=60) == 69


def test_client_that_has_sent_something_is_not_disconnected() -> None:
    """Its ssh begins at once; not a byte of that is taken."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"SSH-2.0-x")
        assert not client_disconnected((ours.fileno(),))
        assert ours.recv(100) == b"SSH-2.0-x"
