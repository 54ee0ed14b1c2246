"""The job's log warns before the end, which can be moved."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from tests.cluster.conftest import Person


def log_of(person: Person, job: str) -> str:
    return person.on_login("cat", person.records()[job]["log"])


def test_the_log_warns(person: Person) -> None:
    """A minute before it is due the session has to be up."""
    job = person.submit(seconds=360)
    record = person.wait_for_session(job)
    assert 300 < int(record["ends_at"]) - time.time() < 361
    wait_until(lambda: "ends this job" in log_of(person, job), "it warns", seconds=240)
    (line,) = re.findall(".*ends this job.*", log_of(person, job))
    assert "ends this job in 5 minutes, at " in line
    extend = f"for an hour more, type on the login node: oarwalltime {job} +1:00"
    assert (extend in line) == (person.site.scheduler == "oar")


@pytest.mark.parametrize("site", ["oar"], indirect=True)
def test_the_end_is_moved(person: Person) -> None:
    """With the very command that the warning names."""
    job = person.submit(seconds=360)
    before = person.wait_for_session(job)
    person.on_login("oarwalltime", job, "+1:00")
    wait_until(
        lambda: int(person.records()[job]["ends_at"]) == int(before["ends_at"]) + 3600,
        "the record follows",
        seconds=240,
    )
    assert person.records()[job]["token"] == before["token"]
    assert "ends this job" not in log_of(person, job)
    assert person.ssh(f"echo ${person.site.job_variable}").stdout.strip() == job
