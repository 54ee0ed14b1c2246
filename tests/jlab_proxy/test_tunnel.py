"""To which session's sockets `open` leads the ssh that it has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from jlab_proxy.cluster.responses import Standing, parse_session
from jlab_proxy.commands.reconnect import Backoff, Failures
from jlab_proxy.commands.session_check import SessionCheck, WrongSession
from jlab_proxy.forwarding.local_ports import LocalForward
from jlab_proxy.target import Target

if TYPE_CHECKING:
    from jlab_proxy.cluster.client import ClusterClient
    from jlab_proxy.forwarding.ways import Way

PORT = 8888


def described(number: int) -> dict[str, Any]:
    return {
        "id": f"slurm-{number}-lab",
        "name": "lab",
        "node": f"n{number}",
        "scheduler": "slurm",
        "job_id": str(number),
        "socket_dir": f"/tmp/{number}",
    }


class Cluster:
    """Says which session is the newest."""

    share = True
    newest = 1

    def call(self, verb: str, *_: str, **__: object) -> dict[str, Any]:
        assert verb == "url"
        url = f"http://127.0.0.1:{PORT}/lab?token={self.newest:064}"
        return {"url": url, "session": described(self.newest)}


class Recorder:
    """A way that says where it was led, and what was told there."""

    is_ours = True
    port = PORT

    def __init__(self) -> None:
        self.told: list[str] = []

    def forward_to(self, directory: str) -> bool:
        self.told.append(directory)
        return True

    def login_status(self, address: str) -> int:
        self.told.append(address[-1])
        return 200


def test_an_ssh_is_led_to_no_session_but_the_one_it_was_started_for() -> None:
    """On its node the path of another session's sockets may be a stranger's."""
    cluster, recorder = Cluster(), Recorder()
    check, way = SessionCheck(cast("ClusterClient", cluster), Target("cal1")), cast("Way", recorder)
    forward = LocalForward(PORT, "lab", "/tmp/jlab-alice")
    check.expect(Standing("running", "", parse_session(described(1))))
    cluster.newest = 2
    with pytest.raises(WrongSession):
        check.verify(way, forward)
    assert recorder.told == []
    session, _ = check.verify(way, forward)  # of the ssh that was started since
    assert session.node == "n2"
    assert recorder.told == ["/tmp/2", "2"]
    check.expect(Standing("unknown", ""))
    check.verify(way, forward)
    assert recorder.told == ["/tmp/2", "2"] * 2


def test_backoff_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(2.0, 15.0)
    assert [backoff.next() for _ in range(6)] == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    backoff.reset()
    assert backoff.next() == 2.0


def test_failures_are_final_when_too_many_before_any_session() -> None:
    failures = Failures()
    for _ in range(5):
        assert not failures.are_final(is_new=True)
        failures.add(lasted=1.0)
    assert failures.are_final(is_new=True)
    assert not failures.are_final(is_new=False)


def test_failures_count_anew_after_an_attempt_that_lasted() -> None:
    failures = Failures()
    for lasted in (1.0, 1.0):
        failures.add(lasted=lasted)
        failures.pause()
    failures.add(lasted=61.0)
    assert (failures.count, failures.pause()) == (1, 2.0)


@pytest.mark.parametrize(
    ("words", "final"),
    [("Host key verification failed.", True), ("Connection refused", False)],
    ids=["host key", "refused"],
)
def test_failures_are_final_by_what_ssh_says(words: str, *, final: bool) -> None:
    failures = Failures()
    failures.add(lasted=1.0)
    failures.last_words = words
    assert failures.are_final(is_new=False) is final
