"""The command line for the login node: as ssh reads it here, and as real login shells do there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

from jlab_proxy import ssh
from jlab_proxy.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed")
    )
    for name in ("bash", "dash", "zsh", "ksh", "tcsh", "fish")
]
DEFAULT = Paths("/home/alice/.ssh/config", is_default=True)
OTHER = Paths("/tmp/x/config", is_default=False)

SCRIPT = """\
printf '<%s>' "$PWD" "$@"
cat
exit 7
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory of few letters, where sockets can be made, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as made:
        yield Path(made)


def set_up(directory: Path) -> Paths:
    """A laptop whose ~/.ssh that is, after `setup`."""
    (directory / "jlab").mkdir(parents=True)
    return Paths(str(directory / "config"), is_default=True)


def shared(words: list[str]) -> bool:
    """Whether that command keeps its connection for later ones."""
    return any("ControlPath" in word for word in words)


def as_ssh_reads(words: list[str]) -> dict[str, str]:
    """What real ssh makes of the command, without a config file."""
    done = subprocess.run(
        [words[0], "-G", "-F", "none", *words[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def in_shell(
    shell: str, home: Path, remote: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run it as sshd would, for a user with that login shell."""
    return subprocess.run(
        [shell, "-c", remote],
        env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        cwd="/",
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_ends_in_alias_and_remote_command() -> None:
    words = ssh.command(DEFAULT, "gricad", "exec sh", share=False)
    assert words[0] == "ssh"
    assert words[-3:] == ["--", "gricad", "exec sh"]
    assert not shared(words)


@pytest.mark.parametrize("share", [True, False])
def test_only_another_config_file_is_named(*, share: bool) -> None:
    assert "-F" not in ssh.command(DEFAULT, "a", "x", share=share)
    words = ssh.command(OTHER, "a", "x", share=share)
    assert words[words.index("-F") + 1] == "/tmp/x/config"
    assert words.index("-F") < words.index("--")


def test_real_ssh_reads_plain_settings(short: Path) -> None:
    found = as_ssh_reads(ssh.command(set_up(short), "gricad", "exec sh", share=True))
    expected = {
        "hostname": "gricad",
        "requesttty": "false",
        "clearallforwardings": "yes",
        "forwardagent": "no",
        "forwardx11": "no",
        "permitlocalcommand": "no",
        "controlmaster": "auto",
        "controlpersist": "120",
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["alice", "Alice B", "100%h", "é", "it's", "#"])
def test_real_ssh_reads_the_control_path(short: Path, name: str) -> None:
    paths = set_up(short / name)
    found = as_ssh_reads(ssh.command(paths, "gricad", "x", share=True))
    path, _, token = found["controlpath"].rpartition("-")
    assert path == f"{paths.directory}/login"
    assert len(token) == 40


@pytest.mark.parametrize(
    ("letter", "spare", "expected"),
    [
        pytest.param("x", 0, True, id="as long as may be"),
        pytest.param("x", -1, False, id="one too long"),
        pytest.param("é", 0, True, id="as many bytes as may be"),
        pytest.param("é", -2, False, id="too many bytes"),
    ],
)
def test_connection_is_shared_where_a_socket_path_has_room(
    short: Path, letter: str, spare: int, *, expected: bool
) -> None:
    # What ssh makes before it renames it; an address has 108 bytes, the last of them 0.
    rest = f"/jlab/login-{'0' * 40}.{'0' * 16}"
    room = 107 - len(f"{short}/{rest}") - spare
    name = letter * (room // len(letter.encode()))
    paths = set_up(short / name)
    assert len(f"{short}/{name}{rest}".encode()) in (107 - spare, 106 - spare)
    assert shared(ssh.command(paths, "gricad", "x", share=True)) is expected


def test_a_socket_path_has_less_room_on_macos() -> None:
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as made:
        room = 103 - len(f"{made}//jlab/login-{'0' * 40}.{'0' * 16}")
        fits, too_long = (set_up(Path(made, "x" * length)) for length in (room, room + 1))
        assert fits.control_path("darwin")
        assert not too_long.control_path("darwin")
        assert too_long.control_path("linux")


def test_connection_is_not_shared_before_setup_has_made_the_directory(short: Path) -> None:
    paths = Paths(str(short / "config"), is_default=True)
    assert not shared(ssh.command(paths, "gricad", "x", share=True))
    assert shared(ssh.command(set_up(short), "gricad", "x", share=True))


def test_remote_command_has_no_character_that_shells_read_differently() -> None:
    remote = ssh.remote_command("connect", ["--session=gpu"], alias="a.b_c-0")
    assert remote.startswith("exec sh -c '")
    assert remote.endswith("' jlab --session=gpu")
    assert remote.count("'") == 2
    assert not set(remote) & set("\n\r\\!")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--session=gpu", "--port=8888", "--terminal"],
        ["url", "--port=1", "a.b_c-d", "--json"],
        ["stop", "pbs-12[3]-lab", "--after=pbs-12[]-lab"],
    ],
    ids=["none", "options", "words", "brackets"],
)
def test_login_shell_passes_words_and_bytes(
    tmp_path: Path, shell: str, arguments: list[str]
) -> None:
    (tmp_path / ".jlab").mkdir()
    script = tmp_path / ".jlab/connect"
    script.write_text(SCRIPT)
    script.chmod(0o600)
    done = in_shell(
        shell, tmp_path, ssh.remote_command("connect", arguments, alias="gricad"), "SSH-2.0\n"
    )
    words = "".join(f"<{word}>" for word in [str(tmp_path), *arguments])
    assert (done.stdout, done.stderr, done.returncode) == (f"{words}SSH-2.0\n", "", 7)


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shell_says_what_is_missing(tmp_path: Path, shell: str) -> None:
    done = in_shell(shell, tmp_path, ssh.remote_command("connect", ["--x"], alias="gricad"))
    assert (done.stdout, done.returncode) == ("", 69)
    assert done.stderr == (
        "jlab-node is not set up on gricad: log in there and type "
        "pip install jlab-remote && jlab-node setup\n"
    )
    assert ssh.refusal(done.stderr.rstrip(), alias="gricad") == (
        "jlab-node is not set up on gricad",
        "log in there and type pip install jlab-remote && jlab-node setup",
    )
    assert ssh.refusal("cd: no such directory: /home/x", alias="gricad") is None


@pytest.mark.root("only root can give a file to another user")
@pytest.mark.parametrize("planted", [".jlab", ".jlab/connect"])
@pytest.mark.parametrize("shell", SHELLS)
def test_login_shell_runs_nothing_of_another_users(
    tmp_path: Path, shell: str, planted: str
) -> None:
    """As where others can write a home."""
    (tmp_path / ".jlab").mkdir()
    (tmp_path / ".jlab/connect").write_text(SCRIPT)
    remote = ssh.remote_command("connect", [], alias="gricad")
    assert in_shell(shell, tmp_path, remote).returncode == 7
    os.chown(tmp_path / planted, NOBODY, NOBODY)
    done = in_shell(shell, tmp_path, remote)
    assert (done.stdout, done.returncode) == ("", 69)
    assert done.stderr == (
        "~/.jlab on gricad belongs to another user: look at what is in it, and remove it\n"
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_login_shell_without_a_home_ends_with_69(tmp_path: Path, shell: str) -> None:
    done = in_shell(shell, tmp_path / "gone", ssh.remote_command("connect", [], alias="gricad"))
    assert (done.stdout, done.returncode) == ("", 69)
    assert done.stderr
