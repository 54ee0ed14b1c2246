"""Submitting by connecting: once, not too soon, and by the user's own command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from jlab_node.errors import FAILED, UNAVAILABLE, JlabError
from jlab_node.jobs import submission
from jlab_node.registry.home import Home
from jlab_node.schedulers import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLURM = TABLE["slurm"]
COMMAND = "echo ran >>ran; echo Submitted batch job 12"
NAP = f"sleep 60.{os.getpid()}"  # no other process takes the same
# A connection that comes together with others: a job is needed until one of them has submitted it.
CONNECTION = """
import sys
from pathlib import Path
from jlab_node.jobs import submission as submit
from jlab_node.errors import JlabError
from jlab_node.registry.home import Home
from jlab_node.schedulers import TABLE
home = Home(Path(sys.argv[1]))
def is_needed():
    return sys.argv[2] == "always" or not Path(sys.argv[1], "..", "ran").exists()
print("ready", flush=True)
sys.stdin.readline()
try:
    print(submit.submit(home, submit.command(home, None), TABLE["slurm"], is_needed=is_needed))
except JlabError as error:
    print(error)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A ~/.jlab without a command."""
    path = tmp_path / "home" / ".jlab"
    path.mkdir(parents=True, mode=0o700)
    return Home(path)


def mark(home: Home) -> Path:
    return home.path / "submitted"


def aged(home: Home, seconds: float) -> None:
    """As if the last job had been submitted, or the last session had ended, that long ago."""
    mark(home).touch()
    then = time.time() - seconds
    os.utime(mark(home), (then, then))


def age(home: Home) -> float:
    return time.time() - mark(home).stat().st_mtime


def runs(home: Home) -> int:
    """How often the command has run; it runs in the user's home."""
    path = home.path.parent / "ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


def connect(home: Home, wanted: str | None = None, *, by_a_person: bool = True) -> str:
    """One connection, with no job in sight."""
    text = submission.command(home, wanted)
    return submission.submit(home, text, SLURM, by_a_person=by_a_person, is_needed=lambda: True)


def refused(home: Home, *, by_a_person: bool) -> str:
    """What a connection is told that must not submit."""
    before = runs(home)
    with pytest.raises(JlabError) as caught:
        connect(home, by_a_person=by_a_person)
    assert caught.value.exit_code == UNAVAILABLE
    assert runs(home) == before
    return str(caught.value)


def test_command_where_nobody_opted_in_is_empty(home: Home) -> None:
    assert submission.command(home, None) == ""
    assert submission.command(home, "gpu") == ""
    assert submission.last_job(home) == ""


def test_a_command_for_each_session(home: Home) -> None:
    submission.set_command(home, None, "sbatch jlab.sh")
    submission.set_command(home, "gpu", "sbatch --gpus=1 'my jobs/gpu.sh'")
    assert submission.command(home, None) == "sbatch jlab.sh"
    assert submission.command(home, "gpu") == "sbatch --gpus=1 'my jobs/gpu.sh'"
    assert submission.command(home, "cpu") == "", "that of another is not taken instead"
    assert submission.command_file(home, "gpu").stat().st_mode & 0o7777 == 0o600
    submission.set_command(home, None, "")
    assert submission.command(home, None) == ""
    assert submission.command(home, "gpu") != ""
    submission.set_command(home, None, "")
    assert [path.name for path in home.path.iterdir()] == ["submit-gpu"]


@pytest.mark.parametrize("text", ["a\nb", "\n", "x" * 4097], ids=["two lines", "end", "too long"])
def test_what_is_no_command_line(home: Home, text: str) -> None:
    with pytest.raises(JlabError, match=r"^--submit takes one command line$"):
        submission.set_command(home, None, text)
    assert list(home.path.iterdir()) == []


