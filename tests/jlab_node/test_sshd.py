"""The configuration of a session's sshd, as the real sshd of this machine reads it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from jlab_node.errors import JlabError
from jlab_node.files import writing
from jlab_node.registry import home
from jlab_node.registry.home import Home
from jlab_node.session.ssh import sshd

if TYPE_CHECKING:
    from pathlib import Path

SSHD = sshd.find(None) or ""
with_sshd = pytest.mark.skipif(not SSHD, reason="no sshd on this machine")

# Values that a job's environment really has, or might; a real sshd must give back each as it is.
KEPT = {
    "plain": "dl",
    "empty": "",
    "spaces": "  two  words ",
    "comment": "a #b",
    "only a comment": "#",
    "dollar": "$HOME ${HOME}",
    "percent": "%h%%u%",
    "single quotes": "it's 'so'",
    "equals": "a=b==",
    "shell": "$(reboot); `x` | y & z > /dev/null *?[a]~!",
    "list": "gpu[01-04],n7",
    "not ASCII": "café 日本",
    "long": "/opt/modules:" * 2000,
}
LEFT_OUT = {
    "double quote": 'a"b',
    "backslash": "a\\b",
    "newline": "a\nHostKey /evil",
    "newline at the end": "a\n",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "escape": "\x1b[2J",
    "delete": "a\x7f",
    "null": "a\x00",
}


def prepared(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A real ~/.jlab in that directory."""
    directory.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(directory))
    return home.ensure_state_dir()


def written(directory: Path, text: str) -> Path:
    """A configuration file, of which the real sshd has approved."""
    path = directory / "sshd_config"
    path.write_text(text, encoding="utf-8")
    sshd.check(SSHD, path)
    return path


def config(
    made: Home,
    user: str = "alice",
    env: dict[str, str] | None = None,
    *,
    terminals: bool = True,
) -> str:
    return sshd.config(
        made.host_key, made.authorized_keys, user=user, env=env or {}, terminals=terminals
    )


def as_read(path: Path) -> list[str]:
    """What sshd itself makes of the configuration: `key value`, keys in lower case."""
    done = subprocess.run(
        [SSHD, "-T", "-f", str(path)], capture_output=True, check=True, encoding="utf-8"
    )
    # OpenSSH 10.3 and later writes them as the manual does.
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    return [f"{key.lower()}{blank}{value}" for key, blank, value in lines]


def test_set_env_is_one_line_in_order() -> None:
    text = sshd.set_env({"SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "0,1", "A": "x y"})
    assert text == 'SetEnv "A=x y" "CUDA_VISIBLE_DEVICES=0,1" "SLURM_JOB_ID=1"\n'


@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT.keys())
def test_set_env_keeps(value: str) -> None:
    assert sshd.set_env({"A": value}) == f'SetEnv "A={value}"\n'


@pytest.mark.parametrize("value", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_set_env_leaves_out_what_cannot_be_written(value: str) -> None:
    assert sshd.set_env({"A": value, "B": "1"}) == 'SetEnv "B=1"\n'


def test_set_env_can_be_written_whatever_bytes_the_environment_has(tmp_path: Path) -> None:
    # What os.environ holds for a value in latin-1.
    text = sshd.set_env({"A": b"caf\xe9".decode("utf-8", "surrogateescape"), "B": "1"})
    assert b'"B=1"' in writing.write_atomically(tmp_path / "sshd_config", text).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "USER",
        "SHELL",
        "PWD",
        "_",
        "TERM",
        "DISPLAY",
        "JUPYTER_TOKEN",
        "SSH_AUTH_SOCK",
        "SSH_CONNECTION",
        "TMUX",
        "TMUX_PANE",
        "XDG_SESSION_ID",
        "DBUS_SESSION_BUS_ADDRESS",
        "BASH_FUNC_module%%",
        "1A",
        "A B",
        "A.B",
        "",
        "É",
    ],
)
def test_set_env_leaves_out_what_is_not_the_jobs(name: str) -> None:
    assert sshd.set_env({name: "x"}) == ""


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "SLURM_JOB_ID",
        "OAR_NODEFILE",
        "USERNAME",
        "TERMINFO",
        "_CE_CONDA",
        "sshd",
        "A1",
    ],
)
def test_set_env_keeps_what_only_looks_like_it(name: str) -> None:
    assert sshd.set_env({name: "x"}) == f'SetEnv "{name}=x"\n'


def test_set_env_of_nothing_is_no_line() -> None:
    assert sshd.set_env({}) == ""


