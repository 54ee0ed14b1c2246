"""Ports of this computer: which leads where, and who has one that is taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import NOBODY

from jlab_proxy.doctor import laptop
from jlab_proxy.errors import JlabError, PortTakenError
from jlab_proxy.forwarding import local_ports, port_owners, ways
from jlab_proxy.paths import Paths
from jlab_proxy.target import Target

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = """\
# >>> {host} >>>
Host {host}
Match originalhost {host} exec "true"
    LocalForward {port} /tmp/jlab-alice/{name}.sock
# <<< {host} <<<
"""


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def paths_with(directory: Path, **blocks: int) -> Paths:
    """A config file with a block of that port for each name; "_" stands for +."""
    text = ""
    for name, port in blocks.items():
        alias, _, session = name.partition("_")
        host = f"jlab+{alias}" + (f"+{session}" if session else "")
        text += BLOCK.format(host=host, port=port, name=session or "lab")
    (directory / "config").write_text(text)
    return Paths(str(directory / "config"), is_default=False)


def test_forward_for_a_target_with_a_block_is_that_of_the_block(tmp_path: Path, free: int) -> None:
    made = paths_with(tmp_path, cal1=free)
    assert local_ports.forward_for(made, Target("cal1")) == local_ports.LocalForward(
        free, "lab", "/tmp/jlab-alice"
    )


def test_forward_for_a_session_without_a_block_borrows_from_its_cluster(
    tmp_path: Path, free: int
) -> None:
    forward = local_ports.forward_for(paths_with(tmp_path, cal1=free), Target("cal1", "gpu"))
    assert forward.port != free
    assert (forward.name, forward.directory) == ("gpu", "/tmp/jlab-alice")


@pytest.mark.parametrize("target", [Target("other"), Target("other", "gpu")], ids=["one", "two"])
def test_forward_for_a_cluster_that_is_not_set_up_raises(
    tmp_path: Path, free: int, target: Target
) -> None:
    with pytest.raises(JlabError, match=r"leads to other.*setup other$"):
        local_ports.forward_for(paths_with(tmp_path, cal1=free), target)


def test_forward_for_exposed_names_has_a_port_for_each(tmp_path: Path, free: int) -> None:
    made = paths_with(tmp_path, cal1=free)
    forward = local_ports.forward_for(made, Target("cal1", "gpu"), ["dask", "tb"])
    assert list(forward.exposed) == ["dask", "tb"]
    assert len({free, forward.port, *forward.exposed.values()}) == 4


def test_choose_at_a_port_of_our_own_program_names_the_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        made = paths_with(tmp_path, cal1=port)
        with pytest.raises(
            PortTakenError, match=rf"port {port} is taken by process {os.getpid()} "
        ):
            ways.choose(made, Target("cal1"), local_ports.forward_for(made, Target("cal1")))
        assert [each.pid for each in port_owners.listeners_on(port).processes] == [os.getpid()]
    assert port_owners.listeners_on(port).by_nobody


OTHERS = """\
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.root("only root can become another user")
def test_choose_at_a_port_of_another_user_says_so(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHERS, str(NOBODY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        made = paths_with(tmp_path, cal1=port)
        with pytest.raises(
            JlabError, match=rf"port {port} is taken by a program of another user: "
        ):
            ways.choose(made, Target("cal1"), local_ports.forward_for(made, Target("cal1")))
        check = laptop.local_port(made, Target("cal1"))
        assert check.found == f"{port} is taken by a program of another user"
        process.communicate()


def test_forward_only_argv_tells_tunnels_from_shells() -> None:
    read = "import sys; print('there', flush=True); sys.stdin.read()"
    started = []
    for words in (["-N", "jlab+cal1"], ["-fNT", "jlab+cal1"], ["jlab+cal1"], ["-N", "cal1"]):
        child = subprocess.Popen(
            ["ssh", "-c", read, *words],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        started.append(child)
    try:
        found = [
            bool(port_owners.forward_only_argv(psutil.Process(child.pid))) for child in started
        ]
        assert found == [True, True, False, False]
        assert {child.pid for child in started} <= {
            each.pid for each in port_owners.own_processes()
        }
    finally:
        for child in started:
            child.communicate()
    assert port_owners.forward_only_argv(psutil.Process()) == []
