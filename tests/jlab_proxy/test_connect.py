"""The ProxyCommand as ssh starts it: a real process, and a program called ssh that tells all."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jlab_proxy
from jlab_proxy import connect, paths, port_check, ssh

if TYPE_CHECKING:
    from collections.abc import Sequence

# `import time:      self [us] | cumulative | the module`, the line of -X importtime.
IMPORTED = re.compile(r"^import time: +[0-9]+ \| +[0-9]+ \| +(\S+)$", re.MULTILINE)

STUB = """\
#!/bin/sh
printf '%s\\n' $$ "$@"
cat
exit 7
"""


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """Where `ssh` is a program that prints its pid, its words and its stdin."""
    stub = tmp_path / "bin/ssh"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    return stub.parent


def run(
    arguments: Sequence[str], *, path: Path, stdin: str = ""
) -> tuple[int, subprocess.CompletedProcess[str]]:
    """Run `jlab-proxy connect`: its pid and how it ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "jlab_proxy", "connect", *arguments],
        env={**os.environ, "PATH": f"{path}:/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        stdout, stderr = process.communicate(stdin)
    return process.pid, subprocess.CompletedProcess([], process.returncode, stdout, stderr)


def on_terminal(arguments: Sequence[str], *, path: Path) -> tuple[list[str], str]:
    """Run it with a terminal as stderr: the words for the cluster, and what the terminal shows."""
    ours, its = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jlab_proxy", "connect", *arguments],
            env={**os.environ, "PATH": f"{path}:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=its,
            text=True,
            check=False,
        )
        os.write(its, b"END")
        shown = b""
        while not shown.endswith(b"END"):
            shown += os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(its)
    words = shlex.split(done.stdout.splitlines()[-1])
    return words[words.index("jlab") + 1 :], shown[:-3].decode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jlab+gricad"], []),
        (["jlab+gricad", "--port", "8888"], []),  # no terminal to name it on
        (["jlab+gricad+gpu"], ["--session=gpu"]),
        (["--port", "1", "jlab+gricad+gpu", "--no-share"], ["--session=gpu"]),
    ],
    ids=" ".join,
)
def test_becomes_ssh_to_the_alias(
    bin_directory: Path, arguments: list[str], words: list[str]
) -> None:
    pid, done = run(arguments, path=bin_directory, stdin="SSH-2.0-laptop\n")
    expected = ssh.command(
        paths.locate(None),
        "gricad",
        ssh.remote_command("connect", words, alias="gricad"),
        share="--no-share" not in arguments,
    )
    told = [str(pid), *expected[1:], "SSH-2.0-laptop"]
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (told, "", 7)


@pytest.mark.parametrize(
    ("started_by", "words"),
    [
        pytest.param("1", ["--no-submit"], id="doctor, or an open of 0.1.0"),
        pytest.param(ssh.TAGGED, ["--no-submit", "--tagged"], id="open"),
    ],
)
def test_open_alone_asks_for_tags(
    bin_directory: Path, monkeypatch: pytest.MonkeyPatch, started_by: str, words: list[str]
) -> None:
    monkeypatch.setenv(ssh.OPEN, started_by)
    _, done = run(["jlab+gricad"], path=bin_directory)
    asked = shlex.split(done.stdout.splitlines()[-1])
    assert asked[asked.index("jlab") + 1 :] == words


def test_another_config_file_is_named_in_full(bin_directory: Path) -> None:
    config = str(bin_directory / "two words")
    _, done = run(["jlab+gricad", "-F", config], path=bin_directory)
    words = done.stdout.splitlines()
    assert words[words.index("-F") + 1] == config
    relative = os.path.relpath(config)
    assert (
        run(["jlab+gricad", "-F", relative], path=bin_directory)[1].stdout.splitlines()[1:]
        == (words[1:])
    )


def test_terminal_and_free_port_are_named_to_the_cluster(bin_directory: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1])
    words, shown = on_terminal(["jlab+gricad+gpu", "--port", port], path=bin_directory)
    assert (words, shown) == (["--session=gpu", "--columns=80", f"--port={port}"], "")


