"""How jlab-proxy ends when something is in the way, or it was typed wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jlab_node.version


def proxy(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jlab_proxy", *words],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_a_full_disk_at_stdout_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "jlab_proxy", "completion", "bash"],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "jlab-proxy: input or output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["opne", "demo"], "No such command 'opne'"),
        (["setup", "demo", "--port", "70000"], "70000 is not in the range"),
        (["open", "demo", "--submit", "a\nb"], "--submit takes one command line"),
        (["doctor", "demo+gpu"], "doctor looks at all of demo: leave out +gpu"),
        (["open", "demo", "--with", "A B"], "'A B' cannot be a session's name"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_wrong_arguments_end_with_a_sentence_and_exit_code(words: list[str], said: str) -> None:
    done = proxy(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_ssh_a_command_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host demo\n    HostName 127.0.0.1\n")
    done = proxy("setup", "-F", str(config), "demo", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "jlab-proxy: cannot start ssh: No such file or directory\n"
    done = proxy("doctor", "-F", str(config), "demo", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "ssh cannot be started: No such file or directory" in done.stdout
    assert "Traceback" not in done.stderr


NAMELESS = """\
import os
from jlab_proxy import paths
os.setuid(54321)
print(paths.locate(None).config)
"""


@pytest.mark.root("only root can become another user")
def test_locate_for_a_user_without_a_name_uses_home() -> None:
    """As in some containers: there is no home but $HOME."""
    done = subprocess.run(
        [sys.executable, "-c", NAMELESS],
        env={**os.environ, "HOME": "/home/alice"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "/home/alice/.ssh/config\n"


def test_completion_of_a_broken_config_is_empty(tmp_path: Path) -> None:
    """The command itself does, once it is typed."""
    config = tmp_path / "config"
    config.write_text("# >>> jlab+demo >>>\nHost x\n")
    typed = {"COMP_WORDS": f"jlab-proxy open -F {config} d", "COMP_CWORD": "4"}
    done = proxy(_JLAB_PROXY_COMPLETE="bash_complete", **typed)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_version_is_that_of_both_packages() -> None:
    done = proxy("--version")
    assert (done.returncode, done.stdout) == (
        0,
        f"jlab-proxy, version {jlab_node.version.VERSION}\n",
    )


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--version"], {}),
        ([], {"COMP_WORDS": "jlab-proxy o", "COMP_CWORD": "1"}),
        ([], {"COMP_WORDS": "jlab-proxy open x", "COMP_CWORD": "2"}),
    ],
    ids=["version", "of a command", "of an alias"],
)
def test_version_and_completion_import_little_beside_click(
    tmp_path: Path, words: list[str], env: dict[str, str]
) -> None:
    """So they take at most 1.5 times as long as `python -c 'import click'`."""
    if env:
        env["_JLAB_PROXY_COMPLETE"] = "bash_complete"
    program = (
        "import sys, click; before = {*sys.modules}; sys.argv[0] = 'jlab-proxy'\n"
        "from jlab_proxy.__main__ import main\n"
        "try: main()\n"
        "finally: print(*{*sys.modules} - before, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **env, "HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    imported = {*done.stderr.split()}
    assert "jlab_proxy.cli" in imported
    dear = {"asyncio", "email", "importlib.metadata", "psutil", "shutil", "socket", "subprocess"}
    assert imported & {*dear, "tempfile", "threading", "filelock", "portpicker"} == set()
