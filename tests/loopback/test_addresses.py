"""Which address `jlab-proxy url` and `open` tell, and to whom a token never goes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import NOBODY, Loopback, accepts, finished, free_port, stop, wait_until

from jlab_proxy import messages, port_check
from jlab_proxy.forwarding import local_ports, port_owners, ssh_ways, ways
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import block
from jlab_proxy.target import Target
from tests.loopback.light import light

if TYPE_CHECKING:
    from collections.abc import Iterator

# Listens at an address, as a user; says what each one who comes has sent.
LISTEN = """\
import os, socket, sys
host, port, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if user:
    os.setuid(user)
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.socket(family)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, len(sys.argv) > 4)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((host, port))
listener.listen()
print("listening", flush=True)
while True:
    came, _ = listener.accept()
    came.settimeout(2)
    try:
        print(came.recv(4096), flush=True)
    except OSError:
        pass
    came.close()
"""
ADDRESSES = ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"]


class Listener:
    """Somebody on a port of this computer."""

    def __init__(self, host: str, port: int, *, user: int = 0, only6: bool = False) -> None:
        words = [sys.executable, "-c", LISTEN, host, str(port), str(user), *["6"] * only6]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.heard = self._process.communicate()[0]


@pytest.mark.parametrize("host", ADDRESSES)
def test_a_port_that_anybody_has_is_not_free(host: str) -> None:
    port = free_port()
    assert port_owners.listeners_on(port).by_nobody
    with Listener(host, port) as listener:
        assert not port_check.is_free(port)
        free = block._PORT_IS_FREE.format(port=port).replace('"', "")
        assert subprocess.run(free, shell=True, check=False).returncode == 1
        held = port_owners.listeners_on(port)
        assert [each.pid for each in held.processes] == [listener.pid]
        assert not held.by_others
    assert port_check.is_free(port)
    assert subprocess.run(free, shell=True, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("host", ADDRESSES)
def test_who_has_a_port_another_user_alone_or_beside_us(host: str) -> None:
    port = free_port()
    with Listener(host, port, user=NOBODY, only6=host == "::"):
        assert port_owners.listeners_on(port).by_others
        ours = "::1" if "." in host else "127.0.0.1"
        with Listener(ours, port, only6=True) as own:
            held = port_owners.listeners_on(port)
            assert [each.pid for each in held.processes] == [own.pid]
            assert held.by_others


@pytest.fixture(scope="module")
def site() -> Iterator[Loopback]:
    """One for all tests here, with a light session."""
    with Loopback() as made:
        made.wait_for_session(made.start_session(*light(made.root)))
        yield made


@pytest.fixture
def port(site: Loopback) -> int:
    """The local port of the cluster."""
    chosen = free_port()
    setup = site.proxy("setup", "demo", "--yes", "--port", str(chosen))
    assert finished(setup).returncode == 0
    return chosen


def url(site: Loopback) -> subprocess.CompletedProcess[str]:
    return finished(site.proxy("url", "demo"))


@contextlib.contextmanager
def forwarding(site: Loopback, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`ssh -N jlab+demo` on the laptop."""
    with subprocess.Popen(site.ssh("-N", "jlab+demo"), stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: accepts(port), "ssh forwards")
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
@pytest.mark.parametrize("user", [0, NOBODY], ids=["own program", "another user"])
def test_url_of_a_port_that_is_not_ssh_s_is_refused(
    site: Loopback, port: int, host: str, user: int
) -> None:
    if user and os.geteuid():
        pytest.skip("only root can become another user")
    with Listener(host, port, user=user) as listener:
        done = url(site)
    assert (done.returncode, done.stdout) == (1, "")
    by = "a program of another user" if user else f"process {listener.pid} ("
    assert f"port {port} is taken by {by}" in done.stderr
    assert "token" not in done.stderr
    assert "token" not in listener.heard


@contextlib.contextmanager
def while_the_cluster_takes_its_time(site: Loopback) -> Iterator[subprocess.Popen[str]]:
    """`jlab-proxy url`, which has asked the cluster and gets its answer after this."""
    command = site.proxy("url", "demo")
    stopped = [site.sshd, *site.connections()]
    with contextlib.ExitStack() as stack:
        for each in stopped:
            stack.callback(_resume, each)
            each.suspend()
        asking = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process = psutil.Process(asking.pid)
        wait_until(lambda: _asks(process), "it asks the cluster")
        yield asking


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.resume()


def test_url_of_a_port_that_nobody_has_names_no_token(site: Loopback, port: int) -> None:
    """Another user could take it before the browser comes."""
    done = url(site)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"jlab-proxy: {messages.port_not_open(port, 'demo', 'jlab+demo')}\n"
    with forwarding(site, port):
        assert url(site).stdout.startswith(f"http://127.0.0.1:{port}/lab?token=")
    wait_until(lambda: not accepts(port), "it has ended")
    assert url(site).stdout == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_url_of_a_port_that_changes_hands_meanwhile_is_refused(site: Loopback, port: int) -> None:
    """The cluster takes its time to answer."""
    with contextlib.ExitStack() as stack:
        ssh = stack.enter_context(forwarding(site, port))
        with while_the_cluster_takes_its_time(site) as asking:
            ssh.kill()
            ssh.wait()
            listener = stack.enter_context(Listener("127.0.0.1", port, user=NOBODY))
        said = asking.communicate(timeout=60)
    assert (asking.returncode, said[0]) == (1, "")
    assert str(messages.jupyterlab_is_silent(port)) in said[1]
    assert "token" not in said[1]
    assert "token" not in listener.heard


