"""To which session's sockets `open` leads the ssh that it has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from jlab_proxy.cluster.responses import Standing, parse_session
from jlab_proxy.commands import open_tunnel
from jlab_proxy.forwarding.local_ports import Lead
from jlab_proxy.target import Target
from jlab_proxy.ui.terminal import Screen

if TYPE_CHECKING:
    from jlab_proxy.cluster.client import Login
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

    def ask(self, verb: str, *_: str, **__: object) -> dict[str, Any]:
        assert verb == "url"
        url = f"http://127.0.0.1:{PORT}/lab?token={self.newest:064}"
        return {"url": url, "session": described(self.newest)}


class Recorder:
    """A way that says where it was led, and what was told there."""

    is_ours = True
    port = PORT

    def __init__(self) -> None:
        self.told: list[str] = []

    def lead(self, directory: str) -> bool:
        self.told.append(directory)
        return True

    def answers(self, address: str) -> int:
        self.told.append(address[-1])
        return 200


def test_an_ssh_is_led_to_no_session_but_the_one_it_was_started_for() -> None:
    """On its node the path of another session's sockets may be a stranger's."""
    cluster, recorder = Cluster(), Recorder()
    wish = open_tunnel.Wish(Target("cal1"), Lead(PORT, "lab", "/tmp/jlab-alice"), browser=False)
    made, way = open_tunnel.Tunnel(cast("Login", cluster), wish, Screen()), cast("Way", recorder)
    made._expect(Standing("running", "", parse_session(described(1))))
    cluster.newest = 2
    with pytest.raises(open_tunnel._Another):
        made._behind(way)
    assert recorder.told == []
    session, _ = made._behind(way)  # of the ssh that was started since
    assert session.node == "n2"
    assert recorder.told == ["/tmp/2", "2"]
    made._expect(Standing("unknown", ""))
    made._behind(way)
    assert recorder.told == ["/tmp/2", "2"] * 2