def test_port_that_is_taken_is_told_and_not_named(bin_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        words, shown = on_terminal(["jlab+gricad", "--port", port], path=bin_directory)
    assert (words, shown) == (["--columns=80", f"--taken={port}"], "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param([], "usage: ", id="nothing"),
        pytest.param(["jlab+a", "jlab+b"], "usage: ", id="two hosts"),
        pytest.param(["jlab+a", "--nope"], "usage: ", id="unknown option"),
        pytest.param(["jlab+a", "--port"], "usage: ", id="no port"),
        pytest.param(["jlab+a", "--port", ""], "usage: ", id="empty port"),
        pytest.param(["jlab+a", "--port", "0"], "usage: ", id="port 0"),
        pytest.param(["jlab+a", "--port", "65536"], "usage: ", id="port 65536"),
        pytest.param(["jlab+a", "--port", "8888x"], "usage: ", id="no number"),
        pytest.param(["jlab+a", "--port", "٨٨"], "usage: ", id="other digits"),
        pytest.param(["jlab+a", "--port=8888"], "usage: ", id="port in one word"),
        pytest.param(["jlab+a", "-F"], "usage: ", id="no file"),
        pytest.param(["jlab+a", "-F", ""], "usage: ", id="empty file"),
        pytest.param(["--port", "8888"], "usage: ", id="no host"),
        pytest.param([""], "is not of the form jlab+ALIAS", id="empty host"),
        pytest.param(["gricad"], "'gricad' is not of the form jlab+ALIAS", id="another host"),
        pytest.param(["-oProxyCommand=x"], "is not of the form jlab+ALIAS", id="an option"),
        pytest.param(["jlab+"], "'' cannot be an alias", id="empty alias"),
        pytest.param(["jlab+-oProxyCommand=x"], "cannot be an alias", id="option as alias"),
        pytest.param(["jlab+a b;\x1b[2J\n"], r"'a b;\x1b[2J\n' cannot be", id="hostile alias"),
        pytest.param(["jlab+a+$(reboot)"], "cannot be a session's name", id="hostile session"),
    ],
)
def test_bad_arguments_give_one_sentence(
    bin_directory: Path, arguments: list[str], says: str
) -> None:
    _, done = run(arguments, path=bin_directory)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith("jlab-proxy: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_connect_without_ssh_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jlab_proxy", "connect", "jlab+gricad"],
        env={**os.environ, "PATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == "jlab-proxy: cannot start ssh: No such file or directory\n"


def test_fast_path_imports_next_to_nothing(bin_directory: Path) -> None:
    root = str(Path(jlab_proxy.__file__).parent.parent)
    program = (
        f"import sys; sys.path.append({root!r}); sys.argv[0] = 'jlab-proxy'; "
        "from jlab_proxy.__main__ import main; main()"
    )
    # -I and -S: nothing but the standard library and this project can be found at all.
    arguments = ["connect", "jlab+gricad+gpu", "--port", "8888", "--no-share"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-c", program, *arguments],
        env={**os.environ, "PATH": f"{bin_directory}:/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    imported = set(IMPORTED.findall(done.stderr))
    assert "jlab_proxy.connect" in imported
    assert {name for name in imported if name.startswith("jlab")} == {
        "jlab_proxy",
        "jlab_proxy.__main__",
        "jlab_proxy.connect",
        "jlab_proxy.errors",
        "jlab_proxy.paths",
        "jlab_proxy.ssh",
        "jlab_proxy.target",
    }
    heavy = {"argparse", "click", "collections", "dataclasses", "enum", "functools", "json"}
    heavy |= {"pathlib", "re", "shlex", "socket", "subprocess", "tempfile", "typing"}
    assert imported & heavy == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("1", True), ("65535", True), ("0", False), ("65536", False), ("", False), ("-1", False)],
        *[(text, False) for text in ("+1", " 1", "1\n", "1.0", "²", "٨", "999999")],
    ],
    ids=ascii,
)
def test_is_port_takes_1_to_65535(text: str, *, expected: bool) -> None:
    assert connect.is_port(text) is expected


def test_is_free_is_false_while_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        assert not port_check.is_free(port)
    assert port_check.is_free(port)
