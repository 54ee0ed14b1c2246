"""What a hostile cluster answers: nothing of it but plain text and plain words gets any further."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from jlab_proxy import target
from jlab_proxy.cluster import client, responses
from jlab_proxy.commands import completion, ls, setup
from jlab_proxy.doctor import check, login_node
from jlab_proxy.errors import JlabError, printable
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import keys
from tests.jlab_proxy.test_doctor import GOOD
from tests.jlab_proxy.test_responses import SESSION, TOKEN

from .strategies import (
    hostile_bytes,
    hostile_json,
    hostile_text,
    is_shown_safely,
    mutated,
    mutated_json,
)

if TYPE_CHECKING:
    import pytest

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "x" * 43
FRAME = {"format": 1, "version": "0.2.0"}
SAMPLES = [
    json.dumps({**FRAME, **answer})
    for answer in (
        {"user": "alice", "socket_dir": "/tmp/jlab-alice", "host_key": HOST_KEY, "host": "n1"},
        {"sessions": [SESSION], "jobs": [{"job_id": "13", "text": "it waits"}]},
        {"state": "running", "text": "it runs", "session": SESSION, "job_id": None},
        {"url": f"http://localhost:8888/lab?token={TOKEN}", "session": SESSION},
        {"host_key": HOST_KEY, "checks": [GOOD, GOOD]},
        {"text": "submitted"},
    )
]
answered = st.one_of(
    mutated_json(SAMPLES),
    mutated(SAMPLES),
    hostile_json.map(lambda value: f'{{"format": 1, "sessions": {json.dumps(value)}}}'),
    hostile_text.map(lambda text: f'{{"format": {text}'),
    hostile_bytes.map(lambda raw: raw.decode("utf-8", errors="replace")),
)


def refused(error: JlabError) -> bool:
    """Whether that is a sentence for a person."""
    return all(is_shown_safely(line) for line in str(error).splitlines()) and bool(str(error))


def show(texts: list[str]) -> None:
    for text in texts:
        assert all(is_shown_safely(line) for line in text.split("\n")), text
        text.encode("utf-8")


@given(answered)
@example('{"format": 1, "text": ' + "[" * 100_000)
def test_any_answer_is_used_safely_or_refused(printed: str) -> None:
    """Every command's reader gets every answer: a cluster may answer what it likes."""
    try:
        answer = client.parse(printed, alias="gricad")
    except JlabError as error:
        assert refused(error)
        return
    for read in (sessions_of, standing_of, address_of, checks_of, set_up):
        try:
            read(answer)
        except JlabError as error:
            assert refused(error)


def sessions_of(answer: dict[str, Any]) -> None:
    sessions, jobs = responses.parse_sessions(answer)
    cluster = ls.Cluster("gricad", sessions, jobs)
    show(ls.table([cluster]))
    json.dumps(ls.for_programs([cluster]))
    for each in sessions:
        words_of(each)


def words_of(session: responses.Session) -> None:
    """They become arguments of ssh and of jlab-node."""
    show([session.describe(time.time())])
    for word in (session.name, *session.exposed):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", word)
    assert re.fullmatch(r"[a-z][A-Za-z0-9._\[\]-]*", session.id)


def standing_of(answer: dict[str, Any]) -> None:
    standing = responses.parse_standing(answer)
    show([standing.text])
    if standing.session:
        words_of(standing.session)
    assert standing.job_id is None or re.fullmatch(r"[A-Za-z0-9][\w.\[\]]*", standing.job_id)


def address_of(answer: dict[str, Any]) -> None:
    address = responses.parse_url(answer, 8888)
    show([address])
    assert address.startswith(("http://127.0.0.1:8888/", "https://127.0.0.1:8888/"))
    assert not set(address) & set(" '\"<>\\$`;&|")


def checks_of(answer: dict[str, Any]) -> None:
    show([login_node.versions(answer, "gricad").found])
    checks = check.parse(answer, alias="gricad")
    show([re.sub(r"\x1b\[[0-9]{1,2}m", "", check.render(each)) for each in checks])
    json.dumps([asdict(each) for each in checks])


def set_up(answer: dict[str, Any]) -> None:
    """These end up in ssh's config and in known_hosts, a line each."""
    about = setup._checked(answer)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@$-]*", about["user"])
    assert re.fullmatch(r"/[A-Za-z0-9._/-]+", about["socket_dir"])
    demo = target.parse("demo")
    pinned = keys.pin("", demo, about["host_key"])
    assert pinned.count("\n") == 1
    assert keys.pinned(pinned, demo) == about["host_key"]


@given(
    hostile_text | mutated([HOST_KEY]),
    mutated([f"a ssh-rsa x\njlab+demo,jlab+demo+* {HOST_KEY}\n"]),
)
def test_nobody_elses_line_of_known_hosts_is_changed(key: str, known: str) -> None:
    demo = target.parse("demo")
    assert keys.is_host_key(key) == bool(re.fullmatch(r"ssh-ed25519 [A-Za-z0-9+/]{68}", key))
    forgotten = keys.pin(known, demo, None)
    assert keys.pinned(forgotten, demo) is None
    assert keys.pin(keys.pin(known, demo, HOST_KEY), demo, None) == forgotten
    ours = [line for line in known.split("\n") if line.startswith("jlab+demo,jlab+demo+* ")]
    kept = [line for line in known.split("\n") if line and line not in ours]
    assert [line for line in forgotten.split("\n") if line] == kept


@given(st.sampled_from([1, 2, 69, 255]), hostile_text | mutated(["jlab-node: no\nssh: no route\n"]))
def test_what_ssh_said_is_shown_safely(code: int, said: str) -> None:
    show([str(client._failure(code, "gricad", said))])
    told = login_node.CommandResult(code, said, said, 1)
    there = client.ClusterClient(
        Paths("/home/me/.ssh/config", is_default=True), "gricad", share=True
    )
    for found in (login_node.why_unreachable(told, there), login_node.shell(told, "gricad")):
        show([found.found, found.remedy])


@given(hostile_text)
def test_printable(text: str) -> None:
    assert is_shown_safely(printable(text))
    assert len(printable(text)) == len(text)
    assert text.isascii() is False or not text.isprintable() or printable(text) == text


@given(hostile_bytes | hostile_json.map(lambda value: json.dumps({"demo": value}).encode()))
@example(b"[" * 100_000)
def test_what_is_remembered_may_be_anything(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """And nothing but that file is written."""
    directory = tmp_path_factory.getbasetemp() / "ssh"
    (directory / "jlab").mkdir(parents=True, exist_ok=True)
    paths = Paths(str(directory / "config"), is_default=True)
    Path(paths.directory, "seen").write_bytes(content)
    completion.seen(paths)
    completion.remember_sessions(paths, "demo", ["lab", "gpu"])
    assert completion.seen(paths)["demo"] == ["gpu", "lab"]
    assert [path.name for path in directory.rglob("*")] == ["jlab", "seen"]
