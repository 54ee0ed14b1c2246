"""JupyterLab's words, and whether it lets us in, and nobody else."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jlab_node.errors import JlabError
from jlab_node.runtime.ports import HOST
from jlab_node.session.jupyter import program as jupyter

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "ab" * 32


class Handler(BaseHTTPRequestHandler):
    """Answers as a JupyterLab at /lab/ would."""

    is_open = ""

    def do_GET(self) -> None:
        if self.path == self.is_open and not self.headers["Authorization"]:
            self.send_response(http.client.OK)
        elif self.path.startswith("/lab/"):
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
    with HTTPServer((HOST, 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


class UnixServer(HTTPServer):
    """The same on a unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return self.socket.accept()[0], ("local", 0)


@contextmanager
def unix_server(path: Path) -> Iterator[None]:
    with UnixServer(str(path), Handler) as made:  # type: ignore[arg-type]
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        made.shutdown()
        thread.join()
    path.unlink()


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
        "--port=8888",
        "--no-browser",
        "--no_browser",
        "--port-retries=5",
        "--port_retries=5",
        "--ServerApp.ip=*",
        "--ServerApp.port=1",
        "--ServerApp.port_retries=5",
        "--ServerApp.token=",
        "--NotebookApp.token=''",
        "--token=x",
        "--ServerApp.open_browser=True",
        "--LabApp.ip=::",
        "--LabApp.open_browser=True",
        "--NotebookApp.token=x",
        "--IdentityProvider.token=x",
        "--IdentityProvider.token=x\ny",
        "--PasswordIdentityProvider.token=x",  # the class that jupyter-lab really uses
    ],
)
def test_argument_of_a_jupyter_lab_by_hand_is_left_out_and_named_without_its_value(
    argument: str,
) -> None:
    option = argument.partition("=")[0]
    found = jupyter.without_needless(["--notebook-dir=/data", argument, "--debug"])
    assert found == (["--notebook-dir=/data", "--debug"], [option])


@pytest.mark.parametrize(
    ("line", "kept", "needless"),
    [
        (
            "--no-browser --ip=0.0.0.0 --port=8888 --notebook-dir=/w",
            "--notebook-dir=/w",
            "--no-browser --ip --port",
        ),
        ("--ip 0.0.0.0 --port 8888 --no-browser", "", "--ip --port --no-browser"),
        ("--no-browser /work", "/work", "--no-browser"),
        ("--port --notebook-dir=/w", "--notebook-dir=/w", "--port"),
        ("--port --ip --debug", "--debug", "--port --ip"),
        ("--notebook-dir /w --port", "--notebook-dir /w", "--port"),
    ],
)
def test_option_line_of_the_older_way_is_sorted(line: str, kept: str, needless: str) -> None:
    assert jupyter.without_needless(line.split()) == (kept.split(), needless.split())


@pytest.mark.parametrize(
    "argument",
    [
        "--sock=/tmp/x",
        "--sock-mode=0666",
        "--ServerApp.sock=/tmp/x",
        "--ServerApp.config_file=/x",
        "--ServerApp.sock",
    ],
)
def test_argument_that_would_undo_the_session_is_refused(argument: str) -> None:
    option = argument.partition("=")[0]
    with pytest.raises(JlabError, match=rf"^jlab-node sets {option} itself: leave that out$"):
        jupyter.without_needless(["--debug", argument])


def test_all_arguments_that_are_refused_are_named_at_once() -> None:
    with pytest.raises(
        JlabError, match=r"^jlab-node sets --sock and --ServerApp.config_file itself"
    ):
        jupyter.without_needless(["--sock=/x", "--ServerApp.config_file=/y"])


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
        "port=1",
        "",
    ],
)
def test_other_arguments_are_the_users_own(argument: str) -> None:
    assert jupyter.without_needless([argument]) == ([argument], [])


def test_no_arguments_are_fine() -> None:
    assert jupyter.without_needless([]) == ([], [])


def test_arguments_of_jupyter_lab() -> None:
    made = jupyter.arguments(["--door"], ["--notebook-dir=/a b", "x"], is_root=False)
    assert made == ["--no-browser", "--door", "--notebook-dir=/a b", "x"]


@pytest.mark.parametrize("is_root", [True, False], ids=["root", "user"])
def test_only_root_has_to_insist(*, is_root: bool) -> None:
    assert ("--allow-root" in jupyter.arguments([], [], is_root=is_root)) is is_root


