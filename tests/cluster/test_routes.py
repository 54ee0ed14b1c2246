"""Login nodes that are not reached straight, or do not forward anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from tests.cluster.conftest import Person


@pytest.fixture(scope="module", params=["noforward", "jump"])
def person(request: pytest.FixtureRequest, people: Callable[..., Person]) -> Iterator[Person]:
    """u3 with a session, whose laptop knows the login node under another name.

    noforward: its sshd has `AllowTcpForwarding no`. jump: it is behind a bastion.
    """
    site = request.getfixturevalue("site")
    made = people(name="3", alias=f"{site.login}-{request.param}")
    made.wait_for_session(made.submit())
    yield made
    made.clean_up()


def test_there_is_no_other_way(person: Person) -> None:
    """The route is what it says: else these tests show nothing."""
    if person.alias.endswith("-noforward"):
        said = person.on_laptop("ssh", "-W", f"{person.site.nodes[0]}:22", person.alias)
        assert "administratively prohibited" in said.stderr
    else:
        said = person.on_laptop("ssh", person.alias, "echo $SSH_CONNECTION")
        address = person.cluster.host("bastion").run(["hostname", "-I"]).stdout.split()[0]
        assert said.stdout.startswith(f"{address} "), said.stderr


def test_a_shell(person: Person) -> None:
    (job,) = person.records()
    terminal = person.terminal("ssh", person.target())
    terminal.read_until(r"\$ $")
    terminal.type(f"hostname; echo ${person.site.job_variable}.\n")
    terminal.read_until(rf"{person.site.nodes[0]}\s+{job}\.")
    terminal.type("exit 4\n")
    assert terminal.wait() == 4


def test_a_command(person: Person) -> None:
    said = person.ssh("echo out; echo err >&2; exit 3")
    assert (said.code, said.stdout, said.stderr) == (3, "out\n", "err\n")


def test_a_kernel(person: Person) -> None:
    (job,) = person.records()
    url = person.open_forward()
    assert person.evaluate(url) == "42"
    where = person.evaluate(url, f"__import__('os').environ['{person.site.job_variable}']")
    assert where == repr(job), "it is in the job"


def test_scp(person: Person) -> None:
    person.on_laptop("sh", "-c", "head -c 1000000 /dev/urandom >sent")
    target = person.target()
    done = person.on_laptop(
        "sh", "-ec", f"scp -q sent {target}:sent; scp -q {target}:sent back; cmp sent back"
    )
    assert done.returncode == 0, done.stderr
    person.on_login("rm", "sent")
    person.on_laptop("rm", "sent", "back")


def test_it_waits_for_a_session(person: Person) -> None:
    """The word that there is none comes through as well."""
    said = person.ssh("true", session="none")
    assert said.code == 255
    assert "no session called none" in said.sentences
