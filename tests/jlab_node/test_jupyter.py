"""JupyterLab's words and environment, and whether a port is really its port."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node import jupyter
from jlab_node.errors import JlabError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "ab" * 32

# A child that listens, or whose own child does; prints the port and stays until stdin ends.
LISTENS = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()
"""
CHILD_LISTENS = f"""
import subprocess, sys
sys.exit(subprocess.call([sys.executable, "-c", {LISTENS!r}, sys.argv[1]]))
"""


class Handler(BaseHTTPRequestHandler):
    """Answers as a JupyterLab at /lab/ would."""

    def do_GET(self) -> None:
        if self.path == "/lab/api/status":
            known = self.headers["Authorization"] == f"token {TOKEN}"
            self.send_response(http.client.OK if known else http.client.FORBIDDEN)
        elif self.path == "/moved/api/status":
            self.send_response(http.client.FOUND)
            self.send_header("Location", "/lab/api/status")
        else:
            self.send_response(http.client.NOT_FOUND)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a real HTTP server."""
    with HTTPServer((jupyter.HOST, 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


def runtime(directory: Path, url: str) -> Path:
    """A runtime directory in which a server says that this is its base URL."""
    (directory / "jpserver-1.json").write_text(json.dumps({"base_url": url}))
    return directory


@contextmanager
def child(script: str, host: str = jupyter.HOST) -> Iterator[tuple[int, int]]:
    """The pid of a real child, and the port on which it or its child listens."""
    with subprocess.Popen(
        [sys.executable, "-c", script, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.communicate()


def program(path: Path) -> Path:
    """An executable of that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "argument",
    [
        "--ip=0.0.0.0",
        "--ip",
        "--port=8888",
        "--port",
        "--port-retries=5",
        "--port_retries=5",
        "--sock=/tmp/x",
        "--ServerApp.ip=*",
        "--ServerApp.ip",
        "--ServerApp.port=1",
        "--ServerApp.port_retries=5",
        "--ServerApp.sock=/tmp/x",
        "--ServerApp.token=",
        "--ServerApp.open_browser=True",
        "--LabApp.ip=::",
        "--LabApp.open_browser=True",
        "--NotebookApp.token=x",
        "--IdentityProvider.token=x",
        "--IdentityProvider.token=x\ny",
        "--PasswordIdentityProvider.token=x",  # the class that jupyter-lab really uses
    ],
)
def test_argument_that_would_undo_ours_is_refused(argument: str) -> None:
    option = argument.partition("=")[0]
    with pytest.raises(JlabError, match=rf"^jlab-node sets {option} itself: leave it out after --"):
        jupyter.check_arguments(["--notebook-dir=/data", argument])


def test_refusal_does_not_repeat_the_token() -> None:
    with pytest.raises(JlabError) as caught:
        jupyter.check_arguments(["--IdentityProvider.token=secret"])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    [
        "/data/alice",
        "--notebook-dir=/data/ip",
        "--ServerApp.base_url=/alice/",
        "--ServerApp.root_dir=/data --port=1",
        "--ServerApp.allow_remote_access=True",
        "--ServerApp.port_number_of_mine=1",
        "--IdentityProvider.cookie_name=x",
        "--portable",
        "--ipython-dir=/x",
        "--collaborative",
        "--no-browser",
        "port=1",
        "",
    ],
)
def test_other_arguments_are_the_users_own(argument: str) -> None:
    jupyter.check_arguments([argument])


def test_no_arguments_are_fine() -> None:
    jupyter.check_arguments([])


def test_arguments() -> None:
    assert jupyter.arguments(4711, ["--notebook-dir=/a b", "x"], is_root=False) == [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=4711",
        "--ServerApp.port_retries=0",
        "--KernelManager.transport=ipc",
        "--notebook-dir=/a b",
        "x",
    ]


@pytest.mark.parametrize("is_root", [True, False], ids=["root", "user"])
def test_only_root_has_to_insist(*, is_root: bool) -> None:
    assert ("--allow-root" in jupyter.arguments(1, [], is_root=is_root)) is is_root


