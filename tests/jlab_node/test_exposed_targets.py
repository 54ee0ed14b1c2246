"""What is exposed leads to a program of the user's alone, whoever else has the same port."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from loopback import NOBODY

# Is bound to the port before its owner listens there, and calls each port that a connection may
# come from: that connection is then with it, by a simultaneous open. IP_MINTTL hides the refusal.
THIEF = """
import os, select, socket, sys
port, first, last, user = map(int, sys.argv[1:])
os.setuid(user)
def bound():
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made
def call(made, number):
    made.setsockopt(socket.IPPROTO_IP, 21, 255)
    try:
        made.connect(("127.0.0.1", number))
    except BlockingIOError:
        made.setsockopt(socket.IPPROTO_IP, 21, 0)
sockets = {number: bound() for number in range(first, last + 1)}
print("bound", flush=True)
sys.stdin.readline()
poll, known = select.epoll(), {}
for number, made in sockets.items():
    call(made, number)
    known[made.fileno()] = made, number
    poll.register(made, select.EPOLLOUT)
print("calls", flush=True)
while True:
    for descriptor, _ in poll.poll(1):
        made, number = known[descriptor]
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            call(made, number)
            continue
        poll.unregister(descriptor)
        made.setblocking(True)
        made.sendall(b"stolen")
"""
SERVER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"mine")
    connection.close()
"""
# In a network of its own, where few ports are left to come from.
ATTACK = f"""
import asyncio, collections, json, os, subprocess, sys
from jlab_node.session import exposed_targets
PORT, FIRST, LAST = "8787", "40000", "40040"
if sys.argv[1] == "guessed":
    exposed_targets._random_bytes = lambda: [0, 0, 1]
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write(f"{{FIRST}} {{LAST}}")
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
thief = subprocess.Popen(
    [sys.executable, "-c", {THIEF!r}, PORT, FIRST, LAST, "{NOBODY}"], **pipes)
assert thief.stdout.readline() == "bound\\n"
server = subprocess.Popen([sys.executable, "-c", {SERVER!r}, PORT], **pipes)
assert server.stdout.readline() == "listens\\n"
thief.stdin.write("go\\n")
thief.stdin.flush()
assert thief.stdout.readline() == "calls\\n"

class Client(asyncio.Protocol):
    def __init__(self):
        self.said = asyncio.get_running_loop().create_future()
    def data_received(self, data):
        self.said.done() or self.said.set_result(data.decode())

async def ask():
    client = Client()
    try:
        await exposed_targets.connect(int(PORT), lambda: client)
        return await asyncio.wait_for(client.said, 20)
    except ConnectionRefusedError:
        return "refused"

async def run():
    return collections.Counter([await ask() for _ in range(20)])

found = asyncio.run(run())
thief.kill()
server.kill()
print(json.dumps(found))
"""


@pytest.mark.root("it takes a network and another user")
@pytest.mark.parametrize("address", ["random", "guessed"])
def test_exposed_port_that_another_user_shares_leads_to_its_owner_alone(address: str) -> None:
    """Where he can guess from which address it is called, to nobody: nothing is said to him."""
    unshare = shutil.which("unshare")
    probe = [str(unshare), "--net", "true"]
    if not unshare or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no network of one's own here")
    script = f'ip link set lo up && exec {sys.executable} -c "$ATTACK" {address}'
    done = subprocess.run(
        [unshare, "--net", "sh", "-c", script],
        env={**os.environ, "ATTACK": ATTACK, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert "stolen" not in answers
    assert answers.get("mine", 0) == 20 if address == "random" else sum(answers.values()) == 20
