"""scripts/demo for an ordinary user of a machine that has all that could be in its way."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import finished

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SCRIPTS = Path(__file__).parents[2] / "scripts"
USER = 54321
# Commands of schedulers whose controllers are gone.
STALE = ("squeue", "scontrol", "srun", "oarstat", "pbsnodes", "qstat", "qconf", "bjobs")
_STALE = '#!/bin/sh\necho "$0" >>"{asked}"\nsleep 20\nexit 1\n'
_SSH_CONFIG = "Host *\n    Port 1\n    ProxyCommand false\n    ForwardX11 yes\n    User nobody\n"
_IN_THE_WAY = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "SLURM_JOB_ID": "12",  # the shell of an salloc
    "OAR_JOB_ID": "12",
    "JLAB_TMPDIR": "/nowhere",
    "TMPDIR": "/nowhere",
    "XDG_RUNTIME_DIR": "/nowhere",
    "JUPYTER_TOKEN": "of-another-server",
    "JUPYTER_CONFIG_DIR": "/nowhere",
    "SSH_AUTH_SOCK": "/nowhere",
    "SSH_ASKPASS": "/bin/false",
}
# Until nobody reads what it prints.
_TAKE = """
import contextlib, os, socket, time
taken = [socket.create_server(("127.0.0.1", 8888)),
         socket.create_server(("::1", 8888), family=socket.AF_INET6)]
with contextlib.suppress(BrokenPipeError):
    while os.write(1, b"taken\\n"):
        time.sleep(0.1)
"""
# In mounts and a network of its own. Arguments: a directory, the user, a command. Python and
# these files may lie in /root, where others see them then.
_MACHINE = f"""
for each in '{sys.base_prefix}' '{SCRIPTS.parent}'; do
    case $each in /root/*)
        mkdir -p "$1$each"
        mount --bind "$each" "$1$each" ;;
    esac
done
[ ! -d "$1/root" ] || mount --rbind "$1/root" /root
mount -t devpts -o newinstance,ptmxmode=666,mode=600 devpts /dev/pts
mount --bind "$1/passwd" /etc/passwd
ip link set lo up
user=$2
shift 2
umask 077
exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"""


class Machine:
    """Where it is; its user's home has a blank in its path."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home of one"
        self.asked = place / "asked"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh" / "config").write_text(_SSH_CONFIG)
        (self.home / ".bashrc").write_text("echo Welcome\n")
        (place / "stale").mkdir()
        for name in STALE:
            (place / "stale" / name).write_text(_STALE.format(asked=self.asked))
            (place / "stale" / name).chmod(0o755)
        entry = f"one:x:{USER}:{USER}::{self.home}:/bin/bash\n"
        (place / "passwd").write_text(Path("/etc/passwd").read_text() + entry)
        for path in (place, *place.rglob("*")):
            shutil.chown(path, USER, USER)
        self.env = {
            "HOME": str(self.home),
            "USER": "one",
            "PATH": f"{place}/stale:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            **_IN_THE_WAY,
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of the user's there."""
        argv = ["sh", "-ec", _MACHINE, "sh", str(self.place), str(USER), *command]
        return finished(["unshare", "--mount", "--net", *argv], env=self.env, timeout=280)


@pytest.fixture
def machine() -> Iterator[Machine]:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    place.chmod(0o755)
    try:
        made = Machine(place)
        tried = made.run("sh", "-c", 'exec "$0" -c "import jlab_node"', sys.executable)
        if tried.returncode:
            pytest.skip(f"no such machine, or its users cannot read these files: {tried.stderr}")
        yield made
    finally:
        shutil.rmtree(place)


@pytest.mark.root("it takes mounts, a network and another user")
def test_the_demo_on_a_login_node_works_and_touches_nothing(machine: Machine) -> None:
    """With port 8888 taken in both families, a proxy, no terminals, stale clients on PATH."""
    before = {path: path.read_bytes() for path in machine.home.rglob("*") if path.is_file()}
    taking = f"'{sys.executable}' -c '{_TAKE}'" + ' | { read taken && exec "$0" "$@"; }'
    demo = [sys.executable, str(SCRIPTS / "demo.py"), "--check"]
    done = machine.run("sh", "-c", taking, *demo)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "42"
    assert "one on " in done.stdout, "the shell says who and where"
    assert "Traceback" not in done.stderr
    assert ":8888" not in done.stderr
    assert not machine.asked.exists(), "no scheduler was asked anything"
    after = {path: path.read_bytes() for path in machine.home.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.root("it takes mounts, a network and another user")
def test_the_demo_without_what_it_needs_says_so(machine: Machine) -> None:
    """In a sentence, and nothing of it is left."""
    left = set(Path("/tmp").glob("jl-*"))
    demo = [sys.executable, str(SCRIPTS / "demo.py"), "--check"]
    done = machine.run("sh", "-c", f'PATH="{machine.place}/stale"; exec "$0" "$@"', *demo)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    mine = [each for each in set(Path("/tmp").glob("jl-*")) - left if each.stat().st_uid == USER]
    assert mine == []
