"""Homes and login shells of all kinds: tcsh, zsh, fish; a full file system, one without exec."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster.hosts import Host

    from tests.cluster.conftest import Person, Site

SHELLS = {"t": "tcsh", "z": "zsh", "f": "fish"}
RC_FILES = {"t": ".tcshrc", "z": ".zshenv", "f": ".config/fish/config.fish"}  # for every start
NOISE = "Welcome to the cluster"


@pytest.fixture(scope="module", params=SHELLS, ids=list(SHELLS.values()))
def shell_user(request: pytest.FixtureRequest, people: Callable[..., Person]) -> Iterator[Person]:
    """Whose login shell is not bash; with a session that starts."""
    made = people(name=request.param)
    made.submit()
    yield made
    made.clean_up()


def check_shell(person: Person, session: str = "") -> list[str]:
    """`ssh jlab+...` ends up in the job, in the user's own shell; what it said on the way."""
    variable = person.site.job_variable
    said = person.ssh(f"echo ${variable} $0; hostname", session=session)
    assert said.code == 0, said.stderr
    *noise, started, node = said.stdout.splitlines()
    assert set(noise) <= {NOISE}
    (job,) = (job for job, each in person.records().items() if each["name"] == (session or "lab"))
    # fish has no $0.
    assert started.split()[0] == job
    assert node == person.site.nodes[0]
    return said.sentences.splitlines()


def check_copies(person: Person, session: str = "") -> None:
    target = person.target(session)
    person.on_laptop("sh", "-c", "head -c 1000000 /dev/urandom >sent")
    copy = f"scp -q sent {target}:sent; scp -q {target}:sent back; cmp sent back; rm sent back"
    done = person.on_laptop("sh", "-ec", copy)
    assert done.returncode == 0, done.stderr
    person.on_login("rm", "sent")


def check_terminal(person: Person, session: str = "") -> None:
    terminal = person.terminal("ssh", person.target(session))
    terminal.read_until(r"jlab-node: session \S+ on .*\n")
    terminal.type(f"echo the job is ${person.site.job_variable}; exit 3\n")
    terminal.read_until(r"the job is [0-9]+")
    assert terminal.wait() == 3


def test_a_login_shell(shell_user: Person) -> None:
    waited = check_shell(shell_user)
    assert waited, "it was not there yet"
    assert check_shell(shell_user) == []
    check_terminal(shell_user)
    check_copies(shell_user)
    assert shell_user.evaluate(shell_user.open_forward()) == "42"


def test_a_login_shell_that_says_something_at_each_start(shell_user: Person) -> None:
    name = RC_FILES[shell_user.name]
    shell_user.on_login("mkdir", "-p", str(Path(name).parent))
    shell_user.write(name, f"echo {NOISE}\n")
    try:
        assert NOISE in shell_user.on_laptop("ssh", shell_user.alias, "true").stdout, "it does"
        shell_user.set_up()
        port = 8970 + ["cal1", "gricad"].index(shell_user.alias)  # nobody else's
        shell_user.set_up("--session", "noisy", "--port", str(port))
        shell_user.submit(name="noisy")
        assert check_shell(shell_user, "noisy"), "it was not there yet"
        assert check_shell(shell_user, "noisy") == []
        check_terminal(shell_user, "noisy")
        check_copies(shell_user, "noisy")
        assert shell_user.evaluate(shell_user.open_forward("noisy")) == "42"
        for path in (shell_user.home / ".jlab").rglob("*"):
            assert not path.is_file() or NOISE not in path.read_text(), f"not in {path.name}"
        names = {record["name"] for record in shell_user.records().values()}
        assert "noisy" in names
        assert names <= {"lab", "noisy"}
    finally:
        shell_user.on_login("rm", name)


