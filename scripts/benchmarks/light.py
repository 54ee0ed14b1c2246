"""What stands for JupyterLab where many sessions run: python light.py [jupyter-lab's arguments].

A real server on the socket that it is told, and on the port when it is asked for that, with the
token of its configuration file. It takes little memory.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable


def argument(name: str) -> str:
    """Value of the argument --ServerApp.NAME."""
    start = f"--ServerApp.{name}="
    return next(word[len(start) :] for word in sys.argv if word.startswith(start))


def setting(name: str) -> str:
    """What jlab-node wrote for the session into the configuration file."""
    with open(argument("config_file"), encoding="utf-8") as file:  # noqa: PTH123
        found = re.findall(rf"'{name}': '([^']*)'", file.read())
    return str(found[-1])


def listen() -> socket.socket:
    """The socket on which it is to answer."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(argument("sock"))
    except OSError as error:
        sys.exit(f"ERROR: {argument('sock')}: {error.strerror}")
    listener.listen(64)
    return listener


def attend(listener: socket.socket, token: bytes) -> None:
    """Answer all that comes, one after the other."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            asked = connection.recv(65536)
            said = re.search(rb"(?i)^authorization: token (\S+)", asked, re.MULTILINE)
            status = b"200 OK" if said and said[1] == token else b"403 Forbidden"
            connection.sendall(b"HTTP/1.0 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            # Whoever ends a connection first keeps its port for a minute; JupyterLab does not.
            connection.settimeout(0.3)
            connection.recv(1)


def obey(token: bytes) -> None:
    """Tell jlab-node that it listens, and do what that asks for until it is gone."""
    hello = {"base_url": "/", "secure": False, "transport": "ipc", "strange": [], "debugger": False}
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(setting("control"))
        connection.sendall(json.dumps(hello).encode() + b"\n")
        for line in connection.makefile("rb"):
            request = json.loads(line)
            if "listen" in request:  # its socket has been removed
                with contextlib.suppress(SystemExit):
                    start(attend, listen(), token)
            port = request.get("port")
            if port is None:
                continue
            try:
                start(attend, socket.create_server(("127.0.0.1", port), backlog=64), token)
                answer = {"port": port}
            except OSError as error:
                answer = {"error": str(error)}
            connection.sendall(json.dumps(answer).encode() + b"\n")


def start(work: Callable[..., None], *arguments: object) -> None:
    """In a thread of its own, which ends with the program."""
    threading.Thread(target=work, args=arguments, daemon=True).start()


def main() -> None:
    token = setting("token").encode()
    start(attend, listen(), token)
    obey(token)


if __name__ == "__main__":
    main()
