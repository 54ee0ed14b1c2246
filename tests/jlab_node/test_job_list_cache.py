"""The list of the user's jobs: a little program is squeue, and counts how often it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from loopback import wait_until

from jlab_node.jobs.job_list_cache import JobListCache
from jlab_node.schedulers import TABLE
from jlab_node.schedulers.base import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Several lines would be several jobs: as squeue separates them.
JOB = "{}\x1f{}\x1fNone\x1f{}\x1fN/A\x1fn1\x1fjlab\x1f/home/u/jlab.sh\n"
# Waits for a line, so that several begin at the same moment.
LOOK = """
import sys
from pathlib import Path
from jlab_node.jobs.job_list_cache import JobListCache
from jlab_node.schedulers import TABLE
cache = JobListCache(TABLE["slurm"], user="u1", directory=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
found = cache.fetch(max_age=float(sys.argv[2]))
print(found.asked_at > 0, *[job.job_id for job in found.jobs], found.problem)
"""


class Squeue:
    """A directory for what is kept, and a squeue whose answer can be changed."""

    def __init__(self, place: Path, program: Callable[[str, str], Path]) -> None:
        self.directory = place / "queue"
        self._asked = place / "asked"
        self._answer = place / "answer"
        self._program = program
        self.says(JOB.format("12", "PENDING", "N/A"))

    def says(self, text: str, *, code: int = 0, stderr: str = "", takes: float = 0) -> None:
        self._answer.write_text(text)
        self._program(
            "squeue",
            f"echo \"$*\" >>'{self._asked}'; sleep {takes}; cat '{self._answer}'\n"
            f"echo '{stderr}' >&2; exit {code}",
        )

    @property
    def asked(self) -> int:
        """How often it ran."""
        return len(self._asked.read_text().splitlines()) if self._asked.exists() else 0

    def cache(self) -> JobListCache:
        """As one more connection has it."""
        return JobListCache(TABLE["slurm"], user="u1", directory=self.directory)

    @property
    def kept(self) -> Path:
        """The file of the last answer."""
        return self.directory / f"{os.uname().nodename}-slurm"


@pytest.fixture
def squeue(tmp_path: Path, program: Callable[[str, str], Path]) -> Squeue:
    return Squeue(tmp_path, program)


def ids(cache: JobListCache) -> list[str]:
    return [job.job_id for job in cache.latest.jobs]


def is_news(cache: JobListCache, *, max_age: float) -> bool:
    """Whether a list that is at most so old is another one than the latest."""
    before = cache.latest
    assert cache.fetch(max_age=max_age) is cache.latest
    return cache.latest is not before


def aged(path: Path, seconds: float) -> None:
    """As if it had been written that long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_it_asks_for_the_jobs_of_the_user(squeue: Squeue, tmp_path: Path) -> None:
    cache = squeue.cache()
    before = time.time()
    assert (cache.latest.asked_at, cache.latest.problem, cache.latest.jobs) == (0, "", ())
    assert is_news(cache, max_age=60)
    assert ids(cache) == ["12"]
    assert cache.latest.problem == ""
    assert before <= cache.latest.asked_at <= time.time()
    assert "--user=u1" in (tmp_path / "asked").read_text()


def test_two_within_the_time_ask_once(squeue: Squeue) -> None:
    first, second = squeue.cache(), squeue.cache()
    assert is_news(first, max_age=60)
    assert is_news(second, max_age=60), "what another has asked is news to it"
    assert squeue.asked == 1
    assert ids(second) == ids(first) == ["12"]
    assert second.latest.asked_at == pytest.approx(first.latest.asked_at, abs=0.001)
    assert not is_news(first, max_age=60)
    assert not is_news(second, max_age=60)
    assert ids(first) == ["12"], "the old answer stands"
    assert squeue.asked == 1


def test_an_old_answer_is_asked_for_again(squeue: Squeue) -> None:
    first = squeue.cache()
    first.fetch(max_age=60)
    squeue.says(JOB.format("13", "RUNNING", "N/A"))
    aged(squeue.kept, 61)
    second = squeue.cache()
    assert is_news(second, max_age=60)
    assert (squeue.asked, ids(second)) == (2, ["13"])
    assert not is_news(first, max_age=60), "its own answer is young enough"
    assert ids(first) == ["12"]
    first.latest = replace(first.latest, asked_at=first.latest.asked_at - 61)
    assert is_news(first, max_age=60)
    assert (squeue.asked, ids(first)) == (2, ["13"])


def test_no_age_at_all_is_always_a_question(squeue: Squeue) -> None:
    cache = squeue.cache()
    for _ in range(3):
        assert is_news(cache, max_age=0)
    assert squeue.asked == 3


def test_what_is_kept_is_private_and_of_the_moment_of_the_question(squeue: Squeue) -> None:
    squeue.says("", takes=0.5)
    before = os.umask(0)
    try:
        cache = squeue.cache()
        cache.fetch(max_age=60)
    finally:
        os.umask(before)
    assert squeue.directory.stat().st_mode & 0o7777 == 0o700
    assert {path.stat().st_mode & 0o7777 for path in squeue.directory.iterdir()} == {0o600}
    assert time.time() - squeue.kept.stat().st_mtime >= 0.5, "not that of the answer"
    assert squeue.kept.stat().st_mtime == pytest.approx(cache.latest.asked_at, abs=0.001)


def test_each_machine_of_a_home_keeps_its_own(squeue: Squeue) -> None:
    squeue.cache().fetch(max_age=60)
    squeue.kept.rename(squeue.directory / "another-login-slurm")
    squeue.cache().fetch(max_age=60)
    assert squeue.asked == 2


@pytest.mark.parametrize(
    ("text", "code", "stderr", "problem"),
    [
        pytest.param("", 1, "slurm_load_jobs error: down", "slurm_load_jobs error: down", id="it"),
        pytest.param("only here\n", 1, "", "only here", id="on stdout"),
        pytest.param("", 3, "", "exit code 3", id="silent"),
    ],
)
def test_fetch_of_a_command_that_fails_tells_the_problem(
    squeue: Squeue, text: str, code: int, stderr: str, problem: str
) -> None:
    squeue.says(text, code=code, stderr=stderr)
    cache = squeue.cache()
    assert is_news(cache, max_age=60)
    assert (cache.latest.jobs, cache.latest.problem) == ((), problem)
    second = squeue.cache()
    second.fetch(max_age=60)
    assert (second.latest.problem, squeue.asked) == (problem, 1), "others do not ask in vain either"
    squeue.says(JOB.format("12", "PENDING", "N/A"))
    cache.fetch(max_age=0)
    assert (ids(cache), cache.latest.problem) == (["12"], ""), "it answers again"


def test_jobs_are_not_kept_over_a_failure(squeue: Squeue) -> None:
    cache = squeue.cache()
    cache.fetch(max_age=0)
    squeue.says("", code=1, stderr="down")
    cache.fetch(max_age=0)
    assert (cache.latest.jobs, cache.latest.problem) == ((), "down")


def test_fetch_without_the_command_tells_the_problem(
    squeue: Squeue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    # The command begins with `env`, which is not there either.
    cache = squeue.cache()
    assert is_news(cache, max_age=60)
    assert (cache.latest.jobs, cache.latest.problem) == ((), "env is not on PATH here")


def test_a_directory_that_cannot_be_written(
    bound_by_modes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then everybody asks for themselves."""
    asked = bound_by_modes / "asked"
    program = bound_by_modes / "squeue"
    program.write_text(f"#!/bin/sh\necho . >>'{asked}'\n")
    program.chmod(0o755)
    asked.touch(mode=0o666)
    monkeypatch.setenv("PATH", str(bound_by_modes), prepend=os.pathsep)
    directory = bound_by_modes / "queue"
    directory.mkdir(mode=0o500)
    for times in (1, 2):
        cache = JobListCache(TABLE["slurm"], user="u1", directory=directory)
        assert is_news(cache, max_age=60)
        assert (cache.latest.problem, len(asked.read_text().splitlines())) == ("", times)
    assert list(directory.iterdir()) == []


def test_a_directory_that_cannot_be_made(squeue: Squeue) -> None:
    squeue.directory.write_text("a file is in its place")
    for asked in (1, 2):
        cache = squeue.cache()
        assert is_news(cache, max_age=60)
        assert (ids(cache), squeue.asked) == (["12"], asked)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x00", id="not text"),
        pytest.param(b'{"code": 0, "stdo', id="cut short"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b'{"code": 0}', id="half of it"),
        pytest.param(b'{"code": {}, "stdout": null, "stderr": 7}', id="of other types"),
        pytest.param(b'{"code": Infinity, "stdout": "", "stderr": ""}', id="a number of no end"),
    ],
)
def test_a_kept_file_with_garbage(squeue: Squeue, content: bytes) -> None:
    squeue.directory.mkdir()
    squeue.kept.write_bytes(content)
    cache = squeue.cache()
    assert is_news(cache, max_age=60)
    assert (squeue.asked, ids(cache)) == (1, ["12"])
    assert json.loads(squeue.kept.read_text())["code"] == 0, "it is a good one now"
    squeue.cache().fetch(max_age=60)
    assert squeue.asked == 1


def test_a_kept_file_that_cannot_be_read(squeue: Squeue) -> None:
    squeue.kept.mkdir(parents=True)
    cache = squeue.cache()
    assert is_news(cache, max_age=60)
    assert (squeue.asked, ids(cache)) == (1, ["12"])


def test_an_answer_from_the_future(squeue: Squeue) -> None:
    """Another machine's clock was ahead: it would be believed for too long."""
    squeue.cache().fetch(max_age=60)
    aged(squeue.kept, -3600)
    cache = squeue.cache()
    assert is_news(cache, max_age=60)
    assert squeue.asked == 2
    assert cache.latest.asked_at <= time.time()
    cache.latest = replace(cache.latest, asked_at=time.time() + 3600)  # our own was
    assert is_news(cache, max_age=60)
    assert cache.latest.asked_at <= time.time()


def test_fetch_sorts_jobs_by_their_start(squeue: Squeue) -> None:
    jobs = [
        ("1", "PENDING", "N/A"),
        ("2", "PENDING", "1800000900"),
        ("3", "RUNNING", "1800000500"),
        ("4", "COMPLETING", "1800000000"),
        ("5", "PENDING", "1800000600"),
        ("6", "RUNNING", "1800000400"),
        ("7", "COMPLETED", "1800000000"),
        ("8", "PENDING", "N/A"),
        ("9", "RUNNING", "N/A"),
    ]
    squeue.says("".join(JOB.format(*job) for job in jobs))
    cache = squeue.cache()
    cache.fetch(max_age=60)
    assert ids(cache) == ["6", "3", "9", "5", "2", "1", "8"]
    assert {job.state for job in cache.latest.jobs} == {State.RUNNING, State.QUEUED}


def looking(squeue: Squeue, max_age: float) -> subprocess.Popen[str]:
    """Another connection's process, which is ready to look."""
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-c", LOOK, str(squeue.directory), str(max_age)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(processes: list[subprocess.Popen[Any]]) -> list[str]:
    """Let all look at the same moment; what each found."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate()[0] for process in processes]


def test_of_several_at_the_same_time_one_asks(squeue: Squeue) -> None:
    squeue.says(JOB.format("12", "PENDING", "N/A"), takes=0.6)
    said = go([looking(squeue, 60) for _ in range(4)])
    assert said == ["True 12 \n"] * 4
    assert squeue.asked == 1


def test_who_wants_it_now_does_not_take_anothers_answer(squeue: Squeue) -> None:
    said = go([looking(squeue, 0) for _ in range(2)])
    assert said == ["True 12 \n"] * 2
    assert squeue.asked == 2


def test_one_that_died_while_it_asked_is_in_nobodys_way(squeue: Squeue) -> None:
    squeue.says("", takes=20)
    dying = looking(squeue, 60)
    assert dying.stdin is not None
    dying.stdin.write("\n")
    dying.stdin.flush()
    wait_until(lambda: squeue.asked, "it asks")
    dying.kill()
    dying.communicate()
    squeue.says(JOB.format("12", "PENDING", "N/A"))
    cache = squeue.cache()
    began = time.monotonic()
    assert is_news(cache, max_age=60)
    assert ids(cache) == ["12"]
    assert time.monotonic() - began < 15, "nobody waits for what it asked"
