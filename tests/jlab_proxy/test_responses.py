"""What a cluster says is believed only where it looks as it should."""

from __future__ import annotations

from typing import Any

import pytest

from jlab_proxy.cluster import responses
from jlab_proxy.cluster.responses import Queued, Session, Standing
from jlab_proxy.errors import JlabError

SESSION = {
    "id": "slurm-12-lab",
    "name": "lab",
    "node": "n1",
    "scheduler": "slurm",
    "job_id": "12",
    "ends_at": 1800000000,
    "exposed": ["dask"],
    "log": "/unknown/to/older/laptops",
}
PARSED = Session("slurm-12-lab", "lab", "n1", "slurm", "12", 1800000000, ("dask",))
TOKEN = "f" * 64


def test_parse_session_reads_every_value() -> None:
    assert responses.parse_session(SESSION) == PARSED


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"ends_at": None}, {"ends_at": None}, id="no end"),
        pytest.param({"ends_at": True}, {"ends_at": None}, id="an end that is no number"),
        pytest.param({"ends_at": -5}, {"ends_at": None}, id="an end that is no time"),
        pytest.param({"exposed": None}, {"exposed": ()}, id="an older cluster"),
        pytest.param({"exposed": "dask"}, {"exposed": ()}, id="no list"),
        pytest.param({"exposed": 5}, {"exposed": ()}, id="nor a number"),
        pytest.param({"node": "\ud800\u202e"}, {"node": "??"}, id="what no terminal can show"),
        pytest.param({"node": "n\x1b[2J1"}, {"node": "n?[2J1"}, id="what a terminal obeys"),
        pytest.param({"node": 5}, {"node": ""}, id="no text"),
    ],
)
def test_parse_session_replaces_odd_values_by_harmless_ones(
    change: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = responses.parse_session({**SESSION, **change})
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="a list"),
        pytest.param({}, id="empty"),
        pytest.param({**SESSION, "id": "slurm-12-lab;id"}, id="an id for a shell"),
        pytest.param({**SESSION, "name": "../x"}, id="a path"),
        pytest.param({**SESSION, "exposed": ["-oProxyCommand=x"]}, id="an option"),
    ],
)
def test_parse_session_rejects_malformed(raw: object) -> None:
    with pytest.raises(JlabError, match="is not valid"):
        responses.parse_session(raw)


def test_parse_sessions_reads_sessions_and_jobs() -> None:
    answer = {"sessions": [SESSION], "jobs": [{"job_id": "13", "text": "job 13 is\nqueued"}, 5]}
    assert responses.parse_sessions(answer) == ([PARSED], [Queued("13", "job 13 is?queued")])
    assert responses.parse_sessions({"sessions": []}) == ([], []), "an older cluster"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"sessions": {}},
        {"sessions": [], "jobs": 1},
        {"sessions": [], "jobs": [{"job_id": "$"}]},
    ],
    ids=str,
)
def test_parse_sessions_rejects_malformed(answer: dict[str, Any]) -> None:
    with pytest.raises(JlabError, match="is not valid"):
        responses.parse_sessions(answer)


@pytest.mark.parametrize(
    ("answer", "standing", "is_alive"),
    [
        ({"state": "running", "session": SESSION}, Standing("running", "", PARSED), True),
        ({"state": "queued", "text": "", "job_id": "7"}, Standing("queued", "", None, "7"), True),
        ({"state": "starting", "text": ""}, Standing("starting", ""), True),
        ({"state": "over", "text": "b"}, Standing("over", "b"), False),
        ({"state": "none", "text": "c"}, Standing("none", "c"), False),
        ({"state": "hibernating"}, Standing("unknown", ""), True),
        ({}, Standing("unknown", ""), True),
    ],
    ids=str,
)  # fmt: skip
def test_parse_standing_reads_state_and_session(
    answer: dict[str, Any], standing: Standing, *, is_alive: bool
) -> None:
    found = responses.parse_standing(answer)
    assert found == standing
    assert found.is_alive is is_alive


@pytest.mark.parametrize(
    "address",
    [
        f"http://localhost:8888/lab?token={TOKEN}",
        f"https://localhost:8888/user/a~b/lab?token={TOKEN}",
        f"http://127.0.0.1:8888/lab?token={TOKEN}",
    ],
)
def test_parse_url_names_the_host_by_number(address: str) -> None:
    by_number = address.replace("localhost", "127.0.0.1")
    assert responses.parse_url({"url": address}, 8888) == by_number


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        f"http://localhost:8889/lab?token={TOKEN}",
        f"http://127.0.0.2:8888/lab?token={TOKEN}",
        f"http://127.0.0.1.example.org:8888/lab?token={TOKEN}",
        f"http://evil.example:8888/lab?token={TOKEN}",
        f"javascript://localhost:8888/lab?token={TOKEN}",
        f"http://localhost:8888/lab?token={TOKEN}\n",
        f'http://localhost:8888/"><script>/lab?token={TOKEN}',
        "http://localhost:8888/lab?token=secret",
    ],
)
def test_parse_url_rejects_malformed(address: object) -> None:
    with pytest.raises(JlabError, match="is not valid"):
        responses.parse_url({"url": address}, 8888)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (1800000000 - 7260, "session lab on n1, slurm job 12, 2 h 1 min left"),
        (1800000000 + 60, "session lab on n1, slurm job 12, 0 h 0 min left"),
    ],
)
def test_describe_names_node_job_and_time_left(now: float, text: str) -> None:
    assert PARSED.describe(now) == text


def test_describe_of_a_plain_server_names_no_job() -> None:
    local = Session("local-1-lab", "lab", "host", "local", "1", None, ())
    assert local.describe(0) == "session lab on host"


def test_parse_sessions_cuts_long_lists() -> None:
    """What is read is at most some megabytes; what is made of it must not be more."""
    long = {**SESSION, "node": "n" * 100_000}
    sessions, jobs = responses.parse_sessions(
        {"sessions": [long] * 2000, "jobs": [{"job_id": "1", "text": "x" * 100_000}] * 2000}
    )
    assert (len(sessions), len(jobs)) == (1000, 1000)
    assert (len(sessions[0].node), len(jobs[0].text)) == (1000, 1000)
