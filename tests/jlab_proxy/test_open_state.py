"""Who holds a local port as `open`: told by the kernel, whatever is said."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from loopback import free_port

from jlab_proxy import open_state, target
from jlab_proxy.commands import announcement
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import keys

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_process_that_answers_is_named_not_the_one_that_is_said(tmp_path: Path) -> None:
    """In a container its number is another one; and `close` ends the process with the number."""
    paths = Paths(str(tmp_path / "config"), is_default=False)
    keys.make_directory(paths)
    with open_state.StateServer(paths, 8888, lambda: {"pid": 1, "host": "jlab+demo"}):
        assert open_state.query(paths, 8888) == {"pid": os.getpid(), "host": "jlab+demo"}
        assert list(open_state.query_all(paths)) == [
            (8888, {"pid": os.getpid(), "host": "jlab+demo"})
        ]
    assert open_state.query(paths, 8888) == {}


def test_another_open_is_joined_only_where_its_port_is_ours(tmp_path: Path) -> None:
    """That of a container that has this home holds a port there, which anybody may have here."""
    keys.make_directory(Paths(str(tmp_path / "config"), is_default=False))
    paths, demo, port = (
        Paths(str(tmp_path / "config"), is_default=False),
        target.parse("demo"),
        free_port(),
    )
    said = announcement.describe_open(demo, "runs", "local-1-lab", "http://127.0.0.1/", {})
    with open_state.StateServer(paths, port, lambda: said):
        assert announcement.other_open(paths, demo, port) == {}
        with socket.create_server(("127.0.0.1", port)):
            assert announcement.other_open(paths, demo, port) == {**said, "port": port}
