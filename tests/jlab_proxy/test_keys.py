"""The laptop's key as real ssh-keygen makes it, and the pinned host keys as it reads them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import NOBODY

from jlab_proxy import open_state, ssh, target
from jlab_proxy.commands import completion
from jlab_proxy.errors import JlabError
from jlab_proxy.paths import LAUNCHER_HEADER, Paths
from jlab_proxy.ssh_config import keys
from tests import acl

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "Ab3/" * 10 + "x+Q"
OTHER_KEY = KEY.replace("Ab3/", "Zz9+")
GRICAD = target.parse("gricad")

# Waits for a line, so that several start at the same moment.
PUBLIC_KEY = """
import sys
from jlab_proxy import paths
from jlab_proxy.ssh_config import keys as identity
sys.stdin.readline()
print(identity.public_key(paths.Paths(sys.argv[1], is_default=False)))
"""

# As on a file system without hard links.
NO_LINKS = """
import errno, os, sys
def refuse(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
sys.addaudithook(refuse)
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A laptop with an empty ~/.ssh/jlab."""
    made = Paths(str(tmp_path / "ssh/config"), is_default=False)
    keys.make_directory(made)
    return made


def mode(path: str) -> int:
    """Permission bits."""
    return Path(path).stat().st_mode & 0o7777


def files(paths: Paths) -> list[str]:
    """What is in ~/.ssh/jlab, beside the mark that it is ours."""
    found = {path.name for path in Path(paths.directory).iterdir()}
    assert Path(paths.mark).name in found
    return sorted(found - {Path(paths.mark).name})


def test_directories_are_private_and_made_once(paths: Paths) -> None:
    assert mode(paths.directory) == 0o700
    assert mode(str(Path(paths.config).parent)) == 0o700
    keys.make_directory(paths)


@pytest.mark.root("only root can give a directory to another user")
def test_directory_of_another_user_is_refused(paths: Paths) -> None:
    os.chown(paths.directory, NOBODY, NOBODY)
    with pytest.raises(JlabError, match=r"/jlab is not a directory of yours: remove it first$"):
        keys.make_directory(paths)


def test_directory_behind_a_link_is_refused(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "config"), is_default=False)
    (tmp_path / "elsewhere").mkdir()
    Path(paths.directory).symlink_to("elsewhere")
    with pytest.raises(JlabError, match="is not a directory of yours"):
        keys.make_directory(paths)


def test_directory_of_the_user_s_own_is_refused_and_nothing_in_it_changed(tmp_path: Path) -> None:
    """By the names of our files, by an `open`, by a shared connection."""
    paths = Paths(str(tmp_path / "config"), is_default=False)
    own = Path(paths.directory)
    own.mkdir(mode=0o775)
    own.chmod(0o775)
    kept = {name: f"my own {name}" for name in ("connect.py", "known_hosts", "seen", "open-8888")}
    for name, text in kept.items():
        (own / name).write_text(text)
    with pytest.raises(JlabError, match="is not empty, and was not made by jlab-proxy"):
        keys.make_directory(paths)
    completion.remember_sessions(paths, "cal1", ["lab"])
    with open_state.StateServer(paths, 8888, dict), open_state.StateServer(paths, 8889, dict):
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{own}/login-1")
        listener.listen()
        assert not ssh.remove_hung_masters(paths)
    assert paths.control_path() is None
    assert mode(paths.directory) == 0o775
    (own / "login-1").unlink()
    assert {each.name: each.read_text() for each in own.iterdir()} == kept


@pytest.mark.parametrize(
    ("files_there", "is_default"),
    [
        pytest.param({}, False, id="empty"),
        pytest.param({"id": "KEY", "known_hosts": f"jlab+a,jlab+a+* {KEY}\n"}, False, id="0.1.0"),
        pytest.param({"id": "KEY", "known_hosts": "", "x": ""}, False, id="after --remove"),
        pytest.param({"connect.py": LAUNCHER_HEADER}, False, id="0.2.0"),
        pytest.param({"seen": "{}", "lock": "", "login-1": ""}, True, id="never finished"),
    ],
)
def test_directory_of_a_release_goes_on_and_is_marked(
    tmp_path: Path, files_there: dict[str, str], *, is_default: bool
) -> None:
    paths = Paths(str(tmp_path / "config"), is_default=is_default)
    Path(paths.directory).mkdir()
    for name, text in files_there.items():
        Path(paths.directory, name).write_text(text)
    assert paths.is_ours() == bool(files_there)
    keys.make_directory(paths)
    assert files(paths) == sorted(files_there)
    for name in files_there:
        Path(paths.directory, name).unlink()
    assert paths.is_ours(), "whatever becomes of its files"


@pytest.mark.parametrize("is_default", [True, False])
@pytest.mark.parametrize(
    "files_there",
    [
        pytest.param({"connect.py": "import mine\n"}, id="a program"),
        pytest.param({"id": "KEY", "known_hosts": f"cal1 {KEY}\n", "x": ""}, id="hosts"),
        pytest.param({"bin": "", "seen": "{}"}, id="a venv"),
    ],
)
def test_directory_with_other_files_is_the_user_s(
    tmp_path: Path, files_there: dict[str, str], *, is_default: bool
) -> None:
    paths = Paths(str(tmp_path / "config"), is_default=is_default)
    Path(paths.directory).mkdir()
    for name, text in files_there.items():
        Path(paths.directory, name).write_text(text)
    with pytest.raises(JlabError, match=r": move it away"):
        keys.make_directory(paths)


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JlabError, match=r"^cannot make .*/file/ssh: Not a directory$"):
        keys.make_directory(Paths(str(tmp_path / "file/ssh/config"), is_default=False))


def test_key_is_ecdsa_in_pem_form_and_has_no_public_half_beside_it(paths: Paths) -> None:
    public = keys.public_key(paths)
    assert public.split()[0] == "ecdsa-sha2-nistp256"
    assert len(public.split()) == 2
    assert Path(paths.key).read_text().startswith("-----BEGIN EC PRIVATE KEY-----\n")
    assert mode(paths.key) == 0o600
    assert files(paths) == ["id"]


def test_key_is_made_once(paths: Paths) -> None:
    first = keys.public_key(paths)
    private = Path(paths.key).read_bytes()
    assert keys.public_key(paths) == first
    assert Path(paths.key).read_bytes() == private


def test_several_at_once_make_one_key(paths: Paths) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLIC_KEY, paths.config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [(stderr, code) for _, stderr, code in ended] == [("", 0)] * 4
    assert {stdout for stdout, _, _ in ended} == {f"{keys.public_key(paths)}\n"}
    assert files(paths) == ["id"]


def test_key_where_there_are_no_hard_links(paths: Paths) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_LINKS + PUBLIC_KEY, paths.config],
        input="go\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{keys.public_key(paths)}\n", "")
    assert mode(paths.key) == 0o600
    assert files(paths) == ["id"]


def test_key_in_a_home_with_a_default_acl_is_closed(tmp_path: Path) -> None:
    acl.share(tmp_path, "default")
    made = Paths(str(tmp_path / "ssh/config"), is_default=False)
    keys.make_directory(made)
    assert keys.public_key(made).startswith("ecdsa-sha2-nistp256 ")
    assert mode(made.key) == 0o600
    Path(made.key).chmod(0o644)  # as an older version left it
    keys.public_key(made)
    assert mode(made.key) == 0o600


def test_key_with_a_passphrase_is_told_and_not_asked_for(paths: Paths) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "secret", "-f", paths.key],
        check=True,
    )
    with pytest.raises(JlabError, match=r"^ssh-keygen failed: .*passphrase"):
        keys.public_key(paths)


def test_file_that_is_no_key_is_told_and_left(paths: Paths) -> None:
    Path(paths.key).write_text("hello\n")
    Path(paths.key).chmod(0o600)
    with pytest.raises(JlabError, match=r"^ssh-keygen failed: \S"):
        keys.public_key(paths)
    assert Path(paths.key).read_text() == "hello\n"


def test_key_without_ssh_keygen_is_told(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", paths.directory)
    with pytest.raises(JlabError, match=r"^cannot start ssh-keygen: No such file"):
        keys.public_key(paths)
    assert files(paths) == []


OURS = f"jlab+gricad,jlab+gricad+* {KEY}\n"
OLD = f"jlab+gricad,jlab+gricad+* {OTHER_KEY}\n"
THEIRS = f"jlab+gricad2,jlab+gricad2+* {OTHER_KEY}\n"


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        pytest.param("", KEY, OURS, id="the first"),
        pytest.param(OURS, KEY, OURS, id="again"),
        pytest.param(OLD, KEY, OURS, id="a new key"),
        pytest.param(OLD + OURS, KEY, OURS, id="one of two"),
        pytest.param(THEIRS, KEY, THEIRS + OURS, id="beside another cluster's"),
        pytest.param(THEIRS.rstrip("\n"), KEY, THEIRS + OURS, id="no newline at the end"),
        pytest.param(f"# mine\n\n{OLD}", KEY, f"# mine\n\n{OURS}", id="after a comment"),
        pytest.param(THEIRS + OLD, None, THEIRS, id="forget"),
        pytest.param(OLD, None, "", id="forget the last"),
        pytest.param(THEIRS, None, THEIRS, id="forget what is not there"),
        pytest.param("", None, "", id="forget nothing"),
    ],
)
def test_pin_replaces_the_key_of_the_alias_alone(before: str, key: str | None, after: str) -> None:
    assert keys.pin(before, GRICAD, key) == after


def test_sessions_of_an_alias_have_one_key() -> None:
    assert keys.pin(OLD, target.parse("gricad+gpu"), KEY) == OURS


@pytest.mark.parametrize(
    ("known_hosts", "found"),
    [("", None), (THEIRS, None), (THEIRS + OURS, KEY), (OLD, OTHER_KEY)],
    ids=["nothing", "another cluster's", "ours", "an old one"],
)
def test_pinned_finds_the_key_of_the_alias(known_hosts: str, found: str | None) -> None:
    assert keys.pinned(known_hosts, GRICAD) == found


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("jlab+gricad", True),
        ("jlab+gricad+gpu", True),
        ("jlab+gricad2", False),
        ("gricad", False),
        ("jlab+", False),
    ],
)
def test_real_ssh_keygen_finds_the_pinned_key(paths: Paths, host: str, *, found: bool) -> None:
    keys.save_pin(paths, GRICAD, KEY)
    done = subprocess.run(
        ["ssh-keygen", "-F", host, "-f", paths.known_hosts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (KEY in done.stdout) is found


def test_save_pin_writes_a_private_file_and_keeps_other_bytes(paths: Paths) -> None:
    known_hosts = Path(paths.known_hosts)
    keys.save_pin(paths, GRICAD, KEY)
    assert known_hosts.read_text() == OURS
    assert mode(paths.known_hosts) == 0o600
    known_hosts.write_bytes(b"# caf\xe9\n" + OLD.encode())
    keys.save_pin(paths, GRICAD, KEY)
    assert known_hosts.read_bytes() == b"# caf\xe9\n" + OURS.encode()


@pytest.mark.parametrize(
    ("before", "found"),
    [(OLD, OTHER_KEY), (THEIRS, None), (OURS, None), ("", None)],
    ids=["another key", "another cluster's", "the same", "nothing"],
)
def test_changed_returns_the_pinned_key_that_differs(
    paths: Paths, before: str, found: str | None
) -> None:
    """It is what somebody in between would have, too."""
    Path(paths.known_hosts).write_text(before)
    assert keys.changed(paths, GRICAD, KEY) == found


def test_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True
    )
    public = key.with_suffix(".pub").read_text()
    assert keys.fingerprint(public) == printed.stdout.split()[1]
    assert keys.fingerprint("no\x1bkey") == "no?key"


def test_save_pin_leaves_a_file_alone_that_says_so_already(paths: Paths) -> None:
    keys.save_pin(paths, GRICAD, KEY)
    before = Path(paths.known_hosts).stat().st_ino
    keys.save_pin(paths, GRICAD, KEY)
    assert Path(paths.known_hosts).stat().st_ino == before
    assert files(paths) == ["known_hosts"]


def test_forgetting_where_nothing_is_pinned_makes_no_file(paths: Paths) -> None:
    keys.save_pin(paths, GRICAD, None)
    assert files(paths) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, True),
        (f"{KEY}\n", False),
        (f"{KEY} comment", False),
        (f"x {KEY}", False),
        (KEY[:-1], False),
        (f"{KEY}A", False),
        (KEY.replace("ssh-ed25519", "ssh-rsa"), False),
        (KEY.replace("+", "-"), False),
        ("", False),
        (None, False),
        (["ssh-ed25519"], False),
    ],
    ids=ascii,
)
def test_is_host_key_takes_ed25519_alone(text: object, *, expected: bool) -> None:
    assert keys.is_host_key(text) is expected


def test_key_that_ssh_keygen_makes_is_a_host_key(tmp_path: Path) -> None:
    key = tmp_path / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert keys.is_host_key(" ".join(Path(f"{key}.pub").read_text().split()[:2]))