@pytest.mark.parametrize(
    ("arguments", "found", "rest"),
    [
        ([], "", []),
        (["a", "--configure=x", "b"], "", ["a", "--configure=x", "b"]),
        (["a", "--config=mine.py", "b"], "mine.py", ["a", "b"]),
        (["a", "--config", "mine.py", "b"], "mine.py", ["a", "b"]),
        (["--config"], "", []),
    ],
    ids=str,
)
def test_the_users_own_configuration_file(
    arguments: list[str], found: str, rest: list[str]
) -> None:
    assert jupyter.split_config(arguments) == (found, rest)


def test_longest_runtime_directory_just_takes_a_kernels_socket() -> None:
    room = 107 - len("/kernel-01234567-89ab-cdef-0123-456789abcdef-ipc-10")
    jupyter.check_runtime(Path("/" + "x" * (room - 1)))
    with pytest.raises(JlabError, match=r"is too long a path for the sockets.*set JLAB_TMPDIR"):
        jupyter.check_runtime(Path("/" + "x" * room))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sh", ["sh"]),
        ("sh -c 'conda run' x", ["sh", "-c", "conda run", "x"]),
        ("/bin/sh", ["/bin/sh"]),
    ],
)
def test_find_a_given_command(command: str, words: list[str]) -> None:
    assert jupyter.find_command(command) == words


@pytest.mark.parametrize(
    "command", ["", "  ", "no-such-command-here --x", "/no/such/jupyter-lab", "/tmp"], ids=repr
)
def test_find_a_command_that_is_not_there(command: str) -> None:
    with pytest.raises(JlabError, match=r"^--jupyter: there is no command '.*' here$"):
        jupyter.find_command(command)


def test_find_a_command_with_half_a_pair_of_quotes() -> None:
    with pytest.raises(JlabError, match=r"^--jupyter: "):
        jupyter.find_command("sh -c 'jupyter-lab")


def test_find_takes_the_one_on_path_before_the_one_beside_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(tmp_path / "bin/jupyter-lab")
    beside = program(tmp_path / "env/bin/jupyter-lab")
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert jupyter.find_command(None) == [str(on_path)]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jupyter.find_command(None) == [str(beside)]
    beside.chmod(0o644)
    with pytest.raises(JlabError, match="jupyter-lab is not on PATH: activate the environment"):
        jupyter.find_command(None)


@pytest.mark.parametrize(
    ("token", "url", "expected"),
    [
        pytest.param(TOKEN, "/lab/", True, id="ours"),
        pytest.param(TOKEN, "/a b/", False, id="not an address"),
        pytest.param(TOKEN, "/é/", False, id="not ASCII"),
    ],
)
def test_is_ready_with_the_token(server: int, token: str, url: str, *, expected: bool) -> None:
    assert jupyter.is_ready(server, token=token, base_url=url) is expected


def test_is_ready_by_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not jupyter.is_ready(path, token=TOKEN)
    with unix_server(path):
        assert jupyter.is_ready(path, token=TOKEN, base_url="/lab/")
    assert not jupyter.is_ready(path, token=TOKEN)


@pytest.mark.parametrize(("url", "status"), [("/", 404), ("/moved/", 302)])
def test_another_answer_is_told(server: int, url: str, status: int) -> None:
    with pytest.raises(
        JlabError, match=rf"does not take the token|answers with HTTP status {status} at {url}api"
    ):
        jupyter.is_ready(server, token=TOKEN, base_url=url)


def test_a_server_with_another_token_is_told(server: int) -> None:
    with pytest.raises(JlabError, match="does not take the token that jlab-node gave it"):
        jupyter.is_ready(server, token="cd" * 32, base_url="/lab/")


@pytest.mark.parametrize("path", ["api/status", "api/contents", "api/terminals", "lab"])
def test_a_server_that_has_one_open_door_is_told(server: int, path: str) -> None:
    Handler.is_open = f"/lab/{path}"
    try:
        with pytest.raises(JlabError, match="lets everybody in without a token"):
            jupyter.is_ready(server, token=TOKEN, base_url="/lab/")
    finally:
        Handler.is_open = ""


def test_token_goes_to_no_proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert jupyter.is_ready(server, token=TOKEN, base_url="/lab/")


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff" * 100, b"HTTP/1.1 2"], ids=repr
)
def test_what_is_no_http_server_does_not_answer(said: bytes) -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(said)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert not jupyter.is_ready(int(listener.getsockname()[1]), token=TOKEN)
        thread.join()


def test_closed_port_does_not_answer() -> None:
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        assert not jupyter.is_ready(int(bound.getsockname()[1]), token=TOKEN)
