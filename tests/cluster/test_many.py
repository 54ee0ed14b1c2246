"""24 sessions at once on one node, of four users: each reaches its own, and nothing collides."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

from tests.cluster.conftest import Person

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable, TypeVar

    from testcluster import Cluster

    from tests.cluster.conftest import Site

    T = TypeVar("T")

NAMES = [f"s{number}" for number in range(6)]
USERS = "1234"
FIRST_PORT = 21000  # on the laptop

# On the laptop: what answers behind each port, to whom. argv: {port: [token, ...]} as JSON.
_ASK = """
import http.client, json, sys
answers = {}
for port, tokens in json.loads(sys.stdin.read()).items():
    for token in tokens:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
        answers.setdefault(port, []).append(connection.getresponse().status)
print(json.dumps(answers))
"""


@pytest.fixture
def people(cluster: Cluster, site: Site) -> Iterator[list[Person]]:
    made = [Person(cluster, site, name) for name in USERS]
    for each in made:
        each.clean_up()
        each.on_login("jlab-node", "setup")
        each.set_up()
    yield made
    for each in made:
        each.clean_up()


def at_once(people: list[Person], what: Callable[[Person], T]) -> list[T]:
    """Call that for all people together."""
    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(what, people))


@pytest.mark.nightly
@pytest.mark.timeout(1800, func_only=True)
def test_24_sessions_twice(people: list[Person]) -> None:
    for _ in range(2):
        one_round(people)
        at_once(people, Person.clean_up)


def one_round(people: list[Person]) -> None:
    jobs = at_once(people, lambda person: {name: person.submit(name=name) for name in NAMES})
    records = [all_up(person, mine) for person, mine in zip(people, jobs)]
    nothing_collides([record for mine in records for record in mine.values()])
    tokens = [[record["token"] for record in mine.values()] for mine in records]

    def check(number: int) -> None:
        others = [token for each in tokens if each != tokens[number] for token in each]
        reaches_its_own(people[number], jobs[number], tokens[number], others)

    with ThreadPoolExecutor(len(people)) as pool:
        list(pool.map(check, range(len(people))))


def all_up(person: Person, jobs: dict[str, str]) -> dict[str, dict[str, str]]:
    """The records by the names of the sessions."""
    found = {name: person.wait_for_session(job, seconds=240) for name, job in jobs.items()}
    assert [record["name"] for record in found.values()] == NAMES
    return found


def nothing_collides(records: list[dict[str, str]]) -> None:
    assert len(records) == len(USERS) * len(NAMES)
    assert len({record["node"] for record in records}) == 1, "all on one node"
    ports = [record[key] for record in records for key in ("port", "ssh_port")]
    assert len(set(ports)) == len(ports)
    for key in ("token", "nonce", "knock"):
        assert len({record[key] for record in records}) == len(records)


def reaches_its_own(
    person: Person, jobs: dict[str, str], tokens: list[str], others: list[str]
) -> None:
    """By its name each session is reached, and behind its socket answers the right JupyterLab."""
    variable = person.site.job_variable
    for name, job in jobs.items():
        said = person.ssh(f"id -un; echo ${variable}", session=name)
        assert said.stdout.split() == [person.user, job], said.stderr
    ports = [forward(person, name, number) for number, name in enumerate(NAMES)]
    listening = f"for p in {' '.join(ports)}; do : </dev/tcp/127.0.0.1/$p || exit 1; done"
    wait_until(
        lambda: person.on_laptop("bash", "-c", listening).returncode == 0,
        "the forwards are there",
        seconds=180,
    )
    asked = {port: [token, *others] for port, token in zip(ports, tokens)}
    script = person.on_laptop("/opt/jlab/bin/python", "-c", _ASK, text=json.dumps(asked))
    assert script.returncode == 0, script.stderr
    assert json.loads(script.stdout) == {port: [200, *(403 for _ in others)] for port in ports}


def forward(person: Person, name: str, number: int) -> str:
    """`ssh -L` to the session's socket; the local port."""
    port = str(FIRST_PORT + 10 * USERS.index(person.name) + number)
    socket = f"/tmp/jlab-{person.user}/{name}.sock"
    person.start("ssh", "-N", "-L", f"{port}:{socket}", f"jlab+{person.alias}+{name}")
    return port
