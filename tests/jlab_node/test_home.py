"""~/.jlab in a home of its own: modes, scripts that run, one host key, who is let in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jlab_node.errors import JlabError
from jlab_node.registry import home
from jlab_node.registry.home import Home
from tests import acl

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "Ab3/" * 10 + "x+Q"
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB" + "Q/9x" * 16 + "="
)

# Prints the key that it then finds.
PREPARE = """
from jlab_node.registry import home
print(home.ensure_state_dir().host_key.read_text() + home.state_dir().public_host_key.read_text())
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    path = tmp_path / "al ice's"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


def mode(path: Path) -> int:
    """Permission bits."""
    return path.stat().st_mode & 0o7777


def with_keys(directory: Path, text: str = "") -> Home:
    """A home of which only authorized_keys is there."""
    made = Home(directory)
    made.authorized_keys.write_text(text, encoding="utf-8")
    return made


def wrapper(user: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start it as the laptop does."""
    return subprocess.run(
        ["sh", ".jlab/jlab-node", *arguments],
        cwd=user,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_ensure_state_dir_is_private_whatever_the_umask(user: Path) -> None:
    before = os.umask(0)
    try:
        made = home.ensure_state_dir()
    finally:
        os.umask(before)
    assert made == home.state_dir() == Home(user / ".jlab")
    assert {path.name: oct(mode(path)) for path in made.path.iterdir()} == {
        "authorized_keys": "0o600",
        "connect": "0o600",
        "host_key": "0o600",
        "host_key.pub": "0o600",
        "jlab-node": "0o600",
        "sessions": "0o700",
    }
    assert mode(made.path) == 0o700
    assert made.public_host_key.read_text().startswith("ssh-ed25519 ")


def test_ensure_state_dir_twice_changes_nothing(user: Path) -> None:
    made = home.ensure_state_dir()
    home.authorize(made, ED25519)
    (made.sessions / "local-1-lab").write_text("x")
    files = [path for path in sorted(made.path.rglob("*")) if path.is_file()]
    before = [(path, path.read_text(), path.stat().st_ino) for path in files]
    home.ensure_state_dir()
    files = [path for path in sorted(made.path.rglob("*")) if path.is_file()]
    assert [(path, path.read_text(), path.stat().st_ino) for path in files] == before


@pytest.mark.parametrize("name", ["connect", "jlab-node"])
@pytest.mark.parametrize(
    "content", [b"echo old\n", b"", b"\xff\xfe"], ids=["old", "empty", "bytes"]
)
def test_script_that_differs_is_written_again(user: Path, name: str, content: bytes) -> None:
    script = home.ensure_state_dir().path / name
    current = script.read_bytes()
    script.write_bytes(content)
    script.chmod(0o644)
    home.ensure_state_dir()
    assert script.read_bytes() == current
    assert mode(script) == 0o600


def test_lost_public_half_is_made_again_from_the_same_key(user: Path) -> None:
    made = home.ensure_state_dir()
    private, public = made.host_key.read_text(), made.public_host_key.read_text()
    made.public_host_key.unlink()
    home.ensure_state_dir()
    assert made.host_key.read_text() == private
    assert made.public_host_key.read_text().split()[:2] == public.split()[:2]


def at_once(*scripts: str) -> list[str]:
    """What each of these programs prints, all of which wait for a line first."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.stdin.readline()\n{script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for script in scripts
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [(stderr, code) for _, stderr, code in ended] == [("", 0)] * len(scripts)
    return [stdout for stdout, _, _ in ended]


def test_several_at_once_make_one_host_key(user: Path) -> None:
    assert len(set(at_once(*[PREPARE] * 4))) == 1
    assert sorted(path.name for path in (user / ".jlab").iterdir()) == [
        "authorized_keys",
        "connect",
        "host_key",
        "host_key.pub",
        "jlab-node",
        "sessions",
    ]


@pytest.mark.parametrize("open_to", [0o770, 0o777, 0o702], ids=oct)
def test_directory_that_others_can_write_is_refused(user: Path, open_to: int) -> None:
    (user / ".jlab").mkdir()
    (user / ".jlab").chmod(open_to)
    with pytest.raises(JlabError, match=r"\.jlab can be written by other users: .*chmod 700"):
        home.ensure_state_dir()
    assert list((user / ".jlab").iterdir()) == []


def test_sessions_that_others_can_write_are_refused(user: Path) -> None:
    home.ensure_state_dir().sessions.chmod(0o770)
    with pytest.raises(JlabError, match="sessions can be written by other users"):
        home.ensure_state_dir()


def test_jlab_may_be_a_link_to_where_there_is_room(user: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir(mode=0o755)
    (user / ".jlab").symlink_to(tmp_path / "scratch")
    home.ensure_state_dir()
    assert (user / ".jlab").is_symlink()
    assert mode(tmp_path / "scratch") == 0o700
    assert (tmp_path / "scratch/host_key").exists()


def test_home_that_is_not_there(user: Path) -> None:
    user.rmdir()
    with pytest.raises(JlabError, match=r"^cannot write .*/\.jlab: No such file or directory$"):
        home.ensure_state_dir()


def test_several_at_once_lose_no_key(user: Path) -> None:
    made = home.ensure_state_dir()
    add = """
from jlab_node.registry import home
for number in range(25):
    home.authorize(home.state_dir(), f"{key} {who}-{{number}}")
"""
    at_once(*(add.format(key=ED25519, who=who) for who in "abcd"))
    added = {line.split()[2] for line in made.authorized_keys.read_text().splitlines()}
    assert added == {f"{who}-{number}" for who in "abcd" for number in range(25)}


def test_what_others_can_write_is_not_taken(user: Path) -> None:
    made = home.ensure_state_dir()
    assert home.open_state_dir() == made
    made.path.chmod(0o770)
    with pytest.raises(JlabError, match="can be written by other users"):
        home.open_state_dir()


def test_ensure_state_dir_without_ssh_keygen_fails(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(JlabError, match="ssh-keygen is not on PATH here: install OpenSSH"):
        home.ensure_state_dir()
    assert not home.state_dir().host_key.exists()


def test_broken_host_key_is_told(user: Path) -> None:
    made = home.ensure_state_dir()
    made.public_host_key.unlink()
    made.host_key.write_text("not a key\n")
    with pytest.raises(JlabError, match=r"^ssh-keygen failed: \S"):
        home.ensure_state_dir()


def test_wrapper_starts_jlab_node(user: Path) -> None:
    home.ensure_state_dir()
    (user / "json.py").write_text("raise SystemExit('a module of the user was imported')\n")
    done = wrapper(user, "ls", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["format"], answer["sessions"]) == (1, [])


def test_wrapper_passes_words_on_as_they_are(user: Path) -> None:
    home.ensure_state_dir()
    done = wrapper(user, "stop", "two  words; $HOME *")
    assert done.returncode == 69
    assert "no session is called" in done.stderr
    assert wrapper(user, "stop", "two", "words").returncode == 2


def test_wrapper_whose_python_is_gone(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/gone/it's mine/bin/python")
    home.ensure_state_dir()
    done = wrapper(user, "ls", "--json")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == (
        "jlab-node: /gone/it's mine/bin/python is gone: install jlab-remote again on this cluster, "
        "then type jlab-node setup there\n"
    )


@pytest.mark.parametrize(
    "key",
    [
        ED25519,
        f"{ED25519} alice@laptop-1.example",
        ECDSA,
        "ecdsa-sha2-nistp384 AAAA",
        "ecdsa-sha2-nistp521 AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ== a+b_c.d",
    ],
    ids=lambda key: key.split()[0] + ("-commented" if key.count(" ") > 1 else ""),
)
def test_authorize_takes_a_public_key(tmp_path: Path, key: str) -> None:
    made = with_keys(tmp_path)
    home.authorize(made, f"{key}\n")
    assert made.authorized_keys.read_text() == f"{key}\n"
    assert mode(made.authorized_keys) == 0o600


def test_authorize_takes_what_ssh_keygen_makes(tmp_path: Path) -> None:
    made = with_keys(tmp_path)
    key = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "", "-f", str(key)], check=True
    )
    home.authorize(made, Path(f"{key}.pub").read_text())
    found = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(made.authorized_keys)], capture_output=True, check=False
    )
    assert found.returncode == 0


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("\n", id="an empty line"),
        pytest.param("hello", id="garbage"),
        pytest.param("ssh-ed25519", id="no key"),
        pytest.param("ssh-ed25519 ", id="an empty key"),
        pytest.param("ssh-ed25519 AAAA!", id="not base64"),
        pytest.param("ssh-ed25519 AA=AA", id="padding inside"),
        pytest.param("ssh-ed25519  AAAA", id="two spaces"),
        pytest.param("ssh-ed25519\tAAAA", id="a tab"),
        pytest.param("ssh-dss AAAA", id="a kind of key that is no use"),
        pytest.param("-----BEGIN OPENSSH PRIVATE KEY-----", id="a private key"),
        pytest.param(f"# {ED25519}", id="a comment"),
        pytest.param(f'command="reboot" {ED25519}', id="command"),
        pytest.param(f'from="*" {ED25519}', id="from"),
        pytest.param(f"cert-authority {ED25519}", id="cert-authority"),
        pytest.param(f"{ED25519} a b", id="a comment of two words"),
        pytest.param(f"{ED25519} " + "a" * 129, id="a long comment"),
        pytest.param(f"{ED25519} é", id="a comment that is not ASCII"),
        pytest.param(f"{ED25519} a\x1b[2J", id="an escape sequence"),
        pytest.param(f"{ED25519} a\x9b", id="a C1 control character"),
        pytest.param(f"{ED25519}\x00", id="null"),
        pytest.param(f"{ED25519}\n{ECDSA}", id="two lines"),
        pytest.param(f"{ED25519} a\n{ECDSA}", id="a comment and a second line"),
        pytest.param(f"{ED25519}\r{ECDSA}", id="two old Mac lines"),
        pytest.param(f"{ED25519}\u2028{ECDSA}", id="a line separator"),
    ],
)
def test_authorize_refuses_all_else(tmp_path: Path, key: str) -> None:
    made = with_keys(tmp_path, f"{ECDSA}\n")
    with pytest.raises(JlabError, match="that is not one line of an ssh public key"):
        home.authorize(made, key)
    assert made.authorized_keys.read_text() == f"{ECDSA}\n"