class SmallHome:
    """Somebody whose home is a small file system, the same one on the login node and on a node."""

    def __init__(self, person: Person, image: Path) -> None:
        self.person = person
        self.hosts = [person.login, person.cluster.host(person.site.nodes[0])]
        self.scratch = Path(f"/run/{person.user}")  # on the node, and not small
        self._image = image
        self._real_home = person.home

    def mount(self) -> None:
        uid = self._real_home.stat().st_uid
        # Without a journal and anything reserved, full is full.
        options = ["-q", "-b1024", "-m0", "-O^has_journal", f"-Eroot_owner={uid}:{uid}"]
        copied = ["-d", str(self._real_home), str(self._image), "8M"]
        subprocess.run(["mkfs.ext4", *options, *copied], check=True, capture_output=True)
        found = subprocess.run(
            ["losetup", "--find", "--show", str(self._image)],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode:
            pytest.skip(f"no loop devices here: {found.stderr.strip()}")
        self._device = found.stdout.strip()
        for host in self.hosts:
            self._home_io(host, "mount", self._device)
        # As the login node sees it: no mount of a host is one of this machine.
        self.person.home = Path(f"/proc/{self.person.login.pid}/root/home/{self.person.user}")
        install = ["install", "-d", "-o", self.person.user, str(self.scratch)]
        self.hosts[1].run(install, check=True)

    def unmount(self) -> None:
        self.person.home = self._real_home
        for host in self.hosts:
            self._home_io(host, "umount", "--lazy", check=False)
        subprocess.run(["losetup", "--detach", self._device], check=False)
        self.hosts[1].run(["rm", "-r", str(self.scratch)])

    def forbid_exec(self) -> None:
        for host in self.hosts:
            self._home_io(host, "mount", "-o", "remount,bind,noexec")

    def _home_io(self, host: Host, *command: str, check: bool = True) -> None:
        """In the host's mounts, but with the machine's own files and devices around them."""
        where = str(host.directory / "root/home" / self.person.user)
        enter = ["nsenter", f"--mount=/proc/{host.pid}/ns/mnt"]
        subprocess.run([*enter, *command, where], check=check, capture_output=True)

    def fill(self) -> None:
        self.person.on_login("sh", "-c", FILL, check=False)
        assert self.person.on_login("df", "--output=avail", ".").split()[-1] == "0"

    def free(self) -> None:
        self.person.on_login("rm", "-f", "filler")


FILL = "dd if=/dev/zero of=$HOME/filler bs=1k status=none"


@pytest.fixture
def small(another: Callable[..., Person], site: Site, tmp_path: Path) -> Iterator[SmallHome]:
    """u3, who has worked here before, on a small file system."""
    person = another(site, "3")
    if not (person.home / ".ipython").exists():
        # What JupyterLab and IPython say when they cannot make their first directories is theirs.
        person.wait_for_session(person.submit())
        assert person.evaluate(person.open_forward()) == "42"
        person.clean_up()
    made = SmallHome(person, tmp_path / "image")
    made.mount()
    try:
        yield made
    finally:
        try:
            made.free()
            made.person.clean_up()
        finally:
            made.unmount()


def test_a_session_cannot_start_in_a_full_home(small: SmallHome) -> None:
    """One sentence in the log, which had better not be in that home."""
    person = small.person
    job, log = log_of_a_start(small, FILL)
    record = f"/home/u3/.jlab/sessions/{person.site.scheduler}-{job}-lab"
    # Whichever of them runs into it first.
    assert log[-1] in (
        "jlab-node: cannot write in /home/u3/.jlab/sessions: No space left on device",
        f"jlab-node: cannot publish the session in {record}: No space left on device",
        "jlab-node: jupyter-lab ended with exit code 1 before it answered: its own messages stand "
        "above",
    )
    assert list((person.home / ".jlab").glob("sessions/*")) == []
    small.free()
    _, log = log_of_a_start(small, f"rm -r ~/.jlab; {FILL}")
    assert log[-1] == "jlab-node: cannot write /home/u3/.jlab: No space left on device"
    small.free()
    person.on_login("jlab-node", "setup")
    person.set_up()
    person.submit()
    assert person.ssh("echo here").stdout == "here\n"


def log_of_a_start(small: SmallHome, before: str) -> tuple[str, list[str]]:
    """A job that does not become a session: its id and its log."""
    log = small.scratch / "log"
    job = small.person.submit(before=f"exec >{log} 2>&1; {before}")
    wait_until(lambda: not small.person.jobs(), "it has ended", seconds=60)
    printed = small.hosts[1].run(["cat", str(log)], check=True).stdout
    assert "/jlab_node/" not in printed, "no traceback of ours: JupyterLab has its own"
    return job, printed.splitlines()


def test_a_home_that_becomes_full(small: SmallHome) -> None:
    """Who has a session keeps it; and who waits, waits."""
    person = small.person
    job = person.submit()
    person.wait_for_session(job)
    url = person.open_forward()
    assert person.evaluate(url) == "42", "IPython has made its directory, without which it ends"
    small.fill()
    said = person.ssh(f"echo ${person.site.job_variable}")
    assert (said.stdout, said.stderr) == (f"{job}\n", "")
    assert person.evaluate(url) == "42"
    small.free()
    person.submit(name="next", before="until [ -e ~/go ]; do sleep 0.1; done")
    small.fill()
    waiting = person.start("ssh", person.target("next"), "echo here")
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    while "JupyterLab is starting" not in line:
        assert re.match(r"jlab-node: job [0-9]+ \(jlab-next\) is queued", line)
        line = waiting.stderr.readline()
    small.free()
    person.on_login("touch", "go")
    assert waiting.communicate(timeout=120)[0] == "here\n"
    small.fill()
    person.cancel(*person.jobs())
    wait_until(lambda: not person.jobs(), "they have ended", seconds=60)
    said = person.ssh("true")
    assert "no session to connect to, and you have no job there" in said.sentences
    assert "Traceback" not in said.stderr
    assert person.records() == {}


def test_a_home_without_exec(small: SmallHome) -> None:
    person = small.person
    # OAR itself starts the script in the home.
    person.submit(before="until [ -e ~/go ]; do sleep 0.1; done")
    wait_until(lambda: "run" in states(person), "the script has been started", seconds=60)
    small.forbid_exec()
    person.on_login("cp", "/bin/true", ".")
    assert small.hosts[1].run(["./true"], person.user).returncode == 127, "noexec it is"
    person.on_login("rm", "-r", "true", ".jlab")
    person.on_login("jlab-node", "setup")
    person.set_up()
    person.on_login("touch", "go")
    assert person.ssh("echo here").stdout == "here\n"
    assert person.evaluate(person.open_forward()) == "42"
    check_copies(person)


def states(person: Person) -> str:
    """What the scheduler says of the user's jobs, in small letters."""
    if person.site.scheduler == "slurm":
        return person.on_login("squeue", "--noheader", "--me", "--format=%T").lower()
    found = re.findall('"state" : "(.*)"', person.on_login("oarstat", "-fJ", "-u", person.user))
    return " ".join(found).lower()
