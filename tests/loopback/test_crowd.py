"""200 sessions that are started on one machine at once, 50 in each of four homes, and ended."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from loopback import Loopback, wait_until

from jlab_node.registry.record import Record, parse
from tests.loopback.conftest import answers
from tests.loopback.light import light, ours

if TYPE_CHECKING:
    from collections.abc import Iterator

HOMES = 4
NAMES = [f"s{number}" for number in range(50)]


@pytest.fixture
def sites() -> Iterator[list[Loopback]]:
    """Homes and directories on the node as of four users, who know nothing of each other."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Loopback()) for _ in range(HOMES)]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_200_at_once(sites: list[Loopback]) -> None:
    """Each publishes and is reached by its own name; no port is had twice; all end."""
    lights = [light(site.root) for site in sites]
    sessions = [
        site.start_session("--name", name, *arguments)
        for name in NAMES
        for site, arguments in zip(sites, lights)
    ]
    everything = len(NAMES) * HOMES

    def up() -> bool:
        failed = [each for each in sessions if each.poll() is not None]
        if failed:
            print(*((site.root / "job.log").read_text() for site in sites))  # an assertion cuts it
        assert not failed
        return sum(len(site.records()) for site in sites) == everything

    wait_until(up, "all are published", seconds=400)
    records = [[parse(path.read_text()) for path in site.records()] for site in sites]
    ports = [port for mine in records for each in mine for port in (each.port, each.ssh_port)]
    assert len(set(ports)) == 2 * everything
    others = [*records[1:], records[0]]
    for site, mine, another in zip(sites, records, others):
        assert {each.name for each in mine} == set(NAMES)
        for each, foreign in zip(mine, another):
            reaches_its_own(site, each, foreign)
    for session in sessions:
        session.terminate()
    assert {session.wait(timeout=200) for session in sessions} == {143}
    for site in sites:
        nothing_is_left(site)


def reaches_its_own(site: Loopback, mine: Record, another: Record) -> None:
    """By its socket, and by what ssh starts on the login node."""
    sock = site.tmp / f"{mine.name}.sock"
    assert answers(sock, mine.token) == b"HTTP/1.0 200 OK"
    assert answers(sock, another.token) == b"HTTP/1.0 403 Fo"
    connect = ["bash", str(site.home / ".jlab" / "connect"), f"--session={mine.name}"]
    done = subprocess.run(
        [*connect, "--columns=80"],
        env=site.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert f"jlab-node: session {mine.name} on ".encode() in done.stderr


def nothing_is_left(site: Loopback) -> None:
    assert site.records() == []
    assert ours(site) == []
    assert [path.name for path in site.tmp.iterdir()] == ["lock"]
    log = (site.root / "job.log").read_text()
    assert log.count("is over (exit code 143)") == len(NAMES)
