"""u4 takes /tmp/jlab-u2, which sessions of u2's use, before u2 does."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from tests.cluster.conftest import PORTS
from tests.cluster.test_ladder import refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from testcluster import Host

    from tests.cluster.conftest import Person


@pytest.fixture
def account() -> str:
    return "2"


SQUATS = {
    "a directory": "mkdir /tmp/jlab-u2",
    "one for everybody": "mkdir -m 777 /tmp/jlab-u2",
    "a link": "mkdir -m 777 /tmp/theirs; ln -s theirs /tmp/jlab-u2",
    "a file": "touch /tmp/jlab-u2",
}


@pytest.fixture
def squat(person: Person) -> Iterator[Callable[[Host, str], None]]:
    """Let the neighbour have /tmp/jlab-u2 first."""
    hosts = [person.login, *(person.cluster.host(name) for name in person.site.nodes)]

    def free() -> None:
        for host in hosts:
            host.run(["rm", "-rf", "/tmp/jlab-u2", "/tmp/theirs"], check=True)

    def take(host: Host, kind: str) -> None:
        free()
        host.run(["sh", "-c", SQUATS[kind]], "u4", check=True)

    yield take
    person.clean_up()  # a session that lives would make its directory again meanwhile
    free()


def test_a_directory_that_is_taken_on_the_node(
    person: Person, squat: Callable[[Host, str], None]
) -> None:
    node = person.cluster.host(person.site.nodes[0])
    sentence = (
        "jlab-node: /tmp/jlab-u2 belongs to user u4, not to you: ask the administrators to remove "
        "it, and until then use another node"
    )
    for kind in SQUATS:
        squat(node, kind)
        done = node.run(["jlab-node", "run", "--here"], person.user)
        assert done.returncode == 1, kind
        assert done.stderr.splitlines()[1:] == [sentence], kind
        assert node.run(["find", "/tmp/jlab-u2/", "-mindepth", "1"]).stdout == "", kind
    job = person.submit()
    wait_until(lambda: job not in person.jobs(), "the job ends", seconds=60)
    log = "".join(path.read_text() for path in person.home.glob(f"*{job}*"))
    assert sentence in log
    assert person.records() == {}
    person.wait_for_session(person.submit(node=1))
    assert person.ssh("hostname").stdout.split() == [person.site.nodes[1]], "as it said"


def test_a_directory_that_is_taken_on_the_login_node(
    person: Person, squat: Callable[[Host, str], None]
) -> None:
    """It plays no part there: neither when the session answers nor while one waits for it."""
    squat(person.login, "one for everybody")
    said = person.ssh("true")
    assert "no session to connect to" in said.sentences
    # What the neighbour could plant: a session that starts for ever.
    plant = (
        "cd /tmp/jlab-u2; touch lab.sock; mkdir s-xxxxxx; cd s-xxxxxx; "
        "echo local-1-lab > starting; ln -s jlab-node:n1: owner"
    )
    person.login.run(["sh", "-c", plant], "u4", check=True)
    said = person.ssh("true")
    assert "no session to connect to" in said.sentences
    person.submit()
    waiting = person.start("ssh", f"jlab+{person.alias}", "hostname")
    stdout, stderr = waiting.communicate(timeout=120)
    assert stdout.split() == [person.site.nodes[0]], stderr
    assert person.ssh("hostname").stdout == stdout
    assert person.evaluate(person.open_forward()) == "42"


# Whoever is led there is heard.
LISTENS = """
import os, socket
os.mkdir("/tmp/jlab-u2")
os.chmod("/tmp/jlab-u2", 0o755)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/tmp/jlab-u2/lab.sock")
os.chmod("/tmp/jlab-u2/lab.sock", 0o777)
listener.listen()
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    print("somebody came", connection.recv(4096), flush=True)
"""


def test_who_has_the_usual_directory_hears_nothing_of_a_session_in_another(
    person: Person, squat: Callable[[Host, str], None]
) -> None:
    """The job says JLAB_TMPDIR, as one does there; and TCP is blocked, so that a step leads in."""
    node = person.cluster.host(person.site.nodes[0])
    node.run(["rm", "-rf", "/tmp/jlab-u2"], check=True)  # the last test's
    with subprocess.Popen(
        node.command(["python3", "-c", LISTENS], "u4"), stdout=subprocess.PIPE, text=True
    ) as neighbour:
        try:
            assert neighbour.stdout
            assert neighbour.stdout.readline() == "ready\n"
            record = person.wait_for_session(person.submit(before="export JLAB_TMPDIR=/tmp/jv2"))
            assert record["socket_dir"] == "/tmp/jv2/jlab-u2"
            with refused(person, f"{PORTS[0]}-{PORTS[1]}"):
                assert person.ssh("hostname").stdout == f"{node.name}\n"
                tunnel = person.start("ssh", "-N", person.target())
                person.wait_for_forward(tunnel)
                said = person.on_laptop("jlab-proxy", "url", person.alias)
                assert (said.returncode, said.stdout) == (1, "")
                assert "has its sockets in /tmp/jv2/jlab-u2" in said.stderr
                tunnel.terminate()
                tunnel.wait()
                opened = person.start("jlab-proxy", "open", person.alias, "--no-browser")
                assert opened.stdout
                assert person.evaluate(opened.stdout.readline().strip()) == "42"
        finally:
            neighbour.terminate()
        assert neighbour.stdout.read() == "", "nobody came"
    node.run(["rm", "-rf", "/tmp/jv2"])
