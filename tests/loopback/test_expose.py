"""`jlab-node expose`: names for other ports of the node, while a session lives."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY, finished, wait_until
from notebook import evaluate

from jlab_node.registry.record import parse
from tests.loopback.light import light

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopback import Loopback

    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full


# Says its word to whoever connects, until its stdin ends; prints its port.
SAYS = """
import socket, sys, threading
def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(sys.argv[2].encode())
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
listener = socket.create_server((sys.argv[1], int(sys.argv[3])))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def saying(word: str, *, address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A program that listens; its port."""
    with subprocess.Popen(
        [sys.executable, "-c", SAYS, address, word, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.communicate()


@contextlib.contextmanager
def stranger(*, address: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A socket of another user that listens."""
    if os.getuid():
        pytest.skip("only root can make another user's socket")
    os.seteuid(NOBODY)
    try:
        listener = socket.create_server((address, port))
    finally:
        os.seteuid(0)
    with listener:
        listener.setblocking(False)
        yield listener


def heard(site: Loopback, name: str) -> str:
    """What the socket of that name says, "" where it hangs up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(site.tmp / f"{name}.sock"))
        with contextlib.suppress(ConnectionResetError):
            return connection.recv(100).decode()
        return ""


def start(site: Loopback, name: str) -> subprocess.Popen[bytes]:
    """A session that runs."""
    process = site.start_session("--name", name, *light(site.root))
    site.wait_for_session(process)
    return process


def node(site: Loopback, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(site.node(*arguments), env=site.env)


def expose(site: Loopback, *arguments: str) -> dict[str, int]:
    """What the session exposes after this."""
    done = node(site, "expose", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout)["ports"])


def exposed(site: Loopback) -> list[list[str]]:
    """What is published of each session, the newest first."""
    return [each["exposed"] for each in json.loads(node(site, "ls", "--json").stdout)["sessions"]]


def test_from_its_beginning_to_its_end(site: Loopback) -> None:
    older = start(site, "older")
    session = start(site, "newest")
    path = next(each for each in site.records() if each.name.endswith("-newest"))
    published_at = path.stat().st_mtime
    with saying("hello") as one, saying("everywhere", address="0.0.0.0") as two:
        assert expose(site, "dask", str(one)) == {"dask": one}
        assert expose(site, "bokeh", str(two)) == {"dask": one, "bokeh": two}
        assert expose(site) == {"dask": one, "bokeh": two}
        assert (heard(site, "dask"), heard(site, "bokeh")) == ("hello", "everywhere")
        assert exposed(site) == [["dask", "bokeh"], []]
        assert parse(path.read_text()).exposed == "dask,bokeh"
        assert abs(path.stat().st_mtime - published_at) < 0.001, "it is no newer session for that"
        assert expose(site, "dask", str(two)) == {"dask": two, "bokeh": two}
        assert heard(site, "dask") == "everywhere"
        assert expose(site, "bokeh", "--stop") == {"dask": two}
        assert not (site.tmp / "bokeh.sock").is_symlink()
        assert exposed(site) == [["dask"], []]
    assert heard(site, "dask") == "", "nothing listens there any more"
    session.terminate()
    assert session.wait(timeout=30) == 143
    assert not (site.tmp / "dask.sock").is_symlink()
    assert expose(site) == {}, "the older session is asked now"
    older.terminate()
    assert older.wait(timeout=30) == 143
    assert "Traceback" not in (site.root / "job.log").read_text()


def test_what_a_person_is_told(site: Loopback) -> None:
    nobody = node(site, "expose", "dask", "8787")
    assert (nobody.returncode, nobody.stdout) == (69, "")
    assert nobody.stderr.startswith("jlab-node: no session of yours that could expose a port runs ")
    start(site, "gpu")
    assert node(site, "expose").stdout == "nothing is exposed: jlab-node expose NAME PORT\n"
    with saying("x") as port:
        said = node(site, "expose", "dask", str(port)).stdout.splitlines()
        assert said[0].startswith(f"dask leads to port {port}. On your computer, with ALIAS ")
        assert said[1] == f"  ssh -L 127.0.0.1:{port}:{site.tmp}/dask.sock jlab+ALIAS+gpu"
        assert node(site, "expose").stdout == f"dask  port {port}  {site.tmp}/dask.sock\n"
        assert node(site, "expose", "dask", "--stop").stdout == "dask is exposed no longer\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("lab", "PORT"), 1, "lab is the name of a session: take another one for port "),
        (("gpu", "PORT"), 1, "gpu is the name of a session: take another one for port "),
        (("dask", "1"), 1, "nothing of yours listens on 127.0.0.1:1 of "),
        (("dask", "--stop"), 1, "nothing is exposed as dask; exposed: none"),
        (("dask",), 2, "give NAME and PORT, or NAME and --stop, or none of them"),
        (("dask", "PORT", "--stop"), 2, "give NAME and PORT, or NAME and --stop, or none of them"),
        (("--stop",), 2, "give NAME and PORT, or NAME and --stop, or none of them"),
        (("../dask", "PORT"), 2, "a name is 1 to 32 of a-z"),
        (("dask", "65536"), 2, "65536 is not in the range"),
    ],
)
def test_what_is_refused(
    shared: Loopback, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    with saying("x") as port:
        words = [word.replace("PORT", str(port)) for word in arguments]
        done = node(shared, "expose", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert exposed(shared) == [[]]


@pytest.fixture(scope="module")
def shared() -> Iterator[Loopback]:
    """A site with a session that exposes nothing: leave it so."""
    from loopback import Loopback

    with Loopback() as site:
        start(site, "gpu")
        yield site


def test_another_users_port_is_refused(shared: Loopback) -> None:
    with stranger() as listener:
        port = listener.getsockname()[1]
        done = node(shared, "expose", "dask", str(port))
    assert done.returncode == 1
    assert f"nothing of yours listens on 127.0.0.1:{port} of " in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_another_user_takes_the_port_later(site: Loopback, address: str) -> None:
    """Then nobody is led to it; and when it is ours again, they are."""
    start(site, "gpu")
    with saying("mine") as port:
        expose(site, "dask", str(port))
        assert heard(site, "dask") == "mine"
    with stranger(address=address, port=port) as listener:
        assert heard(site, "dask") == ""
        with pytest.raises(BlockingIOError):
            listener.accept()
    with saying("mine again", port=port):
        assert heard(site, "dask") == "mine again"


def test_two_sessions_expose_the_same_name(site: Loopback) -> None:
    """The one that did so last has the link, the other takes over at its end."""
    sessions = {name: start(site, name) for name in ("one", "two")}

    def expose_in(session: str, port: int) -> None:
        # From a process of that session: its sshd.
        done = finished(site.ssh(f"jlab+demo+{session}", *site.node("expose", "dask", str(port))))
        assert (done.returncode, done.stderr) == (0, "")

    setup = site.proxy("setup", "demo", "--yes")
    subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with saying("one") as one, saying("two") as two:
        expose_in("two", two)
        expose_in("one", one)
        assert heard(site, "dask") == "one"
        expose_in("two", two)
        assert heard(site, "dask") == "two"
        assert exposed(site) == [["dask"], ["dask"]]
        sessions["two"].terminate()
        sessions["two"].wait(timeout=30)
        assert heard(site, "dask") == "one"


def test_a_session_that_is_called_like_an_exposed_port(site: Loopback) -> None:
    """Sessions come first: setup has written their names into an ssh config."""
    start(site, "one")
    with saying("hello") as port:
        expose(site, "dask", str(port))
        dask = start(site, "dask")
        assert (site.tmp / "dask.sock").resolve().name == "direct"
        dask.terminate()
        dask.wait(timeout=30)
        assert heard(site, "dask") == "hello"


def test_what_a_killed_session_exposed_is_cleared_away(site: Loopback) -> None:
    session = start(site, "one")
    with saying("hello") as port:
        expose(site, "dask", str(port))
        session.kill()
        session.wait()
        assert node(site, "expose").returncode == 69
        start(site, "two")
        assert not (site.tmp / "dask.sock").is_symlink()


def test_what_is_not_a_request_harms_nobody(site: Loopback) -> None:
    session = start(site, "one")
    (control,) = site.tmp.glob("*/control")
    for line in (b"", b"\n", b"x" * 100_000, b"\xff\xfe\n", b"{}\n", b'{"format": 3}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(control))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
                assert answer == b"" or "error" in json.loads(answer)
    silent = socket.socket(socket.AF_UNIX)
    with silent:
        silent.connect(str(control))
        assert expose(site) == {}
        session.terminate()
        assert session.wait(timeout=30) == 143
    assert "Traceback" not in (site.root / "job.log").read_text()


def test_many_at_once(site: Loopback) -> None:
    start(site, "one")
    with saying("hello") as port:
        names = [f"n{number}" for number in range(6)]
        threads = [threading.Thread(target=expose, args=(site, name, str(port))) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(exposed(site)[0]) == names
        assert [heard(site, name) for name in names] == ["hello"] * 6


def test_from_a_notebook(lab: Lab) -> None:
    """It finds its own session, although a newer one runs beside it."""
    newer = lab.site.start_session("--name", "newer", log=lab.site.root / "newer.log")
    wait_until(lambda: len(lab.site.records()) == 2, "the newer session is published")
    with saying("hello") as port:
        command = shlex.join([sys.executable, "-m", "jlab_node", "expose", "ours", str(port)])
        code = f"__import__('subprocess').getoutput({command!r}).split('. ')[0]"
        try:
            with contextlib.ExitStack() as stack:
                url = f"http://localhost:{lab.value('port')}/lab?token={lab.token}"
                said = evaluate(url, code)
                stack.callback(evaluate, url, code.replace(str(port), "--stop"))
                assert said == f"'ours leads to port {port}'"
                assert heard(lab.site, "ours") == "hello"
                assert exposed(lab.site) == [[], ["ours"]]
        finally:
            newer.terminate()
            newer.wait(timeout=30)
    assert exposed(lab.site) == [[]]


@contextlib.contextmanager
def saying_by_a_socket(path: Path, word: str) -> Iterator[None]:
    """A program of this user's that listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(word.encode())

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            path.unlink()


def test_a_unix_socket_that_only_its_user_can_replace_is_reached_without_a_relay(
    site: Loopback,
) -> None:
    """The link leads there, and to the relay again when the name is given to something else."""
    start(site, "one")
    link, place = site.tmp / "viewer.sock", Path(tempfile.mkdtemp(dir=Path.home()))
    path, in_tmp = place / "viewer.sock", site.root / "viewer.sock"
    with saying_by_a_socket(in_tmp, "in /tmp"):
        node(site, "expose", "viewer", str(in_tmp))
        assert site.tmp in link.resolve().parents, "others can make that directory when it is gone"
        assert heard(site, "viewer") == "in /tmp"
    with saying_by_a_socket(path, "first"):
        node(site, "expose", "viewer", str(path))
        assert (link.resolve(), heard(site, "viewer")) == (path, "first")
    with saying_by_a_socket(path, "started again"), saying("a port") as port:
        assert (link.resolve(), heard(site, "viewer")) == (path, "started again")
        (site.tmp / link.readlink()).unlink()  # a clean-up
        wait_until(lambda: link.resolve() == path, "it is made anew")
        expose(site, "viewer", str(port))
        assert (link.resolve().parent.parent, heard(site, "viewer")) == (site.tmp, "a port")
        node(site, "expose", "viewer", str(path))
        assert (link.resolve(), heard(site, "viewer")) == (path, "started again")
        older = start(site, "two")
        node(site, "expose", "viewer", str(path))
        older.terminate()
        older.wait(timeout=30)
        assert (link.resolve(), heard(site, "viewer")) == (path, "started again")
        node(site, "expose", "viewer", "--stop")
        assert not os.path.lexists(link)
        assert [each.suffix for each in site.tmp.glob("s-*/viewer*")] == []
    place.rmdir()


def test_a_unix_socket_by_its_name(site: Loopback) -> None:
    """And never another user's who has the path later."""
    session = start(site, "one")
    site.root.chmod(0o777)
    path = site.root / "viewer.sock"
    assert "nothing of yours listens on" in node(site, "expose", "viewer", str(path)).stderr
    assert "absolute path" in node(site, "expose", "viewer", "viewer.sock").stderr
    with saying_by_a_socket(path, "mine"):
        done = node(site, "expose", "viewer", str(path))
        assert f"viewer leads to {path}" in done.stdout, done.stderr
        assert heard(site, "viewer") == "mine"
        listed = json.loads(node(site, "expose", "--json").stdout)
        assert (listed["ports"], listed["sockets"]) == ({}, {"viewer": str(path)})
    assert heard(site, "viewer") == ""
    if not os.getuid():
        theirs = "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])"
        script = f"{theirs}; s.listen(); print(1, flush=True); s.accept()[0].sendall(b'theirs')"
        with subprocess.Popen(
            ["python3", "-c", script, str(path)], stdout=subprocess.PIPE, user=NOBODY, group=NOBODY,
            extra_groups=[],
        ) as other:  # fmt: skip
            assert other.stdout
            other.stdout.readline()
            path.chmod(0o777)
            assert heard(site, "viewer") == ""
            other.kill()
        path.unlink()
    with saying_by_a_socket(path, "mine again"):
        assert heard(site, "viewer") == "mine again"
    assert "is exposed no longer" in node(site, "expose", "viewer", "--stop").stdout
    session.terminate()
