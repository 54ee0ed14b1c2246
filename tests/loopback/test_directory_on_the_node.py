"""The session's directory on the node: what lies beside it, clean-ups, and what others do then."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import NOBODY, finished, jupyterlab_of, wait_until

from tests.loopback.conftest import answers
from tests.loopback.light import light

if TYPE_CHECKING:
    from loopback import Loopback

HOST = "jlab+demo"


def test_data_in_what_jlab_tmpdir_names_stays(site: Loopback) -> None:
    """Directories that have nothing of ours, also where the session's own directory lies."""
    scratch = site.root / "data"  # a short path: sockets are made in it
    data = [scratch / "thesis/chapter1/text", scratch / "file", scratch / site.tmp.name / "x/data"]
    for path in data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
        path.parent.chmod(0o755)
    (scratch / site.tmp.name).chmod(0o700)
    scratch.chmod(0o750)
    session = site.start_session(*light(site.root), env={"JLAB_TMPDIR": str(scratch)})
    site.wait_for_session(session)
    assert (scratch / site.tmp.name / "lab.sock").exists()
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert [path.read_text() for path in data] == ["precious"] * 3
    assert [path.parent.stat().st_mode & 0o777 for path in data] == [0o755, 0o750, 0o755]


@pytest.fixture
def node(laptop: Loopback) -> Loopback:
    """A laptop that is set up, and a node whose directory for temporary files is like /tmp."""
    if os.getuid():
        pytest.skip("only root can be another user, and clean up after all")
    laptop.root.chmod(0o755)
    laptop.tmpdir.chmod(0o1777)
    return laptop


def clean_up(site: Loopback) -> None:
    """As an administrator does, or a prolog."""
    for path in site.tmpdir.iterdir():
        shutil.rmtree(path, ignore_errors=True)


def log(site: Loopback) -> str:
    return (site.root / "job.log").read_text()


def works(site: Loopback) -> bool:
    """A shell, JupyterLab by its link, and one more port that is exposed."""
    refused = b"HTTP/1.0 403 Fo"  # whoever asks without a token
    return (
        finished(site.ssh(HOST, "echo in")).stdout == "in\n"
        and all(answers(site.tmp / f"{name}.sock") == refused for name in ("lab", "dask"))
        and "dask" in finished(site.node("expose"), env=site.env).stdout
    )


def started(site: Loopback) -> subprocess.Popen[bytes]:
    """A session that exposes its own port once more."""
    session = site.start_session(*light(site.root))
    record = dict(line.split("=") for line in site.wait_for_session(session).read_text().split())
    expose = site.node("expose", "dask", record["port"])
    wait_until(lambda: finished(expose, env=site.env).returncode == 0, "it takes requests")
    assert works(site)
    return session


def test_a_session_outlives_the_clean_ups_of_its_node(node: Loopback) -> None:
    """systemd-tmpfiles, to whom all of it is old; and who removes everything."""
    site, session = node, started(node)
    other = site.tmpdir / "other"
    other.touch()
    before = sorted(site.tmp.rglob("*"))
    for path in (other, site.tmp, *before):
        os.utime(path, (1, 1), follow_symlinks=False)
    time.sleep(1.1)  # no file has been changed for longer than that
    if shutil.which("systemd-tmpfiles"):
        config = site.root / "tmpfiles.conf"
        config.write_text(f"q {site.tmpdir} 1777 root root 1s\n")
        subprocess.run(["systemd-tmpfiles", "--clean", str(config)], check=True)
        assert not other.exists(), "it does clean up"
        assert sorted(site.tmp.rglob("*")) == before
        assert works(site)
    clean_up(site)
    wait_until(lambda: site.tmp.exists() and works(site), "all is made anew", seconds=20)
    assert f"{site.tmp} has been cleaned up by somebody; it is made anew" in log(site)
    session.terminate()
    assert session.wait(timeout=60) == 143
    assert [path.name for path in site.tmp.iterdir()] == ["lock"]


# Has the place of the session $1/$2, with all that it once took to be believed.
SQUAT = r"""
umask 0; mkdir -p "$1/$2/rt" && cd "$1/$2" || exit
echo "HostKey /dev/null" >sshd_config; echo "touch $3" >enter; touch alive lab.sock ../lab.sock
chmod 755 .. .
"""


