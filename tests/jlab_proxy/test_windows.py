"""What is different on Windows, as far as it can be seen elsewhere."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from loopback import MEASURED

from jlab_proxy import target
from jlab_proxy.cluster import client
from jlab_proxy.commands import setup
from jlab_proxy.errors import USAGE, JlabError
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import document, launcher
from jlab_proxy.ssh_config.block import _UNSAFE_NAMES

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = document.Block(
    target=target.parse("gricad"),
    user="alice",
    port=8889,
    socket="/tmp/jlab-alice/lab.sock",
    proxy=[r"C:\jlab\Scripts\python.exe", "-m", "jlab_proxy"],
    paths=Paths("C:/Users/alice/.ssh/config", is_default=True),
    share=False,
    mux=False,
    platform="nt",
)
COMMAND = "C:/jlab/Scripts/python.exe -m jlab_proxy connect %h"

# Becomes ssh as `jlab-proxy connect` does on Windows.
CONNECT = """
import sys
from jlab_proxy import connect
connect.main(["jlab+gricad", "--no-share"], platform="nt")
"""


def test_block_on_windows_needs_no_bash() -> None:
    text = document.render(BLOCK)
    assert text.splitlines()[1:6] == [
        "Host jlab+gricad",
        f"    ProxyCommand {COMMAND} --port 8889 --no-share",
        "    LocalForward 127.0.0.1:8889 /tmp/jlab-alice/lab.sock",
        f"Host jlab+gricad jlab+gricad+* {_UNSAFE_NAMES}",
        f"    ProxyCommand {COMMAND} --no-share",
    ]
    assert "bash" not in text
    assert "Control" not in text
    assert document.ports(text) == {"jlab+gricad": 8889}
    assert document.remove(text + "Host x\n", "jlab+gricad") == "Host x\n"


def test_real_ssh_reads_the_block(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(document.render(BLOCK))

    def settings(host: str) -> list[str]:
        command = ["ssh", "-G", "-F", str(config), host]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert "localforward [127.0.0.1]:8889 /tmp/jlab-alice/lab.sock" in settings("jlab+gricad")
    assert not any("localforward" in line for line in settings("jlab+gricad+gpu"))
    assert any("--port 8889" in line for line in settings("jlab+gricad"))
    assert not any("--port" in line for line in settings("jlab+gricad+gpu"))


@pytest.mark.parametrize("directory", [r"C:\Users\Jane Doe", r"C:\it's", 'C:\\"x"', "C:\\a\tb"])
def test_block_on_windows_refuses_a_path_with_a_space(directory: str) -> None:
    block = replace(BLOCK, proxy=[rf"{directory}\python.exe", "-m", "jlab_proxy"])
    with pytest.raises(JlabError, match=r"cannot use the path .*: install jlab-remote where"):
        document.render(block)


def test_connections_on_windows_are_not_shared() -> None:
    assert client.may_share({}, platform="posix")
    assert not client.may_share({}, platform="nt")
    assert not client.may_share({"controlpath": "~/.ssh/%C"}, platform="posix")
    with pytest.raises(JlabError, match="leave out --mux") as caught:
        document.render(replace(BLOCK, mux=True))
    assert caught.value.exit_code == USAGE


def test_own_command_on_windows_is_python() -> None:
    own_command = setup.own_command("nt")
    assert own_command == [sys.executable, "-m", "jlab_proxy"]
    assert launcher.words(BLOCK.paths, own_command, platform="nt") == own_command


def test_connect_on_windows_starts_ssh_as_a_child(tmp_path: Path) -> None:
    stub = tmp_path / "ssh"
    stub.write_text("#!/bin/sh\necho $PPID\ncat\nexit 7\n")
    stub.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", CONNECT],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **MEASURED},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate("SSH-2.0-laptop\n", timeout=60)
    assert (said, process.returncode) == (f"{process.pid}\nSSH-2.0-laptop\n", 7)


def test_connect_on_windows_without_ssh_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONNECT],
        env={"PATH": str(tmp_path), **MEASURED},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "JlabError: cannot start ssh: No such file or directory" in done.stderr
