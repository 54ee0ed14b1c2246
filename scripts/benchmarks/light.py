"""What stands for JupyterLab where many sessions run: python light.py [jupyter-lab's arguments].

A real server on the port it is told, with the token it is told, that takes little memory. Of a
port that is taken it says so in a line, as JupyterLab does.
"""

from __future__ import annotations

import os
import re
import socket
import sys


def main() -> None:
    port = next(word.partition("=")[2] for word in sys.argv if "ServerApp.port=" in word)
    token = os.environ["JUPYTER_TOKEN"].encode()
    try:
        listener = socket.create_server(("127.0.0.1", int(port)), backlog=64)
    except OSError as error:
        sys.exit(f"ERROR: port {port}: {error.strerror}")
    while True:
        connection, _ = listener.accept()
        with connection:
            asked = connection.recv(65536)
            said = re.search(rb"(?i)^authorization: token (\S+)", asked, re.MULTILINE)
            status = b"200 OK" if said and said[1] == token else b"403 Forbidden"
            connection.sendall(b"HTTP/1.0 " + status + b"\r\nContent-Length: 0\r\n\r\n")


if __name__ == "__main__":
    main()
