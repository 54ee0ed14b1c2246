"""The life of a session: how it starts beside others, how it ends, and what it leaves: nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import finished, jupyterlab_of, wait_until

from jlab_node.registry.record import Record, parse
from tests.loopback.conftest import answers
from tests.loopback.light import light

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopback import Loopback

# Stands where jupyter-lab would: the light server, which misbehaves as told.
SERVER = '''\
import os, signal, subprocess, sys, time
import light
marker, mode = sys.argv[1], sys.argv[2]
if mode == "stubborn":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
if mode == "family":
    # A grandchild that leaves its family: a new session, its parent gone, deaf to SIGTERM.
    subprocess.run([sys.executable, "-c", """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
os.wait()
""", marker + ".grandchild"])
if mode == "tidy":
    def tidy(number, _):
        time.sleep(1)
        open(marker + ".tidied", "w").write(str(number))
        sys.exit(0)
    signal.signal(signal.SIGTERM, tidy)
if mode == "early":
    sys.exit(23)
token = light.setting("token").encode()
light.start(light.attend, light.listen(), token)
light.start(light.obey, token)
while not (mode.startswith("exit") and os.path.exists(marker)):
    time.sleep(0.05)
sys.exit(int(mode[4:]))
'''


def stand_in(site: Loopback, mode: str) -> list[str]:
    """Arguments for `run` with the server above."""
    script = site.root / "server.py"
    script.write_text(SERVER)
    light(site.root)
    return ["--jupyter", shlex.join([sys.executable, str(script), f"{site.root}/marker", mode])]


def processes_of(site: Loopback) -> list[str]:
    """Command lines of all processes that know this site, but for the login node's sshd."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        environ = process.info["environ"] or {}
        if environ.get("JLAB_TMPDIR") == str(site.tmpdir) and process.pid != os.getpid():
            found.append(" ".join(process.info["cmdline"]))
    return [line for line in found if "sshd -D" not in line]


def assert_nothing_is_left(site: Loopback) -> None:
    assert site.records() == []
    assert processes_of(site) == []
    assert [path.name for path in site.tmp.iterdir()] == ["lock"]


def record_of(path: Path) -> Record:
    return parse(path.read_text())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_the_session(site: Loopback, name: str) -> None:
    process = site.start_session()
    site.wait_for_session(process)
    process.send_signal(signal.Signals[name])
    assert process.wait(timeout=30) == 128 + signal.Signals[name]
    assert_nothing_is_left(site)


def test_run_survives_a_batch_systems_warnings_and_tells_each(site: Loopback) -> None:
    """Some send it to every process of the job, others to the first."""
    process = site.start_session()
    path = site.wait_for_session(process)
    jupyterlab = jupyterlab_of(process.pid)
    log = site.root / "job.log"
    for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU"):
        for each in (process, jupyterlab):
            each.send_signal(signal.Signals[name])
        wait_until(lambda: f"{name}: the batch system warns" in log.read_text(), "it is told")  # noqa: B023
        ignored = Path(f"/proc/{jupyterlab.pid}/status").read_text().split("SigIgn:")[1].split()[0]
        is_ignored = int(ignored, 16) & 1 << (signal.Signals[name] - 1)
        assert not is_ignored, "what JupyterLab starts can hear it"
    assert b" 200" in answers(site.tmp / "lab.sock", parse(path.read_text()).token)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert_nothing_is_left(site)


