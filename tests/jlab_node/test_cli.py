"""The verbs of jlab-node, as somebody types them on a login node or a laptop asks them there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jlab_node.commands import stop
from jlab_node.errors import JlabError
from jlab_node.jobs import submission
from jlab_node.registry import home as homes
from jlab_node.registry import logs
from tests.jlab_node.conftest import FAILS, JOB_12, Job

if TYPE_CHECKING:
    from jlab_node.registry.record import Record
    from tests.jlab_node.conftest import Commands, Login

TOKEN = "ab" * 32
WAITS = "job 13 (jlab) is queued, its start is not known yet: PENDING, Priority"


RUNS, QUEUED = Job("12", "RUNNING", start=-5000), Job("13", "PENDING", "Priority")


@pytest.fixture
def record(record: Record) -> Record:
    return replace(record, name="gpu", token=TOKEN)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What a laptop reads: one line."""
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found.pop("format") == 1
    assert found.pop("version")
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("lines", "arguments", "state", "text"),
    [
        pytest.param([RUNS, QUEUED], [], "running", "session gpu runs on n1 in", id="it runs"),
        pytest.param([RUNS, QUEUED], ["lab"], "queued", WAITS, id="it waits"),
        pytest.param(
            [RUNS],
            ["lab"],
            "none",
            "no session called lab to connect to (there are: gpu), and you have no other job",
            id="there is none",
        ),
        pytest.param(
            [Job("12", "TIMEOUT", start=-200, end=0)],
            ["gpu", "--after=slurm-12-gpu"],
            "over",
            "session gpu is over: Slurm job 12 reached its time limit at ",
            id="it was there",
        ),
    ],
)
def test_status_prints_text_or_json(
    login: Login,
    commands: Commands,
    record: Record,
    *,
    lines: list[Job],
    arguments: list[str],
    state: str,
    text: str,
) -> None:
    commands.slurm(*lines)
    login.publish(record)
    done = login.run("status", *arguments)
    assert (done.returncode, done.stderr) == (69 if state in ("none", "over") else 0, "")
    assert done.stdout.startswith(text)
    assert len(done.stdout.splitlines()) == 1
    found = answer(login.run("status", *arguments, "--json"))
    assert (found["state"], f"{found['text']}\n") == (state, done.stdout)
    assert (found["session"] or {}).get("id") == ("slurm-12-gpu" if state == "running" else None)
    assert found["job_id"] == ("13" if state == "queued" else None)
    assert TOKEN not in done.stdout + json.dumps(found)


def test_status_of_whom_nobody_can_ask(login: Login, commands: Commands) -> None:
    commands.slurm()
    commands.put("squeue", FAILS)
    done = login.run("status", "--after=slurm-12-gpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Slurm does not answer (down)\n"
    assert answer(login.run("status", "--json"))["state"] == "unknown"


@pytest.mark.parametrize(
    "arguments",
    [["--after=x"], ["--after=slurm-12"], ["--after=slurm-12-\x1b[2J"], ["\x1b[2J"], ["a b"]],
    ids=ascii,
)
def test_status_of_what_is_no_session(login: Login, arguments: list[str]) -> None:
    done = login.run("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_ls_prints_sessions_and_jobs(login: Login, commands: Commands, record: Record) -> None:
    commands.slurm(RUNS, QUEUED, Job("14", "PENDING", name="other"))
    login.publish(record)
    login.publish(replace(record, name="old", job_id="9"))
    since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.started))
    done = login.run("ls")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"gpu  n1  slurm 12  since {since}", WAITS]
    found = answer(login.run("ls", "--json"))
    assert [each["id"] for each in found["sessions"]] == ["slurm-12-gpu"]
    assert found["jobs"] == [
        {"job_id": "13", "name": "jlab", "state": "queued", "text": WAITS, "starts_at": None}
    ]
    assert TOKEN not in done.stdout + json.dumps(found)