def test_who_takes_the_place_after_a_clean_up_gets_nothing(node: Loopback) -> None:
    """No sshd, no connection, no word of JupyterLab; and once he is gone all is as before."""
    site, session = node, started(node)
    jupyterlab = jupyterlab_of(session.pid)
    (directory,) = site.tmp.glob("s-*")
    ran = site.tmpdir / "ran"
    shell = subprocess.Popen(
        site.ssh(HOST, "echo in; cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "in\n"
    os.kill(session.pid, signal.SIGSTOP)  # however long the other may take
    shutil.rmtree(site.tmp)
    squat = ["sh", "-c", SQUAT, "squat", str(site.tmp), directory.name, str(ran)]
    subprocess.run(squat, check=True, user=NOBODY, group=NOBODY, extra_groups=[])
    theirs = sorted(site.tmp.rglob("*"))
    os.kill(session.pid, signal.SIGCONT)
    assert shell.wait(timeout=20) == 255, "connections that there are could be led astray"
    assert shell.stdin is not None
    shell.stdin.close()
    shell.stdout.close()
    wait_until(
        lambda: jupyterlab.status() == psutil.STATUS_STOPPED, "JupyterLab stands still", seconds=5
    )
    whose = f"{site.tmp} belongs to user nobody, not to you"
    for _ in range(2):
        done = finished(site.ssh(HOST, "echo in"))
        assert done.stdout == ""
        assert whose in done.stderr, done.stderr
    assert log(site).count(whose) == 1
    assert sorted(site.tmp.rglob("*")) == theirs
    assert not ran.exists()
    assert session.poll() is None
    shutil.rmtree(site.tmp)
    wait_until(lambda: site.tmp.exists() and works(site), "it is theirs again", seconds=20)
    assert "is yours again" in log(site)
    session.terminate()
    assert session.wait(timeout=60) == 143


def test_who_takes_the_place_while_jupyterlab_starts_gets_nothing(node: Loopback) -> None:
    """Nothing that is run lies there; and the session ends, since it has not begun."""
    site = node
    _, server = light(site.root)
    slow = shlex.join(["sh", "-c", f"sleep 3; exec {server}"])
    session = site.start_session("--jupyter", slow)
    wait_until(lambda: list(site.tmp.glob("s-*/jupyter")), "it is starting")
    assert list(site.tmp.rglob("*.py")) == []
    (directory,) = site.tmp.glob("s-*")
    os.kill(session.pid, signal.SIGSTOP)
    shutil.rmtree(site.tmp)
    squat = ["sh", "-c", SQUAT, "squat", str(site.tmp), directory.name, str(site.tmpdir / "ran")]
    subprocess.run(squat, check=True, user=NOBODY, group=NOBODY, extra_groups=[])
    os.kill(session.pid, signal.SIGCONT)
    assert session.wait(timeout=60) == 1
    assert "another user came in between while JupyterLab was starting" in log(site)
    assert site.records() == []
    assert list((site.home / ".jlab").glob(".new-*")) == []


def test_a_flood_of_connections_leaves_sshd_s_log_short(node: Loopback) -> None:
    session = started(node)
    (path,) = node.tmp.glob("s-*/sshd.log")
    path.write_bytes(b"a line of sshd's\n" * 200_000)
    wait_until(lambda: path.stat().st_size < 1 << 20, "it is cut", seconds=10)
    session.terminate()
    assert session.wait(timeout=60) == 143


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_place_that_others_can_change_is_refused(node: Loopback, mode: int) -> None:
    """Where anybody could move the user's directory away."""
    site = node
    site.tmpdir.chmod(mode)
    session = site.start_session(*light(site.root))
    assert session.wait(timeout=60) == 1
    sentence = f"{site.tmp} is not safe, since {site.tmpdir} can be changed by everybody"
    assert f"jlab-node: {sentence}: set JLAB_TMPDIR to a directory of your own" in log(site)
    assert list(site.tmpdir.iterdir()) == []
    done = finished(site.node("doctor"), env=site.env)
    assert f"failure  sockets      {sentence}" in done.stdout
    assert done.returncode == 1
