"""What editors do with `jlab+demo`: the sequence of VS Code's Remote-SSH; git over ssh."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.loopback.conftest import Lab

pytestmark = pytest.mark.full

HOST = "jlab+demo"

# Like the script that VS Code sends: marks its answer, starts a server that outlives it, stays.
SCRIPT = """\
echo "mark: start"
echo "job==$SLURM_JOB_ID=="
python3 -c '{server}' &
wait $!
"""
SERVER = """\
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(f"listeningOn=={listener.getsockname()[1]}==", flush=True)
    for number in (1, 2):
        connection, _ = listener.accept()
        connection.sendall(connection.recv(99).upper())
        connection.close()
print("mark: end")
"""


@contextlib.contextmanager
def through(proxy: int, port: int) -> Iterator[socket.socket]:
    """A connection to a port of the job by way of ssh's SOCKS proxy."""
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as socks:
        socks.sendall(b"\x05\x01\x00")
        assert socks.recv(2) == b"\x05\x00"
        socks.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
        assert socks.recv(10)[1] == 0
        yield socks


def everything(connection: socket.socket) -> bytes:
    said = b""
    while more := connection.recv(65536):
        said += more
    return said


class Window:
    """What one window of VS Code runs: a shell without a terminal, and a SOCKS proxy."""

    def __init__(self, lab: Lab, log: Path) -> None:
        self.proxy = free_port()
        self.log = log
        options = ["-v", "-T", "-D", str(self.proxy), "-o", "ConnectTimeout=15"]
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                lab.site.ssh(*options, HOST, "bash"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def send(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> int:
        """End of input is how a window goes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code


def test_two_windows_of_vs_code(lab: Lab, tmp_path: Path) -> None:
    first, second = (Window(lab, tmp_path / name) for name in ("first", "second"))
    try:
        first.send(SCRIPT.format(server=SERVER))
        assert [first.line(), first.line()] == ["mark: start", "job==4711=="]
        listening = re.fullmatch("listeningOn==([0-9]+)==", first.line())
        assert listening is not None
        # The other window finds the server that the first has started.
        second.send("echo second-$SLURM_JOB_ID\n")
        assert second.line() == "second-4711"
        for window in (first, second):
            wait_until(lambda w=window: accepts(w.proxy), "the SOCKS proxy listens")
            with through(window.proxy, int(listening[1])) as connection:
                connection.sendall(b"hello")
                assert everything(connection) == b"HELLO"
        assert first.line() == "mark: end"
        # JupyterLab is among what the editor can reach.
        request = f"GET /api/status HTTP/1.0\r\nAuthorization: token {lab.token}\r\n\r\n"
        with through(second.proxy, int(lab.value("port"))) as connection:
            connection.sendall(request.encode())
            assert everything(connection).startswith(b"HTTP/1.1 200 OK")
    finally:
        codes = [first.close(), second.close()]
    assert codes == [0, 0]
    for window in (first, second):
        assert "Authenticated to jlab+demo" in window.log.read_text()


def test_vs_code_lists_the_host(lab: Lab) -> None:
    """It lists the names of Host lines, but no patterns, and reads no Include."""
    text = lab.site.config.read_text()
    names = [
        name for line in re.findall("^Host (.*)$", text, re.MULTILINE) for name in line.split()
    ]
    assert {name for name in names if not re.search("[*?!]", name)} == {HOST, "demo"}
    assert "Include" not in text


@pytest.mark.parametrize("form", ["{host}:{path}", "ssh://{host}{path}"])
def test_git(lab: Lab, plain_ssh: dict[str, str], tmp_path: Path, form: str) -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "safe.directory=*"]
        done = subprocess.run(
            ["git", *who, *arguments], env=plain_ssh, check=True, capture_output=True, text=True
        )
        return done.stdout

    there = lab.site.home / f"{tmp_path.name}.git"
    git("init", "-q", "--bare", str(there))
    url = form.format(host=HOST, path=there)
    work = tmp_path / "work"
    git("clone", "-q", url, str(work))
    (work / "notebook.ipynb").write_text("{}\n")
    git("-C", str(work), "add", "notebook.ipynb")
    git("-C", str(work), "commit", "-qm", "from the laptop")
    git("-C", str(work), "push", "-q", "origin", "HEAD:main")
    git("clone", "-q", "--branch", "main", url, str(tmp_path / "again"))
    assert (tmp_path / "again" / "notebook.ipynb").read_text() == "{}\n"
    assert git("-C", str(there), "log", "--format=%s", "main") == "from the laptop\n"
