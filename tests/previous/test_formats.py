"""What 0.1.0 wrote and said, read by this version. The samples are never edited."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished

from jlab_node.jobs.job_list_cache import Queue
from jlab_node.registry import home
from jlab_node.registry.home import Home
from jlab_node.schedulers import slurm
from jlab_node.schedulers.base import State
from jlab_proxy import target
from jlab_proxy.cluster import client, responses
from jlab_proxy.commands import completion, setup
from jlab_proxy.doctor import check
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import document, keys
from tests.jlab_proxy.test_sshconfig import block

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SAMPLES = Path(__file__).with_name("0.1.0")
SESSION = "local-10931-gpu"


def answer(verb: str) -> dict[str, Any]:
    return client.parse(SAMPLES.joinpath(f"{verb}.json").read_text("utf-8"), alias="cal1")


def test_every_answer() -> None:
    about = setup._checked(answer("setup"))
    assert (about["user"], about["socket_dir"]) == ("alice", "/tmp/jlab-alice")
    (session,), (queued,) = responses.parse_sessions(answer("ls"))
    assert (session.id, session.name, session.node) == (SESSION, "gpu", "n1")
    assert session.exposed == ("dask",)
    assert (queued.job_id, "is queued" in queued.text) == ("12", True)
    running = responses.parse_standing(answer("status"))
    assert (running.state, running.session and running.session.id) == ("running", SESSION)
    over = responses.parse_standing(answer("status-over"))
    assert (over.is_alive, over.session) == (False, None)
    assert responses.parse_url(answer("url"), 8888).startswith("http://127.0.0.1:8888/lab?token=")
    assert responses.parse_session(answer("url")["session"]).id == SESSION
    assert len(check.parse(answer("doctor"), alias="cal1")) == 10
    assert answer("stop")["stopped"] == SESSION
    assert "nothing is submitted" in answer("submit")["text"]


def test_the_blocks_in_ssh_config(tmp_path: Path) -> None:
    text = SAMPLES.joinpath("config").read_text("utf-8")
    assert document.ports(text) == {"jlab+cal1": 8888, "jlab+cal1+gpu": 8889}
    assert document.is_at_top(text, "jlab+cal1")
    assert document.is_at_top(text, "jlab+cal1+gpu")
    new = document.merge(text, block(tmp_path, "cal1"))
    assert document.block_of(new, "jlab+cal1") == document.render(block(tmp_path, "cal1")) + "\n"
    for each in (text, new):
        left = document.remove(document.remove(each, "jlab+cal1+gpu"), "jlab+cal1")
        assert left == text[text.index("Host cal1\n") :]


def test_what_the_laptop_keeps(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "config"), is_default=True)
    Path(paths.directory).mkdir()
    for name in ("seen", "known_hosts"):
        Path(paths.directory, name).write_bytes(SAMPLES.joinpath(name).read_bytes())
    assert completion.seen(paths) == {"cal1": ["gpu"]}
    pinned = keys.pinned(Path(paths.known_hosts).read_text(), target.parse("cal1+gpu"))
    assert pinned == answer("setup")["host_key"]


def test_what_the_cluster_keeps(tmp_path: Path) -> None:
    kept = Home(tmp_path)
    host = os.uname().nodename
    for place, sample in ((f"sites/{host}", "sites"), (f"queue/{host}-slurm", "queue")):
        tmp_path.joinpath(place).parent.mkdir()
        tmp_path.joinpath(place).write_bytes(SAMPLES.joinpath(sample).read_bytes())
    site = home.remembered_site(kept)
    assert site is not None
    assert site[:2] == ("slurm", "cal1")
    queue = Queue(slurm, user="alice", directory=tmp_path / "queue")
    queue.look(max_age=3600)
    ((job_id, state),) = [(each.job_id, each.state) for each in queue.jobs]
    assert (job_id, state, queue.problem) == ("19", State.RUNNING, "")


@pytest.fixture
def ready() -> Iterator[Loopback]:
    """A login node with this version's cluster side."""
    with Loopback() as made:
        subprocess.run(made.node("setup"), env=made.env, check=True, stdout=subprocess.DEVNULL)
        yield made


def test_every_command_line_that_the_laptop_sends(ready: Loopback) -> None:
    for line in SAMPLES.joinpath("command-lines").read_text("utf-8").splitlines():
        done = finished(["sh", "-c", line], env=ready.env)
        if " --json" in line and "--authorize" not in line:
            assert done.returncode in (0, 1), done.stderr
            assert json.loads(done.stdout)["format"] == 1
        else:  # there is no session, nor a key on standard input
            expected = "no session" if "connect" in line else "not one line of an ssh public key"
            assert expected in done.stderr
            assert (done.returncode, done.stdout) == (69 if "connect" in line else 1, "")
