"""200 sessions of four users that are started on one node at once, and ended at once."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from tests.cluster.conftest import Person
from tests.cluster.test_many import USERS, at_once
from tests.loopback.light import SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testcluster import Cluster

    from tests.cluster.conftest import Site

EACH = 50

_START = f"""
for number in $(seq {EACH}); do
    jlab-node run --here --name s$number --jupyter "/opt/jlab/bin/python -IS $HOME/light.py" \\
        </dev/null >log.$number 2>&1 &
done
wait
"""

# On the node, as the user: what each session's socket answers to its token and to another's, and
# how ~/.jlab/connect gets on with it.
_ASK = """
import json, os, pathlib, pwd, socket, subprocess
home = pathlib.Path(os.environ["HOME"])
base = f"/tmp/jlab-{pwd.getpwuid(os.getuid()).pw_name}"
records = [dict(line.split("=", 1) for line in path.read_text().splitlines())
           for path in (home / ".jlab/sessions").glob("local-*")]

def status(name, token):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(f"{base}/{name}.sock")
        connection.sendall(f"GET /api/status HTTP/1.0\\r\\nAuthorization: token {token}\\r\\n\\r\\n"
                           .encode())
        return connection.recv(12).decode()

def banner(name):
    connect = ["bash", str(home / ".jlab/connect"), f"--session={name}"]
    done = subprocess.run(connect, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.stdout[:4].decode() + done.stderr.decode()

print(json.dumps({
    each["name"]: [status(each["name"], each["token"]), status(each["name"], other["token"]),
                   banner(each["name"])]
    for each, other in zip(records, records[1:] + records[:1])
}))
"""


@pytest.fixture
def crowd(cluster: Cluster, site: Site) -> Iterator[list[Person]]:
    made = [Person(cluster, site, name) for name in USERS]
    for each in made:
        each.clean_up()
        each.on_login("jlab-node", "setup")
        each.write("light.py", SERVER)
        each.write("crowd.sh", _START)
    yield made
    for each in made:
        end(each, "KILL")
        each.clean_up()


def on_node(person: Person, *command: str, check: bool = False) -> str:
    node = person.cluster.host(person.site.nodes[0])
    return node.run(command, person.user, timeout=240, check=check).stdout


def end(person: Person, signal: str) -> None:
    """That signal to all sessions of the user on the node."""
    on_node(person, "pkill", f"-{signal}", "-u", person.user, "-f", "jlab-node run")


@pytest.mark.nightly
@pytest.mark.timeout(900, func_only=True)
@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_200_sessions(crowd: list[Person]) -> None:
    """Each publishes and is reached by its own name; no port is had twice; all end."""
    starts = [start(each) for each in crowd]

    def up() -> bool:
        assert [each.poll() for each in starts] == [None] * len(crowd), on_node(
            crowd[0], "tail", "log.1"
        )
        return all(len(each.records()) == EACH for each in crowd)

    wait_until(up, "all are up", seconds=400)
    records = [record for each in crowd for record in each.records().values()]
    ports = [record[key] for record in records for key in ("port", "ssh_port")]
    assert len(set(ports)) == len(ports) == 2 * EACH * len(crowd)
    answers = at_once(crowd, asked)
    right = ["HTTP/1.0 200", "HTTP/1.0 403", "SSH-"]
    names = [f"s{number + 1}" for number in range(EACH)]
    assert answers == [dict.fromkeys(names, right)] * len(crowd)
    for each in crowd:
        end(each, "TERM")
    assert [each.wait(timeout=200) for each in starts] == [0] * len(crowd)
    for each in crowd:
        nothing_is_left(each)


def start(person: Person) -> subprocess.Popen[str]:
    node = person.cluster.host(person.site.nodes[0])
    return subprocess.Popen(
        node.command(["sh", "./crowd.sh"], person.user), stdin=subprocess.DEVNULL, text=True
    )


def asked(person: Person) -> dict[str, list[str]]:
    printed = on_node(person, "/opt/jlab/bin/python", "-c", _ASK, check=True)
    return dict(sorted(json.loads(printed).items(), key=lambda item: int(item[0][1:])))


def nothing_is_left(person: Person) -> None:
    assert person.records() == {}
    assert on_node(person, "ls", f"/tmp/jlab-{person.user}") == "lock\n"
    assert on_node(person, "pgrep", "-u", person.user, "-f", "light.py|sshd") == ""
    logs = on_node(person, "sh", "-c", "cat log.*; rm log.*")
    assert logs.count("is over (exit code 143)") == EACH, logs
    assert "Traceback" not in logs
