"""The cluster is full: ssh says why and until when, and opens once the job runs."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

CORES = {"slurm": 64, "oar": 32}  # of each node


def fill(person: Person, *, seconds: int) -> str:
    """A job of the same user that has a whole node to itself, and is no session."""
    cores = CORES[person.site.scheduler]
    return person.submit(name="work", node=1, seconds=seconds, cores=cores, body="sleep 300")


def test_it_waits_says_why_and_opens(person: Person) -> None:
    filling = fill(person, seconds=300)
    wait_until(lambda: is_running(person, filling), "the node is taken", seconds=60)
    job = person.submit(node=1)
    waiting = person.start(
        "ssh", f"jlab+{person.alias}", f"hostname; echo ${person.site.job_variable}"
    )
    assert waiting.stderr is not None
    lines = [waiting.stderr.readline()]
    assert f"job {job} (jlab-lab) is queued, " in lines[0]
    # Reason and estimate come with the scheduler's next round, at the latest.
    while "starts about" not in lines[-1]:
        lines.append(waiting.stderr.readline())
        assert lines[-1], "it goes on waiting"
    assert {"slurm": ": PENDING", "oar": ": Waiting, R=1"}[person.site.scheduler] in lines[-1]
    assert re.search(r", starts about ([0-9]{2}:[0-9]{2}|[0-9-]{10} )", lines[-1])
    person.cancel(filling)
    stdout, stderr = waiting.communicate(timeout=120)
    assert stdout.split() == [person.site.nodes[1], job]
    lines = "".join([*lines, stderr]).splitlines()
    assert len(lines) == len(set(lines)), "once per change"
    # Whether it is seen to start as well depends on when the scheduler is asked next.
    assert all(f"job {job} (jlab-lab) " in each for each in lines)


def is_running(person: Person, job: str) -> bool:
    if person.site.scheduler == "slurm":
        return "R" in person.on_login("squeue", "--noheader", f"--jobs={job}", "--format=%t")
    return '"state" : "Running"' in person.on_login("oarstat", "-fJ", "-j", job)


def test_a_terminal_has_one_line_that_changes_in_place(person: Person) -> None:
    filling = fill(person, seconds=300)
    wait_until(lambda: is_running(person, filling), "the node is taken", seconds=60)
    job = person.submit(node=1)
    terminal = person.terminal("ssh", f"jlab+{person.alias}")
    terminal.read_until(rf"\[0:0[1-9]\]: job {job} \(jlab-lab\) is queued, ")
    assert "\n" not in terminal.text, "it is one line"
    person.cancel(filling)
    terminal.read_until(r"\$ $", seconds=120)
    announced = re.search(r"jlab-node: session lab on .*", terminal.text.split("\x1b[K")[-1])
    assert announced
    assert person.site.nodes[1] in announced[0]
    assert f"job {job}" in announced[0]
    assert re.search(r"0 h (2[0-9]|30) min left", announced[0])
    assert "http://127.0.0.1:" in announced[0]
    terminal.type("exit 3\n")
    assert terminal.wait() == 3


def test_two_that_wait_ask_once(person: Person) -> None:
    """Every 2 s in the first ten, every 15 s after that, however many wait."""
    command = "squeue" if person.site.scheduler == "slurm" else "oarstat"
    person.on_login("mkdir", "-p", "bin")
    person.write(
        f"bin/{command}",
        f'#!/bin/sh\ndate +%s.%N >> ~/asked\nexec /usr/bin/{command} "$@"\n',
    )
    person.write(".bash_profile", "PATH=~/bin:$PATH\n")
    person.write(".bashrc", "PATH=~/bin:$PATH\n")
    try:
        filling = fill(person, seconds=300)
        wait_until(lambda: is_running(person, filling), "the node is taken", seconds=60)
        person.submit(node=1)
        person.on_login("rm", "-f", "asked")
        waiting = [person.start("ssh", "-N", f"jlab+{person.alias}") for _ in range(2)]
        for each in waiting:
            assert each.stderr is not None
            assert "is queued" in each.stderr.readline()
        began = time.time()

        def asked() -> list[float]:
            return [float(line) for line in person.on_login("cat", "asked").split()]

        wait_until(lambda: asked()[-1] > began + 26, "it is asked a second time", seconds=120)
        times = asked()
        assert len([at for at in times if at < began + 8]) <= 8, times
        # Both began before that, so the ten seconds are over; starting a command takes its time.
        late = [later - sooner for sooner, later in zip(times, times[1:]) if later > began + 11]
        assert late
        assert all(gap > 13 for gap in late), times
        for each in waiting:
            assert each.poll() is None
    finally:
        person.on_login("rm", "-rf", "bin", ".bash_profile", ".bashrc", "asked")


def test_the_fast_path_asks_nothing(person: Person) -> None:
    job = person.submit()
    person.wait_for_session(job)
    person.ssh("true")  # the first one finds out which cluster this is
    command = "squeue" if person.site.scheduler == "slurm" else "oarstat"
    path = f"/usr/bin/{command}"
    person.login.run(["mv", path, f"{path}.away"], check=True)
    try:
        said = person.ssh("echo here")
        assert (said.stdout, said.stderr) == ("here\n", "")
    finally:
        person.login.run(["mv", f"{path}.away", path], check=True)


def test_the_scheduler_does_not_answer(person: Person) -> None:
    """It may come back: nothing is removed, and the wait is a visible one."""
    command = "squeue" if person.site.scheduler == "slurm" else "oarstat"
    path = f"/usr/bin/{command}"
    person.login.run(["mv", path, f"{path}.away"], check=True)
    script = "#!/bin/sh\necho Unable to contact the controller >&2\nexit 1\n"
    person.login.run(["sh", "-c", f"cat > {path}; chmod 755 {path}"], input=script, check=True)
    try:
        waiting = person.start("ssh", f"jlab+{person.alias}", "echo here")
        assert waiting.stderr is not None
        line = waiting.stderr.readline()
        assert "does not answer (Unable to contact the controller); asking again" in line
    finally:
        person.login.run(["mv", f"{path}.away", path], check=True)
    person.submit()
    stdout, stderr = waiting.communicate(timeout=120)
    assert stdout == "here\n", stderr


def test_a_job_that_is_no_session_is_not_waited_for(person: Person) -> None:
    fill(person, seconds=300)
    said = person.ssh("true")
    assert said.code == 255
    assert "none of your" in said.sentences
    assert "looks like a session" in said.sentences
    assert person.is_soon(said)


def test_a_job_that_will_be_another_session_is_not_waited_for(person: Person) -> None:
    person.submit(name="gpu")
    said = person.ssh("true", session="cpu")
    assert said.code == 255
    assert "no session called cpu to connect to" in said.sentences
    assert "--name cpu" in said.sentences
    said = person.ssh("echo here", session="gpu")
    assert said.stdout == "here\n", said.stderr