def test_ls_of_nothing(login: Login, commands: Commands) -> None:
    commands.slurm()
    done = login.run("ls")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "no session is running: start one with `sbatch jlab.sh`\n"
    assert answer(login.run("ls", "--json")) == {"sessions": [], "jobs": []}
    login.later()
    commands.put("squeue", FAILS)
    done = login.run("ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "jlab-node: Slurm does not answer (down)\n", "there may be one"


@pytest.mark.parametrize("verb", ["ls", "status"])
def test_what_a_terminal_would_obey_is_not_printed(
    login: Login, commands: Commands, verb: str
) -> None:
    commands.slurm(Job("13", "PENDING", name="jlab\x1b]0;PWNED\x07\x9b"))
    done = login.run(verb)
    assert done.returncode == 0
    assert "job 13 (jlab?]0;PWNED??) is queued" in done.stdout
    assert not re.search(r"[^\n\x20-\x7e]", done.stdout + done.stderr)


def test_nor_in_an_error(login: Login, commands: Commands) -> None:
    commands.slurm()
    done = login.run("submit", stdin="printf 'no \\033]0;PWNED\\007\\n' >&2; exit 1\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed: no ?]0;PWNED?" in done.stderr
    assert not re.search(r"[^\n\x20-\x7e]", done.stderr)


def test_output_that_cannot_be_written(login: Login) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jlab_node", "script", "environment"],
            env=login.env,
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "jlab-node: input or output: No space left on device\n"


def test_ctrl_c_ends_with_130(login: Login, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\n")
    logs.remember(login.home, "lab", str(path))
    with login.start("logs", "-f") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "a\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read().strip() == ""


def test_logs_prints_the_last_lines(login: Login, tmp_path: Path) -> None:
    path = tmp_path / "gpu.log"
    path.write_text("".join(f"{number}\n" for number in range(100)))
    logs.remember(login.home, "gpu", str(path))
    done = login.run("logs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(number) for number in range(50, 100)]
    assert login.run("logs", "gpu", "-n", "2").stdout == "98\n99\n"
    done = login.run("logs", "lab")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("jlab-node: no log of a session called lab is known here: ")


def test_logs_that_are_followed_until_the_laptop_is_gone(login: Login, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\n")
    logs.remember(login.home, "lab", str(path))
    with login.start("logs", "-f") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "a\n"
        with path.open("a") as file:
            file.write("b\n")
        assert process.stdout.readline() == "b\n"
        process.stdin.close()  # as it is for a laptop's command that reads nothing
        with path.open("a") as file:
            file.write("c\n")
        assert process.stdout.readline() == "c\n"
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


@pytest.fixture
def slurm(commands: Commands) -> Commands:
    """A Slurm with one job that runs and one in the queue; scancel and sbatch are noted."""
    commands.slurm(RUNS, QUEUED)
    commands.put("scancel", "exit 0")
    commands.put("sbatch", "echo Submitted batch job 15")
    return commands


@pytest.mark.parametrize("as_json", [False, True])
def test_stop_a_job_in_the_queue(
    login: Login, slurm: Commands, record: Record, tmp_path: Path, *, as_json: bool
) -> None:
    ended = tmp_path / "ended"
    slurm.put("scancel", f">'{ended}'")
    slurm.put("squeue", f"echo '{RUNS}'; if [ ! -e '{ended}' ]; then echo '{QUEUED}'; fi")
    login.publish(record)
    done = login.run("stop", "13", *(["--json"] if as_json else []))
    assert (done.returncode, done.stderr) == (0, "")
    if as_json:
        assert answer(done) == {"stopped": "13"}
    else:
        assert done.stdout == "Slurm job 13 is cancelled\n"
    assert "scancel 13" in slurm.asked
    assert login.records == ["slurm-12-gpu"]


def test_stop_of_a_job_submitted_just_after_another_look_cancels_it(
    login: Login, slurm: Commands, tmp_path: Path
) -> None:
    assert WAITS in login.run("ls").stdout
    ended, newer = tmp_path / "ended", Job("14", "PENDING")
    slurm.put("scancel", f">'{ended}'")
    slurm.put("squeue", f"echo '{QUEUED}'; if [ ! -e '{ended}' ]; then echo '{newer}'; fi")
    done = login.run("stop", "14")
    assert (done.returncode, done.stdout) == (0, "Slurm job 14 is cancelled\n")


def test_stop_of_a_job_that_stays_is_no_success(
    login: Login, slurm: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although scancel says that all is well, as it does of a number that it cannot cancel."""
    monkeypatch.setattr(stop, "_TIMEOUT", 0.5)
    monkeypatch.setattr(homes, "open_state_dir", lambda: login.home)
    with pytest.raises(JlabError, match=r"^job 13 was told to stop, but has not ended yet$"):
        stop.stop("13", as_json=False)
    assert "scancel 13" in slurm.asked


def test_stop_a_session(login: Login, slurm: Commands, record: Record, tmp_path: Path) -> None:
    """And wait until its job has ended: it takes a moment."""
    ended = tmp_path / "ended"
    slurm.put("scancel", f">'{ended}'")
    over = Job("12", "CANCELLED", start=-5000)
    slurm.put(
        "squeue",
        f"if [ ! -e '{ended}' ]; then echo '{RUNS}'; else "
        f"case \"$*\" in *--jobs=12*) echo '{over}' ;; esac; fi",
    )
    login.publish(record)
    (login.home.path / "submitted").write_text("12")
    done = login.run("stop", "gpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "session slurm-12-gpu is stopped\n"
    assert "scancel 12" in slurm.asked
    assert login.records == []
    assert not (login.home.path / "submitted").exists(), "on purpose: another may be submitted"


@pytest.mark.parametrize("name", ["12", "14", "lab", "jlab", "1"])
def test_stop_what_is_neither(login: Login, slurm: Commands, record: Record, name: str) -> None:
    login.publish(record)
    done = login.run("stop", name)
    assert (done.returncode, done.stdout) == (69, "")
    assert f"no session is called '{name}'" in done.stderr
    assert done.stderr.endswith("; running: gpu\n")
    assert "scancel" not in slurm.names
    assert login.records == ["slurm-12-gpu"]


def test_verbs_leave_a_session_of_another_cluster_alone(
    login: Login, slurm: Commands, record: Record
) -> None:
    """A home may be seen from two clusters, and each has a job of that number."""
    login.publish(replace(record, cluster="cal2"))
    unknown = "in Slurm job 12 of cluster cal2, which this machine does not know"
    for verb, said in (("url", unknown), ("stop", "runs on n1: type this there")):
        done = login.run(verb, "gpu")
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    assert "scancel" not in slurm.names
    assert answer(login.run("ls", "--json"))["sessions"] == []
    (line,) = (line for line in login.run("ls").stdout.splitlines() if line.startswith("gpu"))
    assert line.endswith("  (not of this cluster, or machine)")


def test_stop_that_is_refused(login: Login, slurm: Commands) -> None:
    slurm.put("scancel", "echo 'scancel: error: Access denied' >&2; exit 1")
    done = login.run("stop", "13")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "jlab-node: Slurm job 13 cannot be cancelled: scancel: error: Access denied\n"
    )


@pytest.mark.parametrize(
    ("name", "lines", "there"),
    [
        pytest.param([], [], "", id="nothing is there"),
        pytest.param([], [RUNS], "session gpu runs on n1", id="a session runs"),
        pytest.param(["gpu"], [RUNS], "session gpu runs on n1", id="that one runs"),
        pytest.param(["lab"], [RUNS], "", id="another runs"),
        pytest.param([], [QUEUED], "job 13 (jlab) is queued", id="a job will be one"),
        pytest.param([], [Job("14", "PENDING", name="other")], "", id="a job will be none"),
    ],
)
def test_submit_prints_what_was_done(
    login: Login,
    slurm: Commands,
    record: Record,
    *,
    name: list[str],
    lines: list[Job],
    there: str,
) -> None:
    slurm.slurm(*lines)
    login.publish(record)
    (login.home.path / "submitted").write_text("9")  # just now; but this one was typed
    done = login.run("submit", *name, stdin="sbatch jlab.sh\n")
    assert (done.returncode, done.stderr) == (0, "")
    if there:
        assert done.stdout.startswith(f"nothing is submitted: {there}")
    else:
        assert done.stdout == "submitted Slurm job 15 by `sbatch jlab.sh`\n"
    assert slurm.asked.count("sbatch jlab.sh") == (not there)
    assert (login.home.path / "submitted").read_text() == ("9" if there else "15")


def test_submit_tells_a_laptop(login: Login, slurm: Commands) -> None:
    slurm.slurm()
    found = answer(login.run("submit", "--json", stdin="sbatch jlab.sh\n"))
    assert found == {"text": "submitted Slurm job 15 by `sbatch jlab.sh`"}


@pytest.mark.parametrize(
    ("stdin", "code", "said"),
    [
        pytest.param("\n", 69, "no session to connect to, and you have no job there", id="empty"),
        pytest.param("", 69, "no session to connect to, and you have no job there", id="none"),
        pytest.param("sbatch \x1b\n", 1, "--submit takes one command line", id="escape"),
        pytest.param("exit 3\n", 1, "`exit 3` failed: 3", id="it fails"),
    ],
)
def test_submit_by_nothing(login: Login, slurm: Commands, stdin: str, code: int, said: str) -> None:
    slurm.slurm()
    done = login.run("submit", stdin=stdin)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"jlab-node: {said}")
    assert "sbatch" not in slurm.names
    assert not (login.home.path / "submitted").exists()


def test_submit_by_what_setup_was_told(login: Login, slurm: Commands) -> None:
    """By a person as by a connection: not so soon after the last one."""
    slurm.slurm()
    submission.set_command(login.home, None, "sbatch mine.sh")
    done = login.run("submit", stdin="\n")
    assert done.stdout == "submitted Slurm job 15 by `sbatch mine.sh`\n", done.stderr
    done = login.run("submit", stdin="\n")
    assert done.returncode == 69
    assert "submits no job so soon after the last one" in done.stderr
    assert slurm.asked.count("sbatch mine.sh") == 1


def test_submit_when_the_scheduler_does_not_answer(login: Login, slurm: Commands) -> None:
    slurm.put("squeue", FAILS)
    done = login.run("submit", stdin="sbatch jlab.sh\n")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "jlab-node: nothing is submitted: Slurm does not answer (down)\n"
    assert "sbatch" not in slurm.names


def test_submit_on_a_plain_server(login: Login) -> None:
    done = login.run("submit", stdin="touch ran\n")
    assert (done.returncode, done.stdout) == (69, "")
    assert "start one there with `jlab-node run`" in done.stderr
    assert not (login.directory / "ran").exists()


@pytest.mark.parametrize("site", ["never found out", "found out two days ago"])
def test_url_unchecked_asks_no_scheduler(login: Login, site: str) -> None:
    """Neither for a session, nor for the sentence that there is none."""
    login.commands.put("squeue", "sleep 20; exit 1")
    login.commands.put("scontrol", "sleep 20; exit 1")
    if site != "never found out":
        homes.remember_site(login.home, "slurm", "cal1")
        os.utime(login.site_file, (time.time() - 2 * 86400,) * 2)
    none = login.run("url", "--unchecked")
    assert none.returncode == 69
    assert "start one there with `sbatch jlab.sh`" in none.stderr
    login.publish(JOB_12)
    assert f"token={JOB_12.token}" in login.run("url", "--unchecked").stdout
    assert login.commands.asked == []
