"""A login node behind a jump host: what several terminals share, and what each says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, finished, free_port, wait_until

from tests.loopback.light import light
from tests.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def behind() -> Iterator[Loopback]:
    """A laptop that is set up for a session that runs, on a cluster behind a jump host."""
    with Loopback() as site:
        site.add_alias("gate", site.port)
        site.config.write_text(f"Host demo\n    ProxyJump gate\n\n{site.config.read_text()}")
        site.wait_for_session(site.start_session(*light(site.root)))
        done = finished(site.proxy("setup", "demo", "--yes", "--port", str(free_port())))
        assert done.returncode == 0, done.stderr
        yield site


@pytest.mark.parametrize("end", ["Ctrl-C", "the window is closed"])
@pytest.mark.parametrize("first", ["ssh", "open", "logs"])
def test_end_of_one_terminal_leaves_the_others_connections(
    behind: Loopback, first: str, end: str
) -> None:
    """The one whose ssh began the connection to the login node that all of them share."""
    finished(behind.proxy("close", "demo"))
    commands = {
        "ssh": behind.ssh("-N", "jlab+demo"),
        "open": behind.proxy("open", "demo", "--no-browser"),
        "logs": behind.proxy("logs", "demo", "-f"),
    }
    shared = behind.laptop / "jlab"
    beginning = Terminal(commands[first])
    wait_until(lambda: [*shared.glob("login-*")], "the shared connection is there")
    other = Terminal(behind.ssh("jlab+demo", "echo ready; exec cat"))
    try:
        other.read_until("ready")
        if end == "Ctrl-C":
            beginning.type("\x03")
            assert beginning.wait() != 0
        else:
            beginning.end()
        other.type("still here\n")
        other.read_until("(?s)still here.*still here")
    finally:
        beginning.end()
        other.end()