@pytest.mark.parametrize(
    "present",
    [
        pytest.param("", id="empty"),
        pytest.param(f"{ECDSA}\n", id="another key"),
        pytest.param(f"# mine\n\n{ECDSA}", id="no newline at the end"),
        pytest.param(f"# my café\n{ECDSA} é\n", id="not ASCII"),
    ],
)
def test_authorize_keeps_what_is_there_and_adds_a_key_once(tmp_path: Path, present: str) -> None:
    made = with_keys(tmp_path, present)
    for _ in range(2):
        home.authorize(made, f"{ED25519}\n")
    kept = present if present in ("", present.rstrip("\n") + "\n") else f"{present}\n"
    assert made.authorized_keys.read_text(encoding="utf-8") == f"{kept}{ED25519}\n"


def test_authorize_keeps_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    made = with_keys(tmp_path)
    made.authorized_keys.write_bytes(b"# caf\xe9\n" + ECDSA.encode() + b"\n")
    home.authorize(made, ED25519)
    assert made.authorized_keys.read_bytes().splitlines() == [
        b"# caf\xe9",
        ECDSA.encode(),
        ED25519.encode(),
    ]


def test_authorize_where_nothing_can_be_written(bound_by_modes: Path) -> None:
    made = with_keys(bound_by_modes)
    bound_by_modes.chmod(0o500)
    try:
        with pytest.raises(JlabError, match=r"^cannot write .*/authorized_keys: Permission denied"):
            home.authorize(made, ED25519)
    finally:
        bound_by_modes.chmod(0o700)