def test_command_that_cannot_be_kept(home: Home) -> None:
    home.path.rmdir()
    with pytest.raises(JlabError, match=r"^cannot write .*/\.jlab/submit: No such file"):
        submission.set_command(home, None, "sbatch jlab.sh")


@pytest.mark.parametrize("found", [0o620, 0o602, 0o666], ids=oct)
def test_command_that_others_can_write_is_ignored(home: Home, found: int) -> None:
    submission.set_command(home, None, COMMAND)
    submission.command_file(home, None).chmod(found)
    assert submission.command(home, None) == ""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"  sbatch jlab.sh  \n\n", "sbatch jlab.sh", id="by an editor"),
        pytest.param(b" \n", "", id="blank"),
        pytest.param(b"sbatch \xff.sh\n", "", id="not text"),
    ],
)
def test_command_as_somebody_wrote_it(home: Home, content: bytes, text: str) -> None:
    submission.command_file(home, None).write_bytes(content)
    assert submission.command(home, None) == text


def test_command_in_a_directory_of_that_name(home: Home) -> None:
    submission.command_file(home, None).mkdir(mode=0o700)
    assert submission.command(home, None) == ""


@pytest.mark.parametrize("by_a_person", [True, False], ids=["terminal", "none"])
def test_the_first_job_is_submitted_for_everybody(home: Home, *, by_a_person: bool) -> None:
    submission.set_command(home, None, COMMAND)
    said = connect(home, by_a_person=by_a_person)
    assert said == f"submitted Slurm job 12 by `{COMMAND}`"
    assert runs(home) == 1, "in the user's home"
    assert submission.last_job(home) == "12"
    assert age(home) < 5
    assert mark(home).stat().st_mode & 0o7777 == 0o600


def test_the_command_is_the_sessions(home: Home) -> None:
    submission.set_command(home, None, "false")
    submission.set_command(home, "gpu", COMMAND)
    assert connect(home, "gpu") == f"submitted Slurm job 12 by `{COMMAND}`"


@pytest.mark.usefixtures("on_stdin")
def test_the_command_is_a_shells_and_reads_nothing(home: Home) -> None:
    """What is on stdin is ssh's."""
    command = "X='a  b' && cat >said && echo \"$X\" >>said"
    submission.set_command(home, None, command)
    connect(home)
    assert (home.path.parent / "said").read_text() == "a  b\n"


def test_it_is_not_needed_any_more(home: Home) -> None:
    submission.set_command(home, None, COMMAND)
    said = submission.submit(home, COMMAND, SLURM, is_needed=lambda: False)
    assert said == "another connection of yours has submitted a job just now"
    assert runs(home) == 0
    assert not mark(home).exists(), "nothing has happened"


@pytest.mark.parametrize(
    ("seconds", "submits"),
    [
        pytest.param(0, False, id="now"),
        pytest.param(submission.COOL_DOWN - 5, False, id="just too soon"),
        pytest.param(submission.COOL_DOWN + 1, True, id="later"),
        pytest.param(30 * 86400, True, id="a month later"),
        pytest.param(-3600, True, id="in the future, by a clock that was wrong"),
    ],
)
def test_a_person_waits_for_ten_minutes(home: Home, seconds: float, *, submits: bool) -> None:
    submission.set_command(home, None, COMMAND)
    aged(home, seconds)
    if submits:
        assert connect(home).startswith("submitted Slurm job 12")
        return
    assert refused(home, by_a_person=True) == (
        "there is no session, and jlab-node submits no job so soon after the last one "
        f"ended or was submitted (every attempt counts): type `{COMMAND}` on the cluster, or "
        "connect again in 10 minutes"
    )


@pytest.mark.parametrize("seconds", [0, 601, 30 * 86400, -3600])
def test_without_a_terminal_a_lost_job_is_never_replaced(home: Home, seconds: float) -> None:
    submission.set_command(home, None, COMMAND)
    aged(home, seconds)
    assert refused(home, by_a_person=False) == (
        "there is no session, and jlab-node submits no job without a terminal once a "
        f"session has ended: type `{COMMAND}` on the cluster, or use ssh in a terminal"
    )