def _asks(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("url" in " ".join(each.cmdline()) for each in process.children())
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_who_has_the_port_after_an_ssh_is_told_nothing(site: Loopback, port: int) -> None:
    paths, target = Paths(str(site.config), is_default=False), Target("demo")
    with forwarding(site, port) as ssh:
        way = ways.choose(paths, target, local_ports.forward_for(paths, target))
        assert isinstance(way, ssh_ways.UsersSshWay)
        address = url(site).stdout.strip()
        assert way.login_status(address) == 200
        ssh.kill()
        ssh.wait()
        assert way.login_status(address) is None
        with Listener("127.0.0.1", port, user=NOBODY) as listener:
            assert way.has_ended
            assert way.login_status(address) is None
    assert "token" not in listener.heard


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_where_ssh_itself_listens_nobody_else_is_told_the_token(site: Loopback, port: int) -> None:
    """As on Windows."""
    paths, target = Paths(str(site.config), is_default=False), Target("demo")
    way = ssh_ways.WindowsSshWay(paths, target, local_ports.forward_for(paths, target))
    with way.starting() as ssh:
        wait_until(lambda: way.has_arrived(ssh), "it listens")
        address = url(site).stdout.strip()
        assert way.login_status(address) == 200
    with Listener("127.0.0.1", port, user=NOBODY) as listener:
        assert not way.has_arrived(ssh)
        assert way.login_status(address) is None
    assert "token" not in listener.heard


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_url_where_another_user_has_the_other_family_is_refused(site: Loopback, port: int) -> None:
    with forwarding(site, port):
        assert url(site).stdout.startswith(f"http://127.0.0.1:{port}/lab?token=")
        with Listener("::1", port, user=NOBODY):
            done = url(site)
    assert (done.returncode, done.stdout) == (1, "")


def test_url_of_a_forward_to_an_older_session_is_that_session_s(site: Loopback, port: int) -> None:
    with forwarding(site, port):
        before = url(site).stdout
        newer = site.start_session("--name", "two", *light(site.root))
        record = site.wait_for_session(newer)
        token = re.search("^token=(.*)$", record.read_text(), re.MULTILINE)
        assert token
        done = url(site)
        assert done.stdout == before, done.stderr
        assert token[1] not in done.stdout
    stop(newer)


def test_url_of_a_forward_to_a_session_that_nobody_knows_is_a_sentence(
    site: Loopback, port: int
) -> None:
    (record,) = site.records()
    text = record.read_text()
    with forwarding(site, port):
        record.write_text(re.sub("(?m)^token=.*$", f"token={'ab' * 32}", text))
        try:
            done = url(site)
        finally:
            record.write_text(text)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(messages.port_leads_to_no_session(port, "demo")) in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_ssh_beside_a_program_on_the_port_forwards_nothing(
    site: Loopback, port: int, host: str
) -> None:
    with Listener(host, port):
        done = finished(site.ssh("-G", "jlab+demo"))
        assert "localforward" not in done.stdout
    assert f"localforward [127.0.0.1]:{port} " in finished(site.ssh("-G", "jlab+demo")).stdout


def test_a_forward_that_may_lead_to_a_stranger_at_an_older_session_is_told_nothing(
    site: Loopback, port: int
) -> None:
    """One whose job has another JLAB_TMPDIR than that of the newest."""
    (record,) = site.records()
    older = record.with_name(re.sub("lab$", "older", record.name))
    text = record.read_text()
    for key, value in (("id", older.name), ("name", "older"), ("socket_dir", "/tmp/elsewhere")):
        text = re.sub(f"(?m)^{key}=.*\n", "", text) + f"{key}={value}\n"
    with forwarding(site, port):
        older.write_text(text)
        then = record.stat().st_mtime - 60
        os.utime(older, (then, then))
        try:
            done = url(site)
        finally:
            older.unlink()
        assert (done.returncode, done.stdout) == (1, "")
        assert "may be connected to session older" in done.stderr
        assert url(site).returncode == 0


def test_a_directory_that_is_not_the_session_s_is_not_told_the_token(
    site: Loopback, port: int
) -> None:
    """As where JLAB_TMPDIR of the job is another than that of the login node."""
    text = site.config.read_text()
    site.config.write_text(re.sub(r"(LocalForward \S+) /\S+", r"\1 /tmp/elsewhere/lab.sock", text))
    try:
        with forwarding(site, port):
            done = url(site)
    finally:
        site.config.write_text(text)
    assert (done.returncode, done.stdout) == (1, "")
    assert "has its sockets in" in done.stderr
    assert "type jlab-proxy setup demo" in done.stderr


def test_open_and_setup_go_where_the_session_says(site: Loopback, port: int) -> None:
    """Whatever directory the block names."""
    text = site.config.read_text()
    site.config.write_text(re.sub(r"(LocalForward \S+) /\S+", r"\1 /tmp/elsewhere/lab.sock", text))
    command = site.proxy("open", "demo", "--no-browser")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}/lab?".encode())
        process.terminate()
    assert finished(site.proxy("setup", "demo", "--yes")).returncode == 0
    assert site.config.read_text() == text