@pytest.mark.parametrize(
    ("extra", "ours"),
    [
        (["--KernelManager.transport=tcp"], False),
        (["--KernelManager.transport", "tcp"], False),
        (["--AsyncKernelManager.transport=tcp"], False),
        # jupyter-lab's own short form of it; it ends at once when it is told twice.
        (["--transport=tcp"], False),
        (["--KernelManager.transports=tcp"], True),
        (["--KernelManager.ip=127.0.0.1"], True),
        ([], True),
    ],
    ids=str,
)
def test_kernels_talk_over_ipc_unless_told_otherwise(extra: list[str], *, ours: bool) -> None:
    words = jupyter.arguments(1, extra, is_root=False)
    assert ("--KernelManager.transport=ipc" in words) is ours
    assert words[len(words) - len(extra) :] == extra


def test_environment_adds_the_token_and_the_directory() -> None:
    env = {"PATH": "/bin", "JUPYTER_TOKEN": "old", "JUPYTER_RUNTIME_DIR": "/old"}
    made = jupyter.environment(
        env, token=TOKEN, runtime=Path("/tmp/jlab-a/x/rt"), settings=Path("/s")
    )
    assert made == {
        "PATH": "/bin",
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTER_RUNTIME_DIR": "/tmp/jlab-a/x/rt",
        "JUPYTER_CONFIG_PATH": "/s",
    }
    assert env["JUPYTER_TOKEN"] == "old"


def test_the_users_own_directories_of_configuration_stay() -> None:
    env = {"JUPYTER_CONFIG_PATH": "/a:/b"}
    made = jupyter.environment(env, token=TOKEN, runtime=Path("/r"), settings=Path("/s"))
    assert made["JUPYTER_CONFIG_PATH"] == "/s:/a:/b"


def test_longest_runtime_directory_just_takes_a_kernels_socket() -> None:
    room = 107 - len("/kernel-01234567-89ab-cdef-0123-456789abcdef-ipc-10")
    jupyter.environment({}, token=TOKEN, runtime=Path("/" + "x" * (room - 1)), settings=Path("/s"))
    with pytest.raises(JlabError, match=r"is too long a path for the sockets.*set JLAB_TMPDIR"):
        jupyter.environment({}, token=TOKEN, runtime=Path("/" + "x" * room), settings=Path("/s"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh", ["sh"]),
        ("sh -c 'conda run' x", ["sh", "-c", "conda run", "x"]),
        ("/bin/sh", ["/bin/sh"]),
    ],
)
def test_find_a_given_command(command: str, words: list[str]) -> None:
    assert jupyter.find(command) == words


@pytest.mark.parametrize(
    "command", ["", "  ", "no-such-command-here --x", "/no/such/jupyter-lab", "/tmp"], ids=repr
)
def test_find_a_command_that_is_not_there(command: str) -> None:
    with pytest.raises(JlabError, match=r"^--jupyter: there is no command '.*' here$"):
        jupyter.find(command)


def test_find_a_command_with_half_a_pair_of_quotes() -> None:
    with pytest.raises(JlabError, match=r"^--jupyter: "):
        jupyter.find("sh -c 'jupyter-lab")


def test_find_takes_the_one_on_path_before_the_one_beside_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(tmp_path / "bin/jupyter-lab")
    beside = program(tmp_path / "env/bin/jupyter-lab")
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert jupyter.find(None) == [str(on_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jupyter.find(None) == [str(beside)]
    beside.chmod(0o644)
    with pytest.raises(JlabError, match="jupyter-lab is not on PATH: activate the environment"):
        jupyter.find(None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            json.dumps({"base_url": "/alice/", "port": 1}).encode(), "/alice/", id="given"
        ),
        pytest.param(b"", "/", id="not written yet"),
        pytest.param(b'{"base_url": "/al', "/", id="half written"),
        pytest.param(b'{"port": 1}', "/", id="without"),
        pytest.param(b"[]", "/", id="a list"),
        pytest.param(b"\xff", "/", id="not text"),
        pytest.param(None, "/", id="no file"),
    ],
)
def test_base_url(tmp_path: Path, content: bytes | None, expected: str) -> None:
    (tmp_path / "kernel-1.json").write_text('{"base_url": "/wrong/"}')
    if content is not None:
        (tmp_path / "jpserver-1.json").write_bytes(content)
    assert jupyter.base_url(tmp_path) == expected