@pytest.mark.parametrize("by_a_person", [True, False], ids=["terminal", "none"])
def test_every_attempt_begins_the_ten_minutes_anew(home: Home, *, by_a_person: bool) -> None:
    """So a client that tries every minute never gets a job, however long it tries."""
    submission.set_command(home, None, COMMAND)
    aged(home, submission.COOL_DOWN - 60)
    refused(home, by_a_person=by_a_person)
    assert age(home) < 5
    refused(home, by_a_person=True)


def test_a_job_that_was_submitted_counts_like_an_end(home: Home) -> None:
    """It may have failed at once, and would at once again."""
    submission.set_command(home, None, COMMAND)
    connect(home)
    refused(home, by_a_person=True)
    assert submission.last_job(home) == "12", "an attempt leaves it"


def test_a_new_command_is_a_new_beginning(home: Home) -> None:
    submission.set_command(home, None, COMMAND)
    connect(home)
    submission.set_command(home, None, COMMAND)
    assert submission.last_job(home) == ""
    assert connect(home, by_a_person=False).startswith("submitted")


def test_start_cooldown_now(home: Home) -> None:
    submission.start_cooldown(home)
    assert age(home) < 5
    assert mark(home).stat().st_mode & 0o7777 == 0o600
    aged(home, 5000)
    submission.start_cooldown(home)
    assert age(home) < 5


@pytest.mark.parametrize(
    ("before", "ended", "after"),
    [
        pytest.param(None, 300, 300, id="the first"),
        pytest.param(5000, 300, 300, id="a later one"),
        pytest.param(300, 5000, 300, id="one that was over before the last submission"),
        pytest.param(300, 300, 300, id="the same"),
    ],
)
def test_start_cooldown_at_a_time(home: Home, before: int | None, ended: int, after: int) -> None:
    if before is not None:
        aged(home, before)
    submission.start_cooldown(home, at=time.time() - ended)
    assert age(home) == pytest.approx(after, abs=5)


def test_start_cooldown_keeps_the_last_job(home: Home) -> None:
    submission.set_command(home, None, COMMAND)
    connect(home)
    submission.start_cooldown(home)
    submission.start_cooldown(home, at=time.time() + 1)
    assert submission.last_job(home) == "12"


def test_clear_cooldown_lets_the_next_job_be_submitted(home: Home) -> None:
    submission.set_command(home, None, COMMAND)
    submission.start_cooldown(home)
    submission.clear_cooldown(home)
    submission.clear_cooldown(home)
    assert connect(home, by_a_person=False).startswith("submitted")


def test_cooldown_in_a_home_that_is_gone_does_nothing(home: Home) -> None:
    home.path.rmdir()
    submission.start_cooldown(home)
    submission.start_cooldown(home, at=1.0)
    submission.clear_cooldown(home)
    assert submission.last_job(home) == ""
    assert not home.path.exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        pytest.param("echo x; echo bad >&2; exit 3", "x", id="the last line of stdout"),
        pytest.param("echo a >&2; echo 'b c' >&2; echo >&2; exit 3", "b c", id="of stderr"),
        pytest.param("exit 3", "3", id="silent"),
        pytest.param("printf '\\377\\n'; exit 1", "\ufffd", id="not text"),
        pytest.param("kill -9 $$", "-9", id="killed"),
    ],
)
def test_submit_by_a_command_that_fails_raises(home: Home, command: str, says: str) -> None:
    submission.set_command(home, None, command)
    with pytest.raises(JlabError) as caught:
        connect(home)
    assert (str(caught.value), caught.value.exit_code) == (f"`{command}` failed: {says}", FAILED)
    assert not mark(home).exists(), "nothing was submitted"
    submission.set_command(home, None, COMMAND)
    assert connect(home).startswith("submitted"), "the lock is free again"