@pytest.mark.parametrize(
    ("scheduler", "cluster", "text"),
    [
        pytest.param("slurm", "cal1", "slurm:cal1 slurm:\n", id="with a name"),
        pytest.param("oar", "", "oar:\n", id="without"),
    ],
)
def test_remember_site_is_read_back(
    tmp_path: Path, scheduler: str, cluster: str, text: str
) -> None:
    """As ~/.jlab/connect reads it: the records that are of this machine's cluster."""
    made = Home(tmp_path)
    assert home.remembered_site(made) is None
    home.remember_site(made, scheduler, cluster)
    path = tmp_path / "sites" / os.uname().nodename
    assert path.read_text() == text
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    found = home.remembered_site(made)
    assert found is not None
    assert found[:2] == (scheduler, cluster)
    assert found[2] < 100
    os.utime(path, (time.time() - 5000,) * 2)
    found = home.remembered_site(made)
    assert found is not None
    assert 4000 < found[2] < 6000


def test_remember_site_of_other_machines(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    other = tmp_path / "sites" / "another-login"
    other.write_text("oar:\n")
    home.remember_site(Home(tmp_path), "slurm", "")
    assert other.read_text() == "oar:\n"


@pytest.mark.parametrize("text", ["", "slurm", "a b c\n", "slurm:$(id) \n", "\xff:\n"])
def test_what_is_no_remembered_site(tmp_path: Path, text: str) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / os.uname().nodename).write_text(text, encoding="latin-1")
    assert home.remembered_site(Home(tmp_path)) is None


def test_remember_site_where_nothing_can_be_written(bound_by_modes: Path) -> None:
    """Then every connection takes the slow path, no more."""
    bound_by_modes.chmod(0o500)
    try:
        home.remember_site(Home(bound_by_modes), "slurm", "cal1")
    finally:
        bound_by_modes.chmod(0o700)
    assert list(bound_by_modes.iterdir()) == []
    home.remember_site(Home(bound_by_modes / "gone"), "slurm", "cal1")
    assert not (bound_by_modes / "gone").exists()


def test_remember_site_that_is_read_as_a_line_of_bash(tmp_path: Path) -> None:
    home.remember_site(Home(tmp_path), "slurm", "cal1")
    script = 'read -r sites <"$1/sites/$HOSTNAME"; [[ " $sites " == *" slurm:cal1 "* ]]'
    subprocess.run(["bash", "-c", script, "bash", tmp_path], check=True)


def test_ensure_state_dir_in_a_home_with_a_default_acl_closes_all_files(user: Path) -> None:
    """ssh-keygen makes its key with a mode that such a list widens, and then takes it for open."""
    acl.share(user, "default", "access")
    made = home.ensure_state_dir()
    home.authorize(made, ED25519)
    files = [path for path in made.path.rglob("*") if path.is_file()]
    assert {made.host_key, made.public_host_key, made.authorized_keys} <= set(files)
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in (made.path, made.sessions)} == {0o700}


def test_ensure_state_dir_closes_the_host_key_that_an_older_version_left_open(user: Path) -> None:
    home.ensure_state_dir().host_key.chmod(0o644)
    home.state_dir().public_host_key.unlink()
    assert mode(home.ensure_state_dir().host_key) == 0o600
