"""`jlab-node expose`: a name in the user's directory on the node that leads to one more port.

The session relays (session/port_exposure.py), for as long as it lives. What asks it for that
sends one line to the socket `control` in its directory, and gets one back: JSON with a `format`
number, since the package may have been upgraded while the session runs.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import UNAVAILABLE, JlabError
from ..identifiers import MAX_PORT, NEWEST, is_id, is_name, is_socket_path
from . import session_lookup

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
_WITH_PATH = 2
_LONGEST = 4096  # bytes of a line
_TIMEOUT = 30.0  # seconds for the answer


@dataclass(frozen=True)
class Request:
    """Expose `port`, or the unix socket `path`, as `name`; neither: end that; no name: only ask."""

    name: str | None = None
    port: int | None = None
    path: str | None = None


@dataclass(frozen=True)
class Response:
    """The session's id, and what it exposes now."""

    session: str
    ports: dict[str, int]
    sockets: dict[str, str] = field(default_factory=dict)


def render(value: Request | Response | JlabError) -> bytes:
    """Return the line that is sent for that.

    An older session would take a request for a socket for another one, so that has a newer format.
    """
    known = {"error": str(value)} if isinstance(value, JlabError) else asdict(value)
    version = _WITH_PATH if isinstance(value, Request) and value.path else FORMAT
    return json.dumps({"format": version, **known}).encode() + b"\n"


def parse_request(line: bytes) -> Request:
    """Return what is asked for; raises JlabError."""
    values = _values(line, "the request")
    name, port, path = (values.get(key) for key in ("name", "port", "path"))
    if not all(
        value is None or fits(value)
        for value, fits in ((name, _is_name), (port, _is_port), (path, is_socket_path))
    ) or (port and path):
        raise JlabError("the request is not valid")
    return Request(name, port, path)


def parse_response(line: bytes) -> Response:
    """Return what the session answers; raises JlabError, with what it says if that is an error."""
    values = _values(line, "the session's answer")
    error, session, exposed = (values.get(key, "") for key in ("error", "session", "ports"))
    by_path = values.get("sockets", {})
    if error:
        raise JlabError(error if _is_sentence(error) else "the session's answer is not valid")
    if not (isinstance(session, str) and is_id(session) and isinstance(exposed, dict)):
        raise JlabError("the session's answer is not valid")
    if not (
        all(_is_name(name) and _is_port(port) for name, port in exposed.items())
        and isinstance(by_path, dict)
        and all(_is_name(name) and is_socket_path(path) for name, path in by_path.items())
    ):
        raise JlabError("the session's answer is not valid")
    return Response(session, exposed, by_path)


def _values(line: bytes, what: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
        version = values["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise JlabError(f"{what} is not valid") from None
    if version not in (FORMAT, _WITH_PATH):
        raise JlabError(
            "this session runs with another version of jlab-remote", remedy="start a new one"
        )
    return dict(values)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and is_name(value)


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_port(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_PORT


def ask(runtime_dir: Path, request: Request) -> Response:
    """Ask the session that this process belongs to, else the newest here, and return its answer.

    Raises JlabError.
    """
    session = session_lookup.session_of(os.getpid(), runtime_dir)
    try:
        if session is None:
            raise FileNotFoundError
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as answers:
            connection.settimeout(_TIMEOUT)
            connection.connect(str(session / session_lookup.CONTROL))
            connection.sendall(render(request))
            line = answers.readline(_LONGEST)
    except (FileNotFoundError, ConnectionRefusedError):
        raise JlabError(
            f"no session of yours that could expose a port runs on {socket.gethostname()}",
            remedy="type this in the job, in a terminal of JupyterLab or after `ssh jlab+...`",
            exit_code=UNAVAILABLE,
        ) from None
    except OSError as error:
        raise JlabError(f"the session does not answer: {error.strerror or error}") from error
    return parse_response(line)


def describe(request: Request, answer: Response, runtime_dir: Path) -> str:
    """Return what a person is told who has asked for that."""
    if request.name is None:
        known = [(name, f"port {port}") for name, port in answer.ports.items()]
        lines = [
            f"{name}  {what}  {runtime_dir / name}.sock"
            for name, what in [*known, *answer.sockets.items()]
        ]
        return "\n".join(lines) or "nothing is exposed: jlab-node expose NAME PORT"
    if request.port is None and request.path is None:
        return f"{request.name} is exposed no longer"
    session = answer.session.split("-", 2)[-1]
    target = "ALIAS" if session == NEWEST else f"ALIAS+{session}"
    what, port = (request.path, "PORT") if request.path else (f"port {request.port}", request.port)
    return (
        f"{request.name} leads to {what}. On your computer, with ALIAS for this "
        "cluster's name in your ~/.ssh/config:\n"
        f"  ssh -L 127.0.0.1:{port}:{runtime_dir / request.name}.sock jlab+{target}"
    )