@pytest.mark.parametrize(
    "printed",
    [
        pytest.param("-n", id="nothing"),
        pytest.param("OAR_JOB_ID=12", id="another scheduler's"),
        pytest.param("Submitted batch job", id="half of it"),
    ],
)
def test_command_that_prints_no_id(home: Home, printed: str) -> None:
    command = f"echo {printed}"
    submission.set_command(home, None, command)
    assert connect(home) == f"`{command}` was run"
    assert submission.last_job(home) == ""
    refused(home, by_a_person=True)


def test_an_id_among_other_lines(home: Home) -> None:
    submission.set_command(
        home, None, "echo 'Welcome to cal1'; echo Submitted batch job 345 on cluster cal1"
    )
    assert connect(home).startswith("submitted Slurm job 345 by")
    assert submission.last_job(home) == "345"


def test_an_id_that_cannot_be_kept(home: Home) -> None:
    """The job is submitted all the same."""
    submission.set_command(home, None, COMMAND)
    mark(home).mkdir()
    os.utime(mark(home), (1, 1))
    assert connect(home) == f"submitted Slurm job 12 by `{COMMAND}`"


def test_submit_by_a_command_that_hangs_raises(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "_TIMEOUT", 0.3)
    command = f"exec {NAP}"
    submission.set_command(home, None, command)
    with pytest.raises(JlabError, match=f"^`{command}` has not ended for") as caught:
        connect(home)
    assert caught.value.exit_code == FAILED
    assert not [each for each in psutil.process_iter(["cmdline"]) if is_sleep(each)]
    submission.set_command(home, None, COMMAND)
    assert connect(home).startswith("submitted")


def is_sleep(process: psutil.Process) -> bool:
    return bool(process.info["cmdline"] == NAP.split())


def test_submit_without_a_shell_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    submission.set_command(home, None, COMMAND)
    monkeypatch.setenv("PATH", str(home.path))
    with pytest.raises(JlabError, match=f"^`{re.escape(COMMAND)}` could not be run: .*No such"):
        connect(home)


@pytest.fixture
def connections() -> Iterator[list[subprocess.Popen[str]]]:
    """What is still there at the end is ended."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def at_once(
    home: Home, number: int, needed: str, started: list[subprocess.Popen[str]]
) -> list[str]:
    """What that many connections say which come at the same moment."""
    for _ in range(number):
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", CONNECTION, str(home.path), needed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sorted(process.communicate(timeout=60)[0] for process in started)


def test_of_several_at_once_one_submits(
    home: Home, connections: list[subprocess.Popen[str]]
) -> None:
    slow = f"sleep 0.3; {COMMAND}"
    submission.set_command(home, None, slow)
    assert at_once(home, 5, "until it ran", connections) == [
        *["another connection of yours has submitted a job just now\n"] * 4,
        f"submitted Slurm job 12 by `{slow}`\n",
    ]
    assert runs(home) == 1


def test_of_several_at_once_one_submits_even_if_the_queue_does_not_show_it(
    home: Home, connections: list[subprocess.Popen[str]]
) -> None:
    submission.set_command(home, None, COMMAND)
    said = at_once(home, 4, "always", connections)
    assert [each.startswith("submitted ") for each in said] == [True, False, False, False]
    assert all("so soon after the last one" in each for each in said[1:])
    assert runs(home) == 1


def test_one_that_submits_for_too_long(
    home: Home, connections: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    submission.set_command(home, None, "touch started; sleep 60")
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", CONNECTION, str(home.path), "always"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    connections.append(process)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    deadline = time.monotonic() + 10
    while not (home.path.parent / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    monkeypatch.setattr(submission, "_TIMEOUT", 0.2)
    try:
        with pytest.raises(JlabError, match=r"^another connection of yours is submitting a job"):
            connect(home)
    finally:
        os.killpg(process.pid, 9)
