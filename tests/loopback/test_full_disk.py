"""A full disk, at each file and each page that is written: one sentence, and nothing by halves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from loopback import finished, wait_until

from tests.loopback.light import light, ours
from tests.loopback.small_disk import SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback import Loopback

pytestmark = pytest.mark.full

KEYS = [f"ssh-ed25519 {letter * 68} laptop-{letter}" for letter in "AB"]
# What an option of `setup` is told on stdin, in which file of ~/.jlab that stands; then another.
STANDS_IN = {
    "--authorize": ("authorized_keys", *KEYS),
    "--submit": ("submit", "sbatch old.sh", "sbatch new.sh"),
}
LIMITS = ["pages", "files"]
_MOST = 60  # pages or files that anything here needs


@pytest.fixture
def disk(site: Loopback, mounts: None, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    """One that holds ~ or the user's directory on the node."""
    with SmallDisk(getattr(site, request.param)) as made:
        made.leave()
        yield made


AT_HOME = pytest.mark.parametrize("disk", ["home"], indirect=True)
ON_THE_NODE = pytest.mark.parametrize("disk", ["tmp"], indirect=True)


def do(
    site: Loopback, disk: SmallDisk, *words: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """`jlab-node` to its end."""
    return subprocess.run(
        disk.enter(*site.node(*words)),
        env=site.env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether it failed for want of room, and said so in one sentence; else it has worked."""
    if done.returncode == 0:
        return False
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1, done.stderr
    assert last.startswith("jlab-node: "), done.stderr
    why = done.stderr if "its own messages stand above" in last else last
    assert "No space left on device" in why
    assert "input or output" not in last, "it knows where"
    assert "Traceback" not in done.stderr
    return True


def half_made(directory: Path) -> list[Path]:
    return list(directory.rglob(".new-*"))


@AT_HOME
@pytest.mark.parametrize("limit", LIMITS)
def test_setup(site: Loopback, disk: SmallDisk, limit: str) -> None:
    """With a bit more room each time, until it is enough."""
    attempts = 0
    jlab = disk.seen(site.home) / ".jlab"
    for room in range(_MOST):
        disk.leave(**{limit: room})
        done = do(site, disk, "setup")
        assert half_made(jlab) == []
        if not refused(done):
            break
        attempts += 1
        disk.leave()
        shutil.rmtree(jlab, ignore_errors=True)
    assert attempts > 4
    disk.leave()
    assert not refused(do(site, disk, "setup"))
    private = str(site.home / ".jlab" / "host_key")
    public = subprocess.check_output(
        disk.enter("ssh-keygen", "-y", "-f", private), text=True, stderr=subprocess.STDOUT
    )
    assert (jlab / "host_key.pub").read_text() == public


@AT_HOME
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("option", STANDS_IN)
def test_what_there_was_stays(site: Loopback, disk: SmallDisk, limit: str, option: str) -> None:
    """Old or new, and whole."""
    name, old, new = STANDS_IN[option]
    words = ["setup", option]
    file = disk.seen(site.home) / ".jlab" / name
    assert not refused(do(site, disk, *words, stdin=f"{old}\n"))
    before = file.read_text()
    assert before == f"{old}\n"
    disk.leave(**{limit: 0})
    assert refused(do(site, disk, *words, stdin=f"{new}\n"))
    assert file.read_text() == before
    assert half_made(file.parent) == []
    disk.leave()
    assert not refused(do(site, disk, *words, stdin=f"{new}\n"))
    assert file.read_text().splitlines()[-1] == new


def live(site: Loopback, disk: SmallDisk) -> subprocess.CompletedProcess[str]:
    """A session, which is stopped once it is published; or it fails before."""
    arguments = site.node("run", *light(site.root))
    records = disk.seen(site.home) / ".jlab" / "sessions"
    with subprocess.Popen(
        disk.enter(*arguments),
        env=site.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(
            lambda: [*records.glob("local-*")] or process.poll() is not None, "it is published"
        )
        process.terminate()
        said = process.communicate(timeout=60)[1]
    code = 0 if process.returncode == 143 else process.returncode
    return subprocess.CompletedProcess(process.args, code, "", said)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("disk", ["home", "tmp"], indirect=True)
def test_run(site: Loopback, disk: SmallDisk, limit: str) -> None:
    """It starts with what there is, or fails and leaves nothing."""
    assert not refused(do(site, disk, "setup"))
    attempts = 0
    for room in range(_MOST):
        disk.leave(**{limit: room})
        done = live(site, disk)
        assert ours(site) == []
        base, jlab = disk.seen(site.tmp), disk.seen(site.home) / ".jlab"
        assert [path for path in base.glob("*") if path.is_dir() or path.is_symlink()] == []
        assert list((jlab / "sessions").iterdir()) == []
        assert half_made(jlab) == []
        if not refused(done):
            break
        attempts += 1
    assert attempts > 0
    disk.leave()
    assert not refused(live(site, disk))


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("disk", ["home", "tmp"], indirect=True)
def test_expose_and_connect(site: Loopback, disk: SmallDisk, limit: str) -> None:
    """What was not exposed is not said to be; and a full disk keeps nobody from being told."""
    session = site.start_process(disk.enter(*site.node("run", *light(site.root))))
    records = disk.seen(site.home) / ".jlab" / "sessions"
    wait_until(lambda: [*records.glob("local-*")], "it is published")
    (record,) = records.glob("local-*")
    before = record.read_text()
    port = next(line[5:] for line in before.splitlines() if line.startswith("port="))
    wait_until(lambda: do(site, disk, "expose").returncode == 0, "it takes requests")
    disk.leave(**{limit: 0})
    done = do(site, disk, "expose", "dask", port)
    # On the node neither a socket nor a link takes a page.
    assert refused(done) == (disk.where == site.home or limit == "files")
    if done.returncode:
        assert record.read_text() == before
        assert do(site, disk, "expose").stdout == "nothing is exposed: jlab-node expose NAME PORT\n"
        assert not (disk.seen(site.tmp) / "dask.sock").is_symlink()
    disk.leave()
    assert not refused(do(site, disk, "expose", "dask", port))
    assert "exposed=dask\n" in record.read_text()
    disk.leave(**{limit: 0})
    session.kill()
    session.wait()
    said = do(site, disk, "connect")
    assert said.returncode == 69
    assert "session lab is over: " in said.stderr
    assert [*records.iterdir()] == []


IN_A_FULL_TMP = """
import asyncio, tempfile
from jlab_node.connect import routes as ladder
from jlab_node.errors import JlabError
from jlab_node.session.child_processes import Children

async def ask():
    async with Children(grace=1) as children:
        await children.output(["true"], timeout=60)

print(tempfile.gettempdir())
open("last", "w").close()
try:
    ladder.via_command(["sh", "-c", "echo lost >&2; exit 1"], timeout=60)
except ladder.RouteUnavailable as closed:
    print(closed)
try:
    asyncio.run(ask())
except JlabError as error:
    print(error)
"""


@ON_THE_NODE
def test_no_temporary_file_can_be_made(site: Loopback, disk: SmallDisk) -> None:
    disk.leave(files=1)
    done = finished(
        disk.enter(
            "sh", "-c", 'cd "$TMPDIR" && exec "$0" "$@"', sys.executable, "-c", IN_A_FULL_TMP
        ),
        env={**os.environ, "TMPDIR": str(disk.where)},
    )
    assert done.returncode == 0, done.stderr
    where, way, asked = done.stdout.splitlines()
    assert where == str(disk.where)
    assert way == "it ended at once"
    assert asked == "no temporary file can be made: No space left on device"
