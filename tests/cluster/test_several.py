"""Several laptops, clusters and sessions of one user at the same time."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING

import pytest
from loopback import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable

    from tests.cluster.conftest import Person, Site

WHERE = "__import__('socket').gethostname()"


@pytest.fixture
def account(site: Site) -> str:
    """Used nowhere else: these tests go to the other cluster and to the other laptop as well."""
    return {"slurm": "5", "oar": "6"}[site.scheduler]


def test_two_laptops(
    person: Person, another: Callable[..., Person], sites: dict[str, Site]
) -> None:
    """They have keys of their own, and one that goes does not disturb the other."""
    other_laptop = next(each.laptop for each in sites.values() if each != person.site)
    second = another(person.site, person.name, laptop_name=other_laptop)
    keys = {public_key(person), public_key(second)}
    assert len(keys) == 2
    assert keys <= set((person.home / ".jlab" / "authorized_keys").read_text().splitlines())
    job = person.submit()
    person.wait_for_session(job)
    url, second_url = person.open_forward(), second.open_forward()
    assert person.evaluate(url) == second.evaluate(second_url) == "42"
    command = ("jlab-proxy", "setup", second.alias, "--remove", "--yes")
    assert second.on_laptop(*command).returncode == 0
    assert "Could not resolve hostname" in second.ssh("true").stderr
    assert person.ssh(f"echo ${person.site.job_variable}").stdout.strip() == job
    assert person.evaluate(url) == "42"
    assert second.evaluate(second_url) == "42", "what is open stays open"


def public_key(person: Person) -> str:
    done = person.on_laptop("sh", "-c", "ssh-keygen -y -f ~/.ssh/jlab/id")
    return " ".join(done.stdout.split()[:2])


@pytest.mark.parametrize("site", ["oar"], indirect=True)
def test_two_clusters_at_once(
    person: Person, another: Callable[..., Person], sites: dict[str, Site]
) -> None:
    """One laptop, two local ports, and each leads to its own cluster."""
    both = [person, another(sites["slurm"], person.name, person.laptop_name)]
    jobs = [each.submit() for each in both]
    for each, job in zip(both, jobs):
        each.wait_for_session(job)
    urls = [each.open_forward() for each in both]
    assert len({url.split("/lab")[0] for url in urls}) == 2
    for each, job, url in zip(both, jobs, urls):
        assert each.evaluate(url, WHERE) == f"'{each.site.nodes[0]}'"
        assert each.ssh(f"echo ${each.site.job_variable}").stdout.strip() == job


def test_sessions_by_name(person: Person) -> None:
    lab, gpu = person.submit(), person.submit(name="gpu")
    person.wait_for_session(lab)
    person.wait_for_session(gpu)
    os.utime(record_path(person, lab, "lab"), (1e9, 1e9))  # the jobs started at the same time
    tell = f"echo ${person.site.job_variable}"
    for session, job in (("", gpu), ("gpu", gpu), ("lab", lab)):
        assert person.ssh(tell, session=session).stdout.strip() == job, session
    listed = person.on_login("jlab-node", "ls").splitlines()
    node, scheduler = person.site.nodes[0], person.site.scheduler
    assert [line.split()[:4] for line in listed] == [
        ["gpu", node, scheduler, gpu],
        ["lab", node, scheduler, lab],
    ]
    tokens = {name: record["token"] for name, record in person.records().items()}
    assert person.on_login("jlab-node", "url").strip().endswith(tokens[gpu])
    assert person.on_login("jlab-node", "url", "lab").strip().endswith(tokens[lab])
    said = person.ssh("true", session="cpu")
    assert said.code == 255
    assert "(there are: gpu, lab), and you have no other job there" in said.sentences
    done = person.login.run(["jlab-node", "stop", "cpu"], person.user)
    assert done.returncode == 69
    assert "no session is called 'cpu'" in done.stderr
    assert (
        person.on_login("jlab-node", "stop", "gpu") == f"session {scheduler}-{gpu}-gpu is stopped\n"
    )
    assert set(person.records()) == {lab}
    assert person.ssh(tell).stdout.strip() == lab, "the newest is the other one now"
    said = person.ssh("true", session="gpu")
    assert said.code == 255
    assert "no session called gpu to connect to" in said.sentences
    wait_until(lambda: person.jobs() == [lab], "the job is gone")
    assert person.on_login("jlab-node", "ls").split()[0] == "lab"


def record_path(person: Person, job: str, name: str) -> Path:
    return person.home / ".jlab" / "sessions" / f"{person.site.scheduler}-{job}-{name}"


@contextlib.contextmanager
def noting_questions(person: Person) -> Iterator[Path]:
    """A file with the arguments of each question to the scheduler."""
    command = {"slurm": "squeue", "oar": "oarstat"}[person.site.scheduler]
    person.on_login("mkdir", "-p", "bin")
    script = f'#!/bin/sh\necho "$*" >> ~/asked\nexec /usr/bin/{command} "$@"\n'
    person.write(f"bin/{command}", script)
    person.on_login("sh", "-c", "cp .bashrc .bashrc.own; echo > asked")
    person.on_login("sh", "-c", 'echo "PATH=~/bin:\\$PATH" > .bashrc')
    try:
        yield person.home / "asked"
    finally:
        person.on_login("sh", "-c", "mv .bashrc.own .bashrc; rm -r bin asked")


def foreign(person: Person, other: Person, job: str) -> Path:
    """The other cluster's session as it stands in a home that both have, with that job's id."""
    record = next(iter(other.records()))
    source = record_path(other, record, "lab")
    text = re.sub(r"(?m)^job_id=.*", f"job_id={job}", source.read_text())
    path = record_path(other, job, "lab")
    person.on_login("sh", "-c", f"umask 077; cat > .jlab/sessions/{path.name}", text=text)
    found = person.home / ".jlab" / "sessions" / path.name
    os.utime(found, (time.time() + 60,) * 2)  # it is the newest
    return found


def test_one_home_on_two_clusters(
    person: Person, another: Callable[..., Person], sites: dict[str, Site]
) -> None:
    other_scheduler = {"slurm": "oar", "oar": "slurm"}[person.site.scheduler]
    other = another(sites[other_scheduler], person.name, person.laptop_name)
    theirs, job = other.submit(), person.submit()
    # A number that is a job on both: here it is some other work of the same user's.
    work = person.submit(name="work", body="sleep 300")
    other.wait_for_session(theirs)
    person.wait_for_session(job)
    tell = f"hostname; echo ${person.site.job_variable}"
    records = [foreign(person, other, number) for number in (job, work)]
    texts = [path.read_text() for path in records]
    with noting_questions(person) as asked:
        said = person.ssh(tell)
        assert said.stdout.split() == [person.site.nodes[0], job], said.stderr
        assert asked.read_text().strip() == "", "the fast path"
        url = person.open_forward()
        assert person.evaluate(url, WHERE) == f"'{person.site.nodes[0]}'"
        # Whatever is left of the way when nothing of this cluster runs any more.
        person.on_login("jlab-node", "stop", f"{person.site.scheduler}-{job}-lab")
        said = person.ssh("true")
        assert said.code == 255
        job_there = {"slurm": "Slurm job {} of cluster cal1", "oar": "OAR job {}"}[other_scheduler]
        where = f"session lab runs on {other.site.nodes[0]} in {job_there.format(work)}, which this"
        assert where in said.sentences
        assert work not in re.findall("[0-9]+", asked.read_text()), "it never asked about that job"
    assert [path.read_text() for path in records] == texts, "they are not ours to remove"
    done = person.login.run(["jlab-node", "stop", f"{other_scheduler}-{work}-lab"], person.user)
    assert done.returncode
    assert work in person.jobs()


@pytest.mark.parametrize("site", ["slurm"], indirect=True)
def test_one_home_on_two_clusters_of_a_kind(person: Person) -> None:
    """Their records differ in the cluster's name."""
    job, work = person.submit(), person.submit(name="work", body="sleep 300")
    person.wait_for_session(job)
    text = record_path(person, job, "lab").read_text()
    for key, value in (("cluster", "cal2"), ("job_id", work), ("node", "n2"), ("token", "f" * 64)):
        text = re.sub(f"(?m)^{key}=.*", f"{key}={value}", text)
    path = record_path(person, work, "lab")
    person.on_login("sh", "-c", f"umask 077; cat > .jlab/sessions/{path.name}", text=text)
    os.utime(path, (time.time() + 60,) * 2)
    with noting_questions(person) as asked:
        assert person.ssh("echo $SLURM_JOB_ID").stdout.strip() == job
        assert person.evaluate(person.open_forward()) == "42"
        person.on_login("jlab-node", "stop", f"slurm-{job}-lab")
        said = person.ssh("true")
        assert said.code == 255
        where = f"session lab runs on n2 in Slurm job {work} of cluster cal2, which this machine"
        assert where in said.sentences
        assert f"--jobs={work}" not in asked.read_text()
    assert path.read_text() == text
    done = person.login.run(["jlab-node", "stop", "lab"], person.user)
    assert done.returncode
    assert work in person.jobs()