def test_nohup_is_heard(site: Loopback) -> None:
    process = subprocess.Popen(
        ["nohup", *site.node("run"), *stand_in(site, "plain")],
        env=site.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    site.add_process(process)
    site.wait_for_session(process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert answers(site.tmp / "lab.sock", record_of(site.records()[0]).token)
    process.terminate()
    assert process.wait(timeout=30) == 143


def test_a_wrapper_around_jupyterlab_lets_it_end_in_peace(site: Loopback) -> None:
    """`conda run` and the like: the signal and the patience are for the whole group."""
    arguments = stand_in(site, "tidy")
    wrapper = site.root / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n{arguments[1]} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    process = site.start_session("--jupyter", str(wrapper))
    site.wait_for_session(process)
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert Path(f"{site.root}/marker.tidied").read_text() == "15"
    assert_nothing_is_left(site)


@pytest.mark.full
def test_a_lock_that_is_held(site: Loopback) -> None:
    """A suspended session of the same user: that is said, and not waited for without end."""
    site.tmp.mkdir(mode=0o700)
    with (site.tmp / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = site.start_session()
        assert process.wait(timeout=90) == 1
    log = (site.root / "job.log").read_text()
    assert f"has held {site.tmp}/lock for 30 s: end it, or continue it if it is suspended" in log


def test_the_log_stays_clean_with_a_browser_connected(site: Loopback) -> None:
    process = site.start_session()
    site.wait_for_session(process)
    with socket.socket(socket.AF_UNIX) as browser:
        browser.connect(str(site.tmp / "lab.sock"))
        browser.sendall(b"GET /api/status HTTP/1.1\r\n")
        time.sleep(0.5)
        process.terminate()
        assert process.wait(timeout=30) == 143
    assert "Traceback" not in (site.root / "job.log").read_text()
    assert_nothing_is_left(site)


def test_run_takes_the_option_line_of_the_older_way(site: Loopback) -> None:
    (site.home / "work").mkdir()
    old = ["--no-browser", "--ip=0.0.0.0", "--port", "8888", f"--notebook-dir={site.home}/work"]
    process = site.start_session(*old, "--name", "gpu")
    record = record_of(site.wait_for_session(process))
    assert (record.name, record.port != 8888) == ("gpu", True)
    log = (site.root / "job.log").read_text()
    assert "jlab-node: --no-browser, --ip, --port: not needed, a session has its own" in log
    words = jupyterlab_of(process.pid).cmdline()
    assert f"--notebook-dir={site.home}/work" in words
    assert not {"--ip=0.0.0.0", "8888"} & set(words)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_a_signal_before_jupyterlab_answers(site: Loopback) -> None:
    process = site.start_session()
    wait_until(lambda: list(site.tmp.glob("s-*/jupyter")), "it starts JupyterLab")
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert_nothing_is_left(site)


@pytest.mark.full
def test_the_record_goes_first_and_a_deaf_jupyterlab_is_killed_after_15_seconds(
    site: Loopback,
) -> None:
    process = site.start_session(*stand_in(site, "stubborn"))
    site.wait_for_session(process)
    process.terminate()
    told = time.monotonic()
    wait_until(lambda: site.records() == [], "the record is withdrawn", seconds=10)
    assert process.poll() is None
    assert process.wait(timeout=30) == 143
    assert time.monotonic() - told > 14
    assert_nothing_is_left(site)


def test_a_second_signal_ends_the_waiting(site: Loopback) -> None:
    process = site.start_session(*stand_in(site, "stubborn"))
    site.wait_for_session(process)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: site.records() == [], "the record is withdrawn", seconds=10)
    time.sleep(1)  # what else is done in the home by then would be what the signal ends
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=12) == 130
    assert_nothing_is_left(site)


@pytest.mark.parametrize(("code", "ours"), [(0, 0), (3, 3), (99, 1)])
def test_jupyterlab_ends_by_itself(site: Loopback, code: int, ours: int) -> None:
    """99 is the exception: to OAR it means that the job shall be run again."""
    process = site.start_session(*stand_in(site, f"exit{code}"))
    site.wait_for_session(process)
    (site.root / "marker").touch()
    assert process.wait(timeout=30) == ours
    assert_nothing_is_left(site)


def test_jupyterlab_is_killed(site: Loopback) -> None:
    process = site.start_session()
    site.wait_for_session(process)
    jupyterlab_of(process.pid).kill()
    assert process.wait(timeout=30) == 128 + signal.SIGKILL
    assert "JupyterLab was killed (signal 9): most often" in (site.root / "job.log").read_text()
    assert_nothing_is_left(site)


def test_jupyterlab_ends_before_it_answers(site: Loopback) -> None:
    process = site.start_session(*stand_in(site, "early"))
    assert process.wait(timeout=30) == 23
    log = (site.root / "job.log").read_text()
    assert "jupyter-lab ended with exit code 23 before it answered" in log
    assert "Traceback" not in log
    assert_nothing_is_left(site)


def test_no_grandchild_survives(site: Loopback) -> None:
    process = site.start_session(*stand_in(site, "family"))
    site.wait_for_session(process)
    grandchild = int(Path(f"{site.root}/marker.grandchild").read_text())
    assert psutil.pid_exists(grandchild)
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert not psutil.pid_exists(grandchild)
    assert_nothing_is_left(site)


@pytest.mark.full
def test_kill_9_of_the_supervisor(site: Loopback) -> None:
    """JupyterLab goes too, though it stands still; what stays is no trap for the next session."""
    process = site.start_session()
    left = site.wait_for_session(process)
    jupyterlab_of(process.pid).suspend()
    process.kill()
    process.wait()
    wait_until(lambda: processes_of(site) == [], "JupyterLab ends", seconds=20)
    assert left.exists()
    following = site.start_session()
    site.wait_for_session(following)
    assert (site.tmp / "lab.sock").exists()
    assert len([each for each in site.tmp.iterdir() if each.is_dir()]) == 1
    following.terminate()
    assert following.wait(timeout=30) == 143


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("turns", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_two_at_once_time_and_again(site: Loopback, turns: int) -> None:
    """Two `run`s of one user come up side by side, each with its own port, token and socket."""
    for turn in range(turns):
        pair = {name: site.start_session("--name", name) for name in ("one", "two")}
        records = {
            name: record_of(site.wait_for_session(process)) for name, process in pair.items()
        }
        assert records["one"].port != records["two"].port, turn
        assert records["one"].ssh_port != records["two"].ssh_port, turn
        for name, record in records.items():
            assert record.name == name
            assert answers(site.tmp / f"{name}.sock", record.token) == b"HTTP/1.1 200 OK", turn
        assert answers(site.tmp / "one.sock", records["two"].token) == b"HTTP/1.1 403 Fo", turn
        for process in pair.values():
            process.terminate()
        assert [process.wait(timeout=30) for process in pair.values()] == [143, 143], turn
        assert_nothing_is_left(site)


def test_the_newest_has_the_link_and_the_rest_take_over(site: Loopback) -> None:
    first = site.start_session("--name", "first", *stand_in(site, "plain"))
    site.wait_for_session(first)
    second = site.start_session("--name", "second", *stand_in(site, "plain"))
    site.wait_for_session(second)
    link = site.tmp / "lab.sock"
    assert link.resolve().parent == (site.tmp / "second.sock").resolve().parent
    second.terminate()
    second.wait(timeout=30)
    assert link.resolve().parent == (site.tmp / "first.sock").resolve().parent
    assert not (site.tmp / "second.sock").is_symlink()
    first.terminate()
    first.wait(timeout=30)
    assert_nothing_is_left(site)


def test_a_port_taken_between_pick_and_bind(site: Loopback) -> None:
    """The first time round, another program has the port before JupyterLab is told to open it."""
    thief = site.root / "thief.py"
    thief.write_text(
        f'''\
import runpy, socket, sys
import portpicker
pick, taken = portpicker.pick_unused_port, []
def steal():
    port = pick()
    if not taken:
        taken.append(socket.create_server(("127.0.0.1", port)))
        open("{site.root}/stolen", "w").write(str(port))
    return port
portpicker.pick_unused_port = steal
runpy.run_module("jlab_node", run_name="__main__")
'''
    )
    process = site.start_process([sys.executable, str(thief), "run"])
    record = record_of(site.wait_for_session(process))
    stolen = (site.root / "stolen").read_text()
    assert str(record.port) != stolen
    assert answers(site.tmp / "lab.sock", record.token) == b"HTTP/1.1 200 OK"
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert_nothing_is_left(site)


@contextlib.contextmanager
def taken_before_a_free_one() -> Iterator[int]:
    """A port that is taken, and the next one is free."""
    with contextlib.ExitStack() as stack:
        while True:
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            low: int = taken.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", low + 1)).close()
            except (OSError, OverflowError):
                continue
            yield low
            return


def test_the_port_range_is_kept(site: Loopback) -> None:
    with taken_before_a_free_one() as low:
        process = site.start_session("--port-range", f"{low}-{low + 1}", *stand_in(site, "plain"))
        assert record_of(site.wait_for_session(process)).ssh_port == low + 1
        full = site.start_session("--port-range", f"{low}-{low + 1}", log=site.root / "full.log")
        assert full.wait(timeout=30) == 1
    assert f"{low}-{low + 1}: all of them are taken" in (site.root / "full.log").read_text()


def test_without_sshd_the_session_goes_on(site: Loopback) -> None:
    nowhere = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    process = site.start_session("--sshd", "/nonexistent/sshd", *stand_in(site, "plain"))
    assert process.wait(timeout=30) == 1
    assert "--sshd: /nonexistent/sshd is not a program" in (site.root / "job.log").read_text()
    assert "Traceback" not in (site.root / "job.log").read_text()
    broken = site.start_session(
        "--here",
        "--sshd",
        "/bin/false",
        *stand_in(site, "plain"),
        env=nowhere,
        log=site.root / "false.log",
    )
    assert broken.wait(timeout=30) == 1
    assert "/bin/false does not work here" in (site.root / "false.log").read_text()


@pytest.mark.parametrize("what", ["file", "link", "writable", "other owner"])
def test_a_squatted_socket_directory_is_refused(site: Loopback, what: str) -> None:
    if what == "file":
        site.tmp.touch()
    elif what == "link":
        site.tmp.symlink_to(site.home)
    elif what == "writable":
        site.tmp.mkdir()
        site.tmp.chmod(0o770)
    elif os.getuid() == 0:
        site.tmp.mkdir(mode=0o700)
        os.chown(site.tmp, 65534, 65534)
    else:
        pytest.skip("only root can make a directory of another user")
    process = site.start_session()
    assert process.wait(timeout=30) == 1
    log = (site.root / "job.log").read_text()
    assert log.splitlines()[-1].startswith(f"jlab-node: {site.tmp} ")
    assert "Traceback" not in log
    assert site.records() == []


def test_everything_is_private(site: Loopback) -> None:
    process = site.start_session()
    site.wait_for_session(process)
    shown = [
        str(path)
        for directory in (site.tmp, site.home / ".jlab")
        for path in [directory, *directory.rglob("*")]
        if not path.is_symlink()
        and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        # In a 0700 directory; that these modes are not ours to choose harms nobody.
        and path.parent.name != "rt"
        and not path.is_socket()
    ]
    assert shown == []


def test_a_full_disk(site: Loopback) -> None:
    """No file can grow: one sentence, and nothing left."""
    process = site.start_session(*stand_in(site, "plain"))
    site.wait_for_session(process)
    process.terminate()
    process.wait(timeout=30)
    run = 'unset COVERAGE_PROCESS_START; ulimit -f 0; exec "$0" "$@"'  # it writes files as well
    limited = subprocess.Popen(
        ["sh", "-c", f'({run}) 2>&1 | cat >"$OUT"', *site.node("run"), *stand_in(site, "plain")],
        env={**site.env, "OUT": str(site.root / "limited.log")},
    )
    limited.wait(timeout=30)
    log = (site.root / "limited.log").read_text()
    assert "Traceback" not in log
    assert "jlab-node: cannot write in " in log
    assert "File too large" in log
    assert_nothing_is_left(site)


def test_ls_and_stop(site: Loopback) -> None:
    process = site.start_session("--name", "gpu", *stand_in(site, "plain"))
    record = record_of(site.wait_for_session(process))

    def node(*arguments: str) -> subprocess.CompletedProcess[str]:
        return finished(site.node(*arguments), env=site.env)

    assert record.id in node("ls", "--json").stdout
    assert record.token not in node("ls", "--json").stdout + node("ls").stdout
    assert node("ls").stdout.startswith(f"gpu  {record.node}  local {process.pid}  since ")
    assert f"lab?token={record.token}" in node("url", "gpu").stdout
    nobody = node("stop", "nobody")
    assert (nobody.returncode, nobody.stdout) == (69, "")
    assert nobody.stderr == (
        f"jlab-node: no session is called 'nobody' on {record.node}; running: gpu\n"
    )
    reaper = threading.Thread(target=process.wait)  # or it would stay a zombie, and "running"
    reaper.start()
    assert node("stop", "gpu").stdout == f"session {record.id} is stopped\n"
    reaper.join()
    assert process.returncode == 143
    assert_nothing_is_left(site)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, 0)
