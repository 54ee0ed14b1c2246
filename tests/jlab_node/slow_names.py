"""python slow_names.py PORT COMMAND: where names are looked up slowly, and lead to a silent node.

Run as root in a mount and a network namespace of its own; the command has a minute. See
test_connect_bash.py.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading

_DELAY = 4.0  # seconds: more than connect.bash has for a node, less than a resolver has
_SETTINGS = {"/etc/resolv.conf": "nameserver 127.0.0.1", "/etc/nsswitch.conf": "hosts: dns"}
_A = b"\0\1"  # RFC 1035, 3.2.2: a question for an IPv4 address
_HERE = b"\xc0\x0c" + _A + b"\0\1" + b"\0\0\0\0" + b"\0\4" + socket.inet_aton("127.0.0.1")


def main() -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with contextlib.ExitStack() as stack:
        for path, text in _SETTINGS.items():
            ours = stack.enter_context(tempfile.NamedTemporaryFile("w"))
            print(text, file=ours, flush=True)
            subprocess.run(["mount", "--bind", ours.name, path], check=True)
        names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        names.bind(("127.0.0.1", 53))
        threading.Thread(target=serve, args=(names,), daemon=True).start()
        node = stack.enter_context(socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=0))
        for _ in range(3):  # more than it takes: whoever else comes hears nothing
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(node.getsockname())
        return subprocess.run(sys.argv[2:], timeout=60, check=False).returncode


def serve(names: socket.socket) -> None:
    """Answer each question after a while; those for IPv6 with nothing."""
    while True:
        question, asker = names.recvfrom(512)
        threading.Timer(_DELAY, names.sendto, (answer(question), asker)).start()


def answer(question: bytes) -> bytes:
    end = question.index(b"\0", 12) + 5  # of the name, its type and class
    found = _HERE if question[end - 4 : end - 2] == _A else b""
    counts = b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0\0\0\0"
    return question[:2] + b"\x81\x80" + counts + question[12:end] + found


if __name__ == "__main__":
    sys.exit(main())
