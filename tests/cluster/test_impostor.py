"""u4 listens where u2's session did, once that was killed, and gets nothing out of it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable

    from tests.cluster.conftest import Person, Said

PYTHON = "/opt/jlab/bin/python"

# Has the port as soon as it is free. Until its standard input ends, it answers as it was told and
# keeps what it hears; then it prints that. With a greeting it goes on as a real sshd, but has only
# a host key of its own.
IMPOSTOR = r"""
import json, socket, subprocess, sys, tempfile, threading, time
port, answer = int(sys.argv[1]), sys.argv[2].encode()
heard, place = [], tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
directory = place.name
log = f"{directory}/log"
open(log, "w").close()

def listen():
    while True:
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError:
            time.sleep(0.02)

def sshd():
    ours, theirs = socket.socketpair()
    key, config = f"{directory}/key{len(heard)}", f"{directory}/config{len(heard)}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with open(config, "w") as file:
        file.write(f"HostKey {key}\nLogLevel DEBUG3\nPasswordAuthentication yes\n")
    command = ["/usr/sbin/sshd", "-i", "-f", config, "-E", log]
    subprocess.Popen(command, stdin=theirs, stdout=theirs)
    theirs.close()
    return ours

def carry(there, back):
    while chunk := there.recv(65536):
        back.sendall(chunk)
    back.shutdown(socket.SHUT_WR)

def attend(client, number):
    client.sendall(answer)
    server = None
    if answer.startswith(b"jlab "):
        while not heard[number].endswith(b"\n"):
            heard[number] += client.recv(1)
        server = sshd()
        threading.Thread(target=carry, args=(server, client), daemon=True).start()
    try:
        while chunk := client.recv(65536):
            heard[number] += chunk
            if server:
                server.sendall(chunk)
    except OSError:
        pass
    client.close()

def serve(listener):
    while True:
        client, _ = listener.accept()
        heard.append(b"")
        threading.Thread(target=attend, args=(client, len(heard) - 1), daemon=True).start()

threading.Thread(target=serve, args=(listen(),), daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
print(json.dumps({"heard": [each.hex() for each in heard], "log": open(log).read()}))
place.cleanup()
"""


class Heard:
    """What an impostor was told."""

    def __init__(self) -> None:
        self.connections: list[bytes] = []
        self.log = ""


@contextlib.contextmanager
def impostor(person: Person, record: dict[str, str], answer: str) -> Iterator[Heard]:
    """u4 on the session's port for as long as this lasts; what it heard is known afterwards."""
    node = person.cluster.host(record["node"])
    process = subprocess.Popen(
        node.command([PYTHON, "-c", IMPOSTOR, record["ssh_port"], answer], "u4"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    heard = Heard()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield heard
    finally:
        printed = process.communicate()[0]
        if printed:
            found = json.loads(printed)
            heard.connections = [bytes.fromhex(each) for each in found["heard"]]
            heard.log = found["log"]


@pytest.fixture(scope="module")
def person(people: Callable[..., Person]) -> Person:
    return people(name="2")


@pytest.fixture(scope="module")
def killed(person: Person) -> str:
    """Text of the record of a session whose job was killed without a warning."""
    job = person.submit()
    person.wait_for_session(job)
    person.ssh("true")
    text = record_path(person, job).read_text()
    how = {"slurm": ["scancel", "--signal=KILL", "--full"], "oar": ["oardel"]}
    person.on_login(*how[person.site.scheduler], job)
    wait_until(lambda: job not in person.jobs(), "the job is gone")
    return text


@pytest.fixture
def dead(person: Person, killed: str) -> dict[str, str]:
    """The record is there, whoever has removed it."""
    record = dict(line.partition("=")[::2] for line in killed.splitlines())
    path = f".jlab/sessions/{record_path(person, record['job_id']).name}"
    person.on_login("sh", "-c", f"umask 077; cat > {path}", text=killed)
    return record


def record_path(person: Person, job: str) -> Path:
    return person.home / ".jlab" / "sessions" / f"{person.site.scheduler}-{job}-lab"


@pytest.mark.parametrize("answer", ["", "SSH-2.0-OpenSSH_9.2p1\r\n", "HTTP/1.1 400 \r\n\r\n"])
def test_whoever_is_not_the_session_hears_nothing(
    person: Person, dead: dict[str, str], answer: str
) -> None:
    """Nothing is sent before the first line has come, and it has to be the session's own."""
    with impostor(person, dead, answer) as heard:
        said = person.ssh("true")
    assert heard.connections, "it was tried"
    assert b"".join(heard.connections) == b""
    assert said.code == 255
    assert person.is_soon(said)
    is_over(said, person, dead)
    if answer:
        where = f"{dead['node']}:{dead['ssh_port']}"
        assert f"session lab is over: {where} belongs to another program now" in said.sentences
    assert person.records() == {}


def is_over(said: Said, person: Person, record: dict[str, str]) -> None:
    lines = said.sentences.splitlines()
    assert len(lines) == 2, said.stderr
    assert re.search("session lab is over: .*; its record is removed$", lines[0])
    assert "no session to connect to" in lines[1]


def test_one_that_knows_the_first_line_gets_no_further_than_the_host_key(
    person: Person, dead: dict[str, str]
) -> None:
    """That line is no secret: whoever connected to the session has seen it."""
    with impostor(person, dead, f"jlab {dead['nonce']}\r\n") as heard:
        said = person.ssh("true")
        assert said.code == 255
        assert person.is_soon(said)
        done = person.on_laptop("ssh", "-oForwardAgent=yes", "-vvv", f"jlab+{person.alias}")
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in said.stderr
    assert "Host key verification failed" in said.stderr
    assert "Offering public key" not in done.stderr
    assert len(heard.connections) == 2
    for each in heard.connections:
        # It is answered as the session would be, which is of no use after that has ended.
        knock, banner, packets = each.split(b"\n", 2)
        assert knock == f"jlab {dead['knock']}\r".encode()
        assert banner.startswith(b"SSH-2.0-OpenSSH_")
        # KEXINIT and the client's half of the key exchange; no NEWKEYS, so nothing that is
        # encrypted for this host either.
        assert message_types(packets) == [20, 30]
        for secret in (dead["token"], dead["nonce"]):
            assert secret.encode() not in each, secret
    assert "SSH2_MSG_KEXINIT received" in heard.log
    assert "userauth" not in heard.log
    # The address of a session that has ended is not given out either.
    done = person.on_laptop("jlab-proxy", "url", person.alias)
    assert done.returncode == 69
    assert dead["token"] not in done.stdout
    # Whatever listens there: a new session is the newest.
    job = person.submit()
    person.wait_for_session(job)
    said = person.ssh(f"echo ${person.site.job_variable}")
    assert said.stdout.strip() == job


def message_types(packets: bytes) -> list[int]:
    """Of unencrypted packets, RFC 4253, 6."""
    found = []
    while packets:
        found.append(packets[5])
        packets = packets[4 + int.from_bytes(packets[:4], "big") :]
    return found
