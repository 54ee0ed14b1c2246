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
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node import submit
from jlab_node.expected import START_UP
from jlab_node.record import Record, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.jlab_node.conftest import Commands, Login

NOW = int(time.time())
NONCE = "0f" * 16
FAILS = "echo down >&2; exit 1"
WRITE_ONE = "(`jlab-node script slurm > jlab.sh` writes it)"
NO_JOB = (
    "no session to connect to, and you have no job there: log in and submit one with "
    f"`sbatch jlab.sh` {WRITE_ONE}"
)


def job(
    job_id: str = "12",
    word: str = "PENDING",
    *,
    reason: str = "None",
    start: int | None = None,
    name: str = "jlab",
    command: str = "(null)",
) -> str:
    """A line of squeue."""
    times = [str(start or "N/A"), "N/A"]
    return "\x1f".join([job_id, word, reason, *times, "localhost", name, command])


@pytest.fixture
def record() -> Iterator[Record]:
    """Of a session in job 12, whose port refuses whoever comes."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield Record(
            name="lab",
            node="localhost",
            port=1,
            token="ab" * 32,
            scheduler="slurm",
            job_id="12",
            cluster="cal1",
            ssh_port=closed.getsockname()[1],
            sshd_config="/tmp/jlab-u/x/sshd_config",
            nonce=NONCE,
            started=NOW - 7200,
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


def both(one: str, mine: str) -> str:
    """A squeue that is asked for one job, or for all of mine."""
    return f'case "$*" in *--jobs=*) {one};; *) {mine};; esac'


def prints(line: str) -> str:
    return f"echo '{line}'"


def test_there_is_nothing(login: Login, commands: Commands) -> None:
    commands.slurm()
    assert login.connect() == [NO_JOB]
    assert commands.names == ["scontrol", "squeue"]
    assert login.site_file.read_text() == "slurm:cal1 slurm:\n"
    login.later()
    assert login.connect() == [NO_JOB]
    assert commands.names == ["scontrol", "squeue", "squeue"], "the cluster's name is known"


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
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_the_relay_ends_by_sigpipe_like_any_program(
    login: Login, commands: Commands, endpoint: Record
) -> None:
    """Python ignores that signal, and what it starts would as well."""
    commands.slurm(job(word="RUNNING", start=NOW))
    login.publish(endpoint)
    with login.start("connect") as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline().startswith("SSH-2.0-test")
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
        assert found
        assert not int(found[1], 16) & 1 << (signal.SIGPIPE - 1)
        assert "bash" in Path(f"/proc/{process.pid}/comm").read_text(), "it is the relay"
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
    commands.slurm(job(word="RUNNING", start=NOW - 30))
    login.publish(record)
    assert login.connect(waits=True) == [
        "session lab is over: Slurm job 12 was started again; its record is removed",
        "job 12 (jlab) runs on localhost; JupyterLab is starting",
    ]
    assert login.records == [], "a buried one would keep others from waiting"


def test_a_job_that_goes_on_after_its_session(
    login: Login, commands: Commands, record: Record
) -> None:
    """Then the record is buried, so that nobody waits for that job."""
    commands.slurm(job(word="RUNNING", start=NOW - 60))
    commands.put("srun", "exit 69")
    login.publish(replace(record, started=NOW - 30))
    nothing = NO_JOB.replace(
        "you have no job there",
        "that of your Slurm job 12 (jlab) is over, although the job still runs",
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
    commands.slurm(job(word="SUSPENDED", start=record.started))
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
    commands.slurm(job(word=word, reason=reason, start=record.started))
    login.publish(record)
    assert login.connect() == [
        f"session lab is over: Slurm job 12 {how}; its record is removed",
        NO_JOB,
    ]
    assert login.records == []
    assert "srun" not in commands.names


def test_a_job_that_ends_while_the_ways_to_it_are_tried(
    login: Login, commands: Commands, record: Record, tmp_path: Path
) -> None:
    running, ended = (job(word=word, start=record.started) for word in ("RUNNING", "TIMEOUT"))
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


def test_no_way_to_a_job_that_runs(login: Login, commands: Commands, record: Record) -> None:
    commands.slurm(job(word="RUNNING", start=record.started))
    commands.put("srun", "echo 'srun: error: Unable to create step' >&2; exit 1")
    login.publish(record)
    assert login.connect() == [
        "session lab runs on localhost, but no way leads there: TCP to port "
        f"{record.ssh_port}: Connection refused; srun: error: Unable to create step; "
        "ssh: n1: No route to host",
        "if the node is up, ask your site which ports pass from login to compute nodes, and say "
        "them to jlab-node run --port-range LO-HI",
    ]
    assert login.records == [record.id]


@pytest.mark.parametrize(
    ("found", "is_over"),
    [
        pytest.param({"state": "Running", "startTime": NOW}, False, id="another's, running"),
        pytest.param({"state": "Terminated", "startTime": NOW}, False, id="another's, ended"),
        pytest.param({"state": "Waiting"}, False, id="another's, queued"),
        pytest.param({"state": "Error", "owner": "ME"}, False, id="mine, and it never ran"),
        pytest.param({"state": "Terminated", "startTime": NOW, "owner": "ME"}, True, id="mine"),
    ],
)
def test_an_oar_job_of_the_same_number(
    login: Login, commands: Commands, record: Record, found: dict[str, object], *, is_over: bool
) -> None:
    """Two clusters that share a home have the same job numbers, and OAR has no cluster's name."""
    owner = login.user if found.get("owner") == "ME" else "somebody-else"
    commands.oar("12", **{**found, "owner": owner})
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
    commands.slurm(job(word="RUNNING", start=NOW - 30))
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
            job(word="RUNNING", start=NOW - START_UP - 60, name="work"),
            "./notebook.sh\n",
            [],
            "no session to connect to, and none of your Slurm jobs (1) looks like one (by jlab in "
            f"its name, or jlab-node in its script): log in and submit one with `sbatch jlab.sh` "
            f"{WRITE_ONE}",
            id="it has run for long",
        ),
    ],
)
def test_the_job_that_was_submitted_last(
    login: Login,
    commands: Commands,
    tmp_path: Path,
    *,
    line: str,
    script: str,
    wanted: list[str],
    said: str,
) -> None:
    (tmp_path / "job.sh").write_text(script)
    commands.slurm(line.replace("(null)", str(tmp_path / "job.sh")))
    (login.home.path / "submitted").write_text("12")
    assert login.connect(*wanted, waits="queued" in said) == [said]


