"""JupyterLab: its command line, and whether it lets us in, and nobody else."""

from __future__ import annotations

import http.client
import re
import shlex
import shutil
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import JlabError
from ...runtime.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

# A unix socket's path has at most 107 bytes; kernels make "kernel-<uuid>-ipc-<n>" in the runtime
# directory.
_SOCKET_PATH = 107
_KERNEL_SOCKET = len("/kernel-00000000-0000-0000-0000-000000000000-ipc-10")

# What one types for a jupyter-lab that is reached by a fixed port: a session has its own.
_NEEDLESS = re.compile(
    r"--((\w+App|\w*IdentityProvider)\.)?"
    r"(ip|port|port[-_]retries|token|open_browser|no[-_]browser)(=.*|$)",
    re.DOTALL,
)
_FLAG = re.compile(r"--no[-_]browser")  # a value does not follow it
_REFUSED_OPTION = re.compile(
    r"--((\w+App)\.)?(sock|sock[-_]mode)(=.*|$)|--ServerApp\.config_file(=.*|$)", re.DOTALL
)
_TIMEOUT = 10  # seconds for one request
_REFUSED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.FOUND)
_REMEDY = (
    "take the identity provider or login handler out of your Jupyter configuration "
    "(`jupyter --paths` says where its files are)"
)
# What must not be had without the token.
_PRIVATE = ("api/contents", "api/terminals", "api/status", "lab")


def find_command(command: str | None) -> list[str]:
    """Return the words that start jupyter-lab: those given, that on PATH, or that beside us.

    Raises JlabError.
    """
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise JlabError(f"--jupyter: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise JlabError(f"--jupyter: there is no command {words[0] if words else ''!r} here")
        return words
    beside = Path(sys.executable).with_name("jupyter-lab")
    found = shutil.which("jupyter-lab") or shutil.which(str(beside))
    if found is None:
        raise JlabError(
            "jupyter-lab is not on PATH",
            remedy="activate the environment that has it, or install it "
            "(pip install jupyterlab), or name it: jlab-node run --jupyter /path/to/jupyter-lab",
        )
    return [found]


def without_needless(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments for jupyter-lab, and the options that a session does not need.

    Those are the address, port and token of a jupyter-lab that one starts by hand. Raises JlabError
    for what would undo the session's own settings.
    """
    refused = [each.partition("=")[0] for each in arguments if _REFUSED_OPTION.fullmatch(each)]
    if refused:
        raise JlabError(f"jlab-node sets {' and '.join(refused)} itself", remedy="leave that out")
    kept: list[str] = []
    needless: list[str] = []
    words = iter(arguments)
    for word in words:
        if not _NEEDLESS.fullmatch(word):
            kept.append(word)
            continue
        needless.append(word.partition("=")[0])
        if "=" in word or _FLAG.fullmatch(word):
            continue
        value = next(words, "")  # `--port 8888`
        if value.startswith("-"):
            again, more = without_needless([value, *words])
            return [*kept, *again], [*needless, *more]
    return kept, needless


def split_config(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the user's `--config`, "" without one, and the other arguments.

    JupyterLab takes only one, which is ours: that brings the user's in.
    """
    found, rest = "", []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option == "--config":
            found = value if equals else next(words, "")
        else:
            rest.append(word)
    return found, rest


def arguments(channel: Sequence[str], extra: Sequence[str], *, is_root: bool) -> list[str]:
    """Return what follows the command's own words; `channel` is what leads it to this session."""
    return ["--no-browser", *channel, *(["--allow-root"] if is_root else []), *extra]


def check_runtime(runtime: Path) -> None:
    """Refuse a runtime directory that is too long for what kernels make in it; raises JlabError."""
    if len(str(runtime)) + _KERNEL_SOCKET > _SOCKET_PATH:
        raise JlabError(
            f"{runtime} is too long a path for the sockets of kernels",
            remedy="set JLAB_TMPDIR to a shorter directory on this node",
        )


def is_ready(where: Path | int, *, token: str, base_url: str = "/", tls: bool = False) -> bool:
    """Return whether it lets us in, and nobody else. Only for a socket or port of our child.

    False: not now. Raises JlabError when the user's own configuration sees to it that it never
    will: to publish an open server would be to give the account away.
    """
    with_token = _status(where, f"{base_url}api/status", token=token, tls=tls)
    if with_token in _REFUSED:
        raise JlabError(
            "JupyterLab does not take the token that jlab-node gave it",
            remedy=_REMEDY,
        )
    if with_token is None:
        return False
    if with_token != http.client.OK:
        raise JlabError(f"JupyterLab answers with HTTP status {with_token} at {base_url}api/status")
    return requires_token(where, base_url=base_url, tls=tls)


def requires_token(where: Path | int, *, base_url: str, tls: bool) -> bool:
    """Return whether it was seen to let nobody in without the token; False: it does not answer.

    Raises JlabError if it lets somebody in.
    """
    answered = True
    for each in _PRIVATE:
        found = _status(where, base_url + each, tls=tls)
        answered = answered and found is not None
        if found is not None and http.client.OK <= found < http.client.MULTIPLE_CHOICES:
            raise JlabError(
                "JupyterLab lets everybody in without a token",
                remedy=_REMEDY,
            )
    return answered


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, context: ssl.SSLContext | None) -> None:
        super().__init__(HOST, timeout=_TIMEOUT)
        self._path = path
        self._context = context

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(self._path))
            self.sock = self._context.wrap_socket(connection) if self._context else connection
        except BaseException:
            connection.close()
            raise


def _status(where: Path | int, path: str, *, token: str = "", tls: bool = False) -> int | None:
    """Return the HTTP status of `path`; None: there is no answer.

    Not by urllib: a proxy in the environment would get the token.
    """
    connection = _connection(where, _any_certificate() if tls else None)
    try:
        headers = {"Authorization": f"token {token}"} if token else {}
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except (OSError, UnicodeError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _connection(where: Path | int, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if not isinstance(where, int):
        return _UnixConnection(where, context)
    if context:
        return http.client.HTTPSConnection(HOST, where, timeout=_TIMEOUT, context=context)
    return http.client.HTTPConnection(HOST, where, timeout=_TIMEOUT)


def _any_certificate() -> ssl.SSLContext:
    """Return a context that trusts whoever has signed: the process is known to be our own child."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
