"""What makes hundreds of sessions cheap: a server in JupyterLab's place, and a death on time."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks.light
import psutil
from loopback import wait_until

if TYPE_CHECKING:
    from loopback import Loopback

# Answers /api/status with the token, and not without, half a second sooner than JupyterLab.
SERVER = Path(benchmarks.light.__file__).read_text(encoding="utf-8")

# A jlab-node that kills itself when it is about to make change number CHANGE to the world.
_MORTAL = """\
import os, runpy, signal, sys
CHANGES = {
    "fcntl.flock", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
    "os.symlink", "os.utime", "socket.bind", "subprocess.Popen",
}
left = int(os.environ["CHANGE"])
def hook(event, arguments):
    global left
    writes = event == "open" and arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in CHANGES:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
runpy.run_module("jlab_node", run_name="__main__")
"""


def light(directory: Path) -> list[str]:
    """Arguments for `run` with the server above."""
    script = directory / "light.py"
    script.write_text(SERVER)
    return ["--jupyter", shlex.join([sys.executable, "-IS", str(script)])]


def mortal(directory: Path) -> list[str]:
    """The command line of that jlab-node: by its name it is known as one."""
    script = directory / "jlab-node"
    script.write_text(_MORTAL)
    return [sys.executable, str(script)]


def family(process: psutil.Process) -> list[psutil.Process]:
    """It, and all that it has started."""
    return [process, *process.children(recursive=True)]


def words(process: psutil.Process) -> list[str]:
    """Of its command line; none if it has just ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def without_monitors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """An sshd that is not root's has one, and its connections go on when that is killed."""
    return [each for each in processes if "[priv]" not in " ".join(words(each))]


def has_ended(process: psutil.Process) -> bool:
    """A zombie has: nobody has asked for its exit code, no more."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_end(processes: list[psutil.Process], *, seconds: float = 20) -> None:
    """Wait until none of them runs."""
    wait_until(lambda: all(map(has_ended, processes)), f"{processes} end", seconds=seconds)


def ours(site: Loopback) -> list[psutil.Process]:
    """The processes that know this site, but for the login node's sshd and what it has started."""
    known = {each.pid for each in family(site.sshd)}
    found = []
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("JLAB_TMPDIR") == str(site.tmpdir) and process.pid not in known:
            found.append(process)
    return found
