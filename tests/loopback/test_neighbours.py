"""Another user of the node and of the login node, who means harm; tests/cluster has more."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, Loopback, finished

from tests.loopback.light import light

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "jlab+demo"
_PATH = {"PATH": "/usr/bin:/bin"}  # where everybody may look


@pytest.fixture
def as_neighbour() -> Iterator[dict[str, object]]:
    """How to start a program as another user."""
    if os.getuid():
        pytest.skip("only root can be another user")
    yield {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/", "env": _PATH}


@pytest.fixture
def open_home(as_neighbour: dict[str, object], laptop: Loopback) -> Loopback:
    """A laptop that is set up for a login node on which everybody can write the user's home."""
    site = laptop
    for directory in (site.root, site.root / "login"):
        directory.chmod(0o755)
    site.home.chmod(0o777)
    return site


# Puts a ~/.jlab of its own in the place of the user's, with all that it takes to be believed.
PLANT = r"""
cd "$1" && mv .jlab theirs && mkdir -p .jlab/sessions && umask 0 || exit
echo "touch $1/ran; echo SSH-2.0-planted" | tee .jlab/connect >.jlab/jlab-node
cp -r theirs/sessions/. .jlab/sessions/ 2>/dev/null
printf 'format=1\nname=lab\nnode=%s\nport=1\nssh_port=%s\nnonce=%032d\ntoken=%064d\n' \
    "$(uname -n)" "$2" 0 0 >.jlab/sessions/local-0-lab
"""


def test_a_planted_directory_is_not_used(
    open_home: Loopback, as_neighbour: dict[str, object]
) -> None:
    site = open_home
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        port = str(trap.getsockname()[1])
        plant = ["sh", "-c", PLANT, "plant", str(site.home), port]
        subprocess.run(plant, check=True, **as_neighbour)  # type: ignore[call-overload]
        assert (site.home / ".jlab").stat().st_uid == NOBODY
        for command in (
            site.ssh(HOST, "true"),
            site.proxy("logs", "demo"),
            site.proxy("ls", "demo"),
            site.proxy("setup", "demo", "--yes"),
        ):
            done = finished(command)
            assert done.returncode
            assert "~/.jlab on demo belongs to another user" in done.stderr
        for verb in (["ls"], ["status"], ["url"], ["connect"], ["run", "--jupyter", "true"]):
            done = finished(site.node(*verb), env=site.env)
            assert done.returncode
            assert f"{site.home}/.jlab belongs to user nobody, not to you" in done.stderr
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert not (site.home / "ran").exists()


def test_a_planted_record_is_not_followed(
    open_home: Loopback, as_neighbour: dict[str, object]
) -> None:
    """By whoever could once write ~/.jlab/sessions."""
    site = open_home
    sessions = site.home / ".jlab" / "sessions"
    before = site.home / "before"
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        before.mkdir(mode=0o777)
        before.chmod(0o777)
        plant = ["sh", "-c", PLANT, "plant", str(before), str(trap.getsockname()[1])]
        (before / ".jlab").mkdir()
        subprocess.run(plant, check=True, **as_neighbour)  # type: ignore[call-overload]
        planted = sessions / "local-0-lab"
        (before / ".jlab/sessions/local-0-lab").rename(planted)
        assert planted.stat().st_uid == NOBODY
        done = finished(site.ssh(HOST, "true"))
        assert done.returncode == 255
        assert "the record local-0-lab is no use: it is another user's" in done.stderr
        session = site.start_session()
        site.wait_for_session(session)
        os.utime(planted, (time.time() + 60, time.time() + 60))  # it is the newest
        done = finished(site.ssh(HOST, "echo here"))
        assert done.stdout == "here\n", done.stderr
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_the_log_says_that_others_can_write_the_home(open_home: Loopback) -> None:
    session = open_home.start_session()
    open_home.wait_for_session(session)
    log = (open_home.root / "job.log").read_text()
    assert f"{open_home.home} can be written by everybody" in log
    assert f"`chmod go-w {open_home.home}`" in log
    done = finished(open_home.node("doctor"), env=open_home.env)
    assert f"{open_home.home} can be written by everybody" in done.stdout


# Makes a ~/.jlab, or a ~/.ssh, that lets in who plants it.
PLANT_KEYS = r"""
cd "$1" && umask 0 && mv "$2" "$2.theirs" && mkdir -p "$2" || exit
ssh-keygen -q -t ed25519 -N '' -f "$2/host_key" && chmod 600 "$2/host_key"
cp "$3.pub" "$2/authorized_keys"
"""