def test_another_job_that_looks_like_nothing_is_not_waited_for(
    login: Login, commands: Commands
) -> None:
    commands.slurm(job(name="work"))
    assert "none of your Slurm jobs (1) looks like one" in login.connect()[0]


@pytest.fixture
def sbatch(login: Login, commands: Commands) -> str:
    """The user has opted in: that command is run when there is no job."""
    commands.put("sbatch", "echo Submitted batch job 12")
    submit.set_command(login.home, None, "sbatch jlab.sh")
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
    asked = tmp_path / "asked"
    commands.put("squeue", f"[ -e '{asked}' ] && {{ {FAILS}; }}; >'{asked}'")
    assert login.connect() == ["nothing is submitted: Slurm does not answer (down)"]
    assert commands.names == ["scontrol", "squeue", "squeue"]


def test_nothing_is_submitted_when_a_session_was_published_meanwhile(
    login: Login, commands: Commands, sbatch: str, endpoint: Record, tmp_path: Path
) -> None:
    commands.slurm()
    asked, waiting = tmp_path / "asked", tmp_path / "record"
    waiting.write_text(render(endpoint))
    published = login.home.sessions / endpoint.id
    # The second question is the one before submitting.
    put = f"/bin/cat '{waiting}' >'{published}'"
    commands.put("squeue", f"[ -e '{asked}' ] && {put}; >'{asked}'")
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


def test_a_job_that_is_gone_before_it_was_a_session(
    login: Login, commands: Commands, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    commands.slurm()
    ended = job(word="FAILED", reason="NonZeroExitCode", start=NOW)
    commands.put("squeue", f"[ -e '{gone}' ] && {both(prints(ended), 'exit 0')} || {prints(job())}")
    with login.start("connect") as process:
        assert process.stderr
        assert "is queued" in process.stderr.readline()
        gone.touch()
        assert process.wait(timeout=60) == 69
        assert process.stderr.read() == (
            "jlab-node: job 12 (jlab) failed before it was a session: its log says why\n"
        )
        assert process.stdout
        assert process.stdout.read() == ""


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


def test_a_plain_server(login: Login, commands: Commands) -> None:
    assert login.connect("--session=gpu") == [
        f"no session called gpu to connect to on {socket.gethostname()}: start one there with "
        "`jlab-node run --name gpu`"
    ]
    assert not login.site_file.exists()