@with_sshd
def test_real_sshd_reads_every_value_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(tmp_path / "home", monkeypatch)
    env = {f"V{number}": value for number, value in enumerate([*KEPT.values(), *LEFT_OUT.values()])}
    text = config(made, env=env)
    read = as_read(written(tmp_path, text))
    assert sorted(line for line in read if line.startswith("setenv ")) == sorted(
        f"setenv V{number}={value}" for number, value in enumerate(KEPT.values())
    )


@with_sshd
def test_config_without_terminals_gives_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(tmp_path / "home", monkeypatch)
    for terminals in (True, False):
        text = config(made, terminals=terminals)
        assert f"permittty {'yes' if terminals else 'no'}" in as_read(written(tmp_path, text))


@with_sshd
@pytest.mark.parametrize(
    "name", ["home", "two words", "it's", "a #b", "100% $HOME %h", "café"], ids=ascii
)
def test_real_sshd_finds_its_files_in_odd_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = prepared(tmp_path / name, monkeypatch)
    read = as_read(written(tmp_path, config(made)))
    assert f"hostkey {made.host_key}" in read
    twice = str(made.authorized_keys).replace("%", "%%")
    assert f"authorizedkeysfile {twice}" in read


@with_sshd
def test_real_sshd_lets_in_one_user_with_a_key_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(tmp_path / "home", monkeypatch)
    text = config(made, env={"A": "1"})
    read = as_read(written(tmp_path, text))
    for line in (
        "allowusers alice",
        "authenticationmethods publickey",
        "pubkeyauthentication yes",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "pidfile none",
        "printmotd no",
        "subsystem sftp internal-sftp",
        f"authorizedkeysfile {made.authorized_keys}",
    ):
        assert line in read
    assert [line for line in read if line.startswith("hostkey ")] == [f"hostkey {made.host_key}"]
    assert not [line for line in read if line.startswith("usepam ") and line != "usepam no"]


@with_sshd
def test_user_whose_name_sshd_would_take_for_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = prepared(tmp_path / "home", monkeypatch)
    text = config(made, user="alice@ad.example")
    read = as_read(written(tmp_path, text))
    assert not [line for line in read if line.startswith("allowusers")]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"], ids=repr)
def test_path_that_sshd_cannot_take_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(JlabError, match=r"sshd cannot take the path .* quote or control character"):
        config(Home(tmp_path / name))


def sshd_in(directory: Path, name: str = "sshd") -> Path:
    """A program of that name."""
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_find_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sshd_in(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(program.parent))
    assert sshd.find(None) == str(program)


def test_find_gives_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sshd_in(tmp_path / "bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "bin")
    assert sshd.find(None) == str(program)
    assert sshd.find("bin/sshd") == str(program)
    assert sshd.find(str(program)) == str(program)


def test_find_a_given_name_where_path_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = sshd_in(tmp_path / "bin", "our-sshd")
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.chdir(tmp_path)
    assert sshd.find("our-sshd") == str(program)


@pytest.mark.parametrize("path", ["/no/such/sshd", "no-such-sshd", "/tmp", ""], ids=repr)
def test_find_what_is_no_program(path: str) -> None:
    with pytest.raises(JlabError, match=rf"^--sshd: {path} is not a program$"):
        sshd.find(path)


def test_command_of_one_connection(tmp_path: Path) -> None:
    path = tmp_path / "sshd_config"
    assert sshd.command("/usr/sbin/sshd", path) == ["/usr/sbin/sshd", "-i", "-e", "-f", str(path)]


@with_sshd
@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("Nonsense yes\n", "terminating, 1 bad configuration options", id="nonsense"),
        pytest.param("HostKey /no/such/key\n", "no hostkeys available", id="no host key"),
    ],
)
def test_check_says_what_sshd_says(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sshd_config"
    path.write_text(text)
    with pytest.raises(JlabError, match=rf"^{SSHD} does not work here: .*{says}") as caught:
        sshd.check(SSHD, path)
    assert len(str(caught.value).splitlines()) == 1


def test_check_of_a_silent_failure_gives_its_code(tmp_path: Path) -> None:
    program = sshd_in(tmp_path)
    program.write_text("#!/bin/sh\nexit 77\n")
    with pytest.raises(JlabError, match=rf"^{program} does not work here: 77$"):
        sshd.check(str(program), tmp_path / "sshd_config")


def test_check_of_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(JlabError, match=r"^cannot start /no/such/sshd: No such file"):
        sshd.check("/no/such/sshd", tmp_path / "sshd_config")
    program = sshd_in(tmp_path)
    program.chmod(0o600)
    with pytest.raises(JlabError, match=rf"^cannot start {program}: Permission denied"):
        sshd.check(str(program), tmp_path / "sshd_config")