def test_base_url_where_there_is_no_directory(tmp_path: Path) -> None:
    assert jupyter.base_url(tmp_path / "gone") == "/"


def test_accepts() -> None:
    with socket.create_server((jupyter.HOST, 0)) as listener:
        port = int(listener.getsockname()[1])
        assert jupyter.accepts(port)
    with socket.socket() as bound:  # has a port, but does not listen
        bound.bind((jupyter.HOST, 0))
        assert not jupyter.accepts(int(bound.getsockname()[1]))


@pytest.mark.parametrize("script", [LISTENS, CHILD_LISTENS], ids=["itself", "its child"])
def test_port_belongs_to_the_process_that_listens(script: str) -> None:
    with child(script) as (pid, port), socket.create_server((jupyter.HOST, 0)) as other:
        assert jupyter.belongs_to(port, pid)
        assert jupyter.belongs_to(port, os.getpid())  # the ancestor of both
        assert not jupyter.belongs_to(int(other.getsockname()[1]), pid)


def test_port_of_a_socket_on_all_addresses_is_not_what_was_asked_for() -> None:
    with child(LISTENS, "0.0.0.0") as (pid, port):
        assert jupyter.accepts(port)
        assert not jupyter.belongs_to(port, pid)


def test_connected_or_bound_is_not_listening(server: int) -> None:
    with socket.create_connection((jupyter.HOST, server)) as connection:
        assert not jupyter.belongs_to(int(connection.getsockname()[1]), os.getpid())
    with socket.socket() as bound:
        bound.bind((jupyter.HOST, 0))
        assert not jupyter.belongs_to(int(bound.getsockname()[1]), os.getpid())


def test_nothing_belongs_to_a_process_that_has_ended(server: int) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert not jupyter.belongs_to(server, process.pid)


@pytest.mark.parametrize(
    ("token", "url", "expected"),
    [
        pytest.param(TOKEN, "/lab/", True, id="ours"),
        pytest.param(TOKEN, "/", False, id="wrong address"),
        pytest.param(TOKEN, "/moved/", False, id="redirected"),
        pytest.param(TOKEN, "/a b/", False, id="not an address"),
        pytest.param(TOKEN, "/é/", False, id="not ASCII"),
    ],
)
def test_answers(server: int, tmp_path: Path, token: str, url: str, *, expected: bool) -> None:
    assert jupyter.answers(server, token=token, runtime=runtime(tmp_path, url)) is expected


def test_a_server_with_another_token_is_told(server: int, tmp_path: Path) -> None:
    with pytest.raises(JlabError, match="does not take the token that jlab-node gave it"):
        jupyter.answers(server, token="cd" * 32, runtime=runtime(tmp_path, "/lab/"))


def test_token_goes_to_no_proxy(
    server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert jupyter.answers(server, token=TOKEN, runtime=runtime(tmp_path, "/lab/"))


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff" * 100, b"HTTP/1.1 2"], ids=repr
)
def test_what_is_no_http_server_does_not_answer(said: bytes, tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(said)

    with socket.create_server((jupyter.HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert not jupyter.answers(int(listener.getsockname()[1]), token=TOKEN, runtime=tmp_path)
        thread.join()


def test_closed_port_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind((jupyter.HOST, 0))
        assert not jupyter.answers(int(bound.getsockname()[1]), token=TOKEN, runtime=tmp_path)
