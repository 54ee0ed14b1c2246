"""Whatever a cluster sends, and for how long: this computer's memory and patience have bounds."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.cluster import bounded_output, client
from jlab_proxy.cluster.client import ClusterClient
from jlab_proxy.doctor import login_node
from jlab_proxy.errors import JlabError, NoConnectionError
from jlab_proxy.forwarding.ssh_forward import ForwardingSsh
from jlab_proxy.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

# The most memory since the program began: that of the process before it does not count.
SHOW = """\
import re, subprocess, sys
from jlab_proxy.ui import terminal as screen
process = subprocess.Popen(["head", "-c", "300000000", "/dev/zero"], stdout=subprocess.PIPE)
screen.print_stream(process.stdout)
most = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())
sys.exit(int(most[1]) > 100_000)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The program that is called ssh; what it says is written by the test."""
    made = tmp_path / "ssh"
    made.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with Path("/dev/null").open(encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        yield made


def says(cluster: Path, script: str) -> ClusterClient:
    cluster.write_text(f"#!/bin/sh\n{script}\n")
    return ClusterClient(
        Paths(str(cluster.with_name("config")), is_default=False), "demo", share=False
    )


def grown(before: int) -> int:
    """Kilobytes more than then, at the most that there ever were."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


@pytest.mark.parametrize("script", ["exec yes", "exec cat /dev/zero", "yes & yes"])
@pytest.mark.parametrize("batch", [True, False])
def test_call_with_an_endless_answer_raises_in_bounded_memory(
    cluster: Path, script: str, *, batch: bool
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(JlabError, match=r"^demo sent more than 4 MB"):
        says(cluster, script).call("ls", batch=batch)
    assert grown(before) < 60_000


def test_call_with_endless_messages_keeps_their_beginning(cluster: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there = says(cluster, "head -c 200000000 /dev/zero >&2; echo last words >&2; exit 255")
    with pytest.raises(NoConnectionError) as caught:
        there.call("ls", batch=True)
    assert len(str(caught.value)) < 2 * bounded_output.MAX_MESSAGES
    assert grown(before) < 60_000


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & sleep 60", "exec >&-; sleep 60"])
def test_call_without_an_answer_ends_in_time(
    cluster: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody sits at a terminal, whatever is asked."""
    monkeypatch.setattr(client, "_UNATTENDED_TIMEOUT", 1.0)
    began = time.monotonic()
    with pytest.raises(NoConnectionError, match="has not answered for 1 s"):
        says(cluster, script).call("ls")
    assert time.monotonic() - began < 20


def test_call_reads_the_answer_though_the_pipes_stay_open(cluster: Path) -> None:
    """As ssh before 8.5 does, when it stays as a master."""
    there = says(cluster, 'sleep 30 &\necho \'{"format": 1, "text": "x"}\'')
    began = time.monotonic()
    assert there.call("ls", batch=True)["text"] == "x"
    assert time.monotonic() - began < 15


def test_doctor_with_an_endless_answer_fails(cluster: Path) -> None:
    there = says(cluster, "exec yes")
    check, answer = login_node.cluster_side(there)
    assert (check.state, answer) == ("failure", {})


def test_print_stream_of_an_endless_log_takes_no_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW], stdout=subprocess.DEVNULL, timeout=120, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("script", ["exec yes >&2", "exec cat /dev/zero >&2"])
def test_forwarding_ssh_with_endless_messages_takes_no_memory(cluster: Path, script: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    there = says(cluster, script)
    with ForwardingSsh(there.paths, "jlab+demo", []) as forward:
        time.sleep(1)
        lines = forward.lines()
    assert len(lines) <= 1000
    assert grown(before) < 60_000