def test_a_home_that_others_come_to_write_lets_nobody_into_a_session_that_runs(
    laptop: Loopback, as_neighbour: dict[str, object], tmp_path: Path
) -> None:
    """Nor does it keep its owner out; and a key that the owner takes out is out at once."""
    site, session = laptop, laptop.start_session(*light(laptop.root))
    record = dict(line.split("=") for line in site.wait_for_session(session).read_text().split())
    key, own = Path("/tmp", f"jlab-key-{os.getpid()}"), site.home / ".ssh"
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(keygen, check=True, **as_neighbour)  # type: ignore[call-overload]
    own.mkdir(mode=0o700)
    (own / "authorized_keys").touch(mode=0o600)

    def enters(private: Path) -> bool:
        options = ["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]
        known = ["-oUserKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes", f"-i{private}"]
        where = ["-p", record["ssh_port"], f"{site.user}@127.0.0.1", "echo in"]
        return finished(["ssh", *options, *known, *where]).stdout == "in\n"

    def is_let_in() -> tuple[bool, bool]:
        """The neighbour, the owner."""
        readable = tmp_path / "key"  # by root alone, as ssh wants it
        readable.write_bytes(key.read_bytes())
        readable.chmod(0o600)
        return enters(readable), finished(site.ssh(HOST, "echo in")).stdout == "in\n"

    try:
        assert is_let_in() == (False, True)
        site.root.chmod(0o755)  # above the directory on the node, which would be refused as well
        for directory in (site.root / "login", site.home):
            directory.chmod(0o777)
        for name in (".jlab", ".ssh"):
            plant = ["sh", "-c", PLANT_KEYS, "plant", str(site.home), name, str(key)]
            subprocess.run(plant, check=True, **as_neighbour)  # type: ignore[call-overload]
            assert (site.home / name / "authorized_keys").stat().st_uid == NOBODY
            enters_, _ = is_let_in()
            assert not enters_, name
            if name == ".ssh":
                assert is_let_in() == (False, True)
            shutil.rmtree(site.home / name)
            (site.home / f"{name}.theirs").rename(site.home / name)
        assert "another user's: whoever could get into" in (site.root / "job.log").read_text()
        site.home.chmod(0o755)
        keys = own / "authorized_keys"
        public = key.with_name(f"{key.name}.pub").read_bytes()
        keys.write_bytes(public)
        assert is_let_in() == (True, True), "the owner may let in whom they like"
        for mode in (0o620, 0o602):  # after the start
            keys.chmod(mode)
            assert is_let_in() == (False, True)
        keys.unlink()
        planted = site.root / "planted"
        planted.write_bytes(public)
        keys.symlink_to(planted)
        assert is_let_in() == (False, True), "no link is followed"
        (site.home / ".jlab/authorized_keys").write_text("")
        assert is_let_in() == (False, False), "that counts at once"
    finally:
        for path in (key, key.with_name(f"{key.name}.pub")):
            path.unlink()


# Until its standard input ends: has the path as soon as it is free, as a link to a directory
# that is open to all, or as such a directory, and gives it up again.
SQUAT = r"""
import contextlib, os, select, sys
path, trap = sys.argv[1:]
os.umask(0)
had = 0
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    with contextlib.suppress(OSError):
        os.symlink(trap, path)
        had += 1
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o777)
        had += 1
        os.rmdir(path)
print(had)
"""

# As often as told, a session's directory is made in the path and removed with it: prints how often
# that was refused, and says of each that was made whether it was ours alone.
SESSIONS = r"""
import os, shutil, sys
from pathlib import Path
from jlab_node.errors import JlabError
from jlab_node.files import writing
from jlab_node.runtime.session_directory import SessionDirectory
base, rounds, refused, made = Path(sys.argv[1]), int(sys.argv[2]), 0, 0
for _ in range(rounds):
    try:
        with SessionDirectory(base, "lab", "local-1-lab") as place:
            writing.write_atomically(place.paths.sshd_log, "secret")
            for each in (base, *base.rglob("*")):
                found = each.lstat()
                assert found.st_uid == os.getuid() and not base.is_symlink(), each
            made += 1
        shutil.rmtree(base)
    except JlabError:
        refused += 1
print(refused, made)
"""


@pytest.mark.full
def test_races_for_the_directory_in_tmp(as_neighbour: dict[str, object], tmp_path: Path) -> None:
    """Hundreds of them: it is refused, or ours alone; nothing of it is ever in another's hands."""
    base = Path(f"/tmp/jlab-race-{os.getpid()}")  # in a directory with the sticky bit
    trap = Path(f"/tmp/jlab-trap-{os.getpid()}")
    trap.mkdir()
    trap.chmod(0o777)
    with subprocess.Popen(
        ["python3", "-c", SQUAT, str(base), str(trap)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **as_neighbour,  # type: ignore[call-overload]
    ) as squatter:
        assert squatter.stdout.readline() == "ready\n"
        done = finished([sys.executable, "-c", SESSIONS, str(base), "600"], timeout=280)
        had = int(squatter.communicate()[0])
    assert done.returncode == 0, done.stderr
    refused, made = map(int, done.stdout.split())
    assert had > 600, "the other user had it often"
    assert refused + made == 600
    assert min(refused, made) > 0, "both came to pass"
    assert not list(trap.iterdir())
    trap.rmdir()
