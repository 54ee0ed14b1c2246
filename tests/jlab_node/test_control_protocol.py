"""The line that asks a session to expose a port, and the one that it answers with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jlab_node.errors import JlabError
from jlab_node.runtime.control_protocol import (
    Request,
    Response,
    ask,
    describe,
    parse_request,
    parse_response,
    render,
)

LISTED = Response("slurm-12-lab", {"dask": 8787, "bokeh": 5006})


def line(**values: object) -> bytes:
    return json.dumps({"format": 1, **values}).encode() + b"\n"


@pytest.mark.parametrize("request_", [Request("dask", 8787), Request("dask"), Request()], ids=repr)
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    assert parse_request(render(request_)) == request_


@pytest.mark.parametrize("answer", [LISTED, Response("local-1-gpu", {})], ids=repr)
def test_an_answer_arrives_as_it_was_sent(answer: Response) -> None:
    assert parse_response(render(answer)) == answer


def test_an_error_is_raised_on_the_other_side() -> None:
    with pytest.raises(JlabError, match=r"^port 1 is nobody's$"):
        parse_response(render(JlabError("port 1 is nobody's")))


def test_what_a_later_version_adds_is_ignored() -> None:
    assert parse_request(line(name="dask", port=1, colour="red")) == Request("dask", 1)
    assert parse_response(line(session="slurm-12-lab", ports={}, colour="red")).ports == {}


@pytest.mark.parametrize("parse", [parse_request, parse_response])
@pytest.mark.parametrize("text", [b"", b"\n", b"\xff\n", b"[]\n", b"{}\n", b"1\n", b'{"format"'])
def test_parse_rejects_what_is_no_message(parse: object, text: bytes) -> None:
    assert callable(parse)
    with pytest.raises(JlabError, match=r"^the (request|session's answer) is not valid$"):
        parse(text)


@pytest.mark.parametrize("parse", [parse_request, parse_response])
@pytest.mark.parametrize("version", [3, 0, "1", None])
def test_another_version_says_what_to_do(parse: object, version: object) -> None:
    assert callable(parse)
    with pytest.raises(JlabError, match="another version of jlab-remote: start a new one"):
        parse(line(format=version))


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("", 1),
        ("Dask", 1),
        ("../dask", 1),
        ("a" * 33, 1),
        ("a\n", 1),
        (["dask"], 1),
        (1, 1),
        ("dask", 0),
        ("dask", 65536),
        ("dask", -1),
        ("dask", "8787"),
        ("dask", 8787.0),
        ("dask", True),
        ("dask", []),
    ],
)
def test_a_request_that_is_refused(name: object, port: object) -> None:
    with pytest.raises(JlabError, match=r"^the request is not valid$"):
        parse_request(line(name=name, port=port))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"session": "slurm-12-lab"},
        {"session": "$(reboot)", "ports": {}},
        {"session": 1, "ports": {}},
        {"session": "slurm-12-lab", "ports": []},
        {"session": "slurm-12-lab", "ports": {"Dask": 1}},
        {"session": "slurm-12-lab", "ports": {"dask": "1"}},
        {"session": "slurm-12-lab", "ports": {"dask": 65536}},
        {"error": "\x1b[2J"},
        {"error": ["x"]},
    ],
)
def test_an_answer_that_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(JlabError, match=r"^the session's answer is not valid$"):
        parse_response(line(**values))


def test_ask_without_a_session_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for base in (tmp_path, tmp_path / "gone"):
        with pytest.raises(JlabError, match="no session of yours that could expose") as caught:
            ask(base, Request())
        assert caught.value.exit_code == 69


def test_a_directory_that_others_can_write_is_not_looked_at(tmp_path: Path) -> None:
    """A session in there would be another user's: it would be told our ports, and tell us lies."""
    (tmp_path / "x").mkdir()
    (tmp_path / "lab.sock").symlink_to("x/lab.sock")
    tmp_path.chmod(0o777)
    with pytest.raises(JlabError, match="no session of yours"):
        ask(tmp_path, Request())


@pytest.mark.parametrize(
    ("request_", "answer", "expected"),
    [
        (Request(), LISTED, "dask  port 8787  /t/dask.sock\nbokeh  port 5006  /t/bokeh.sock"),
        (Request(), Response("slurm-12-lab", {}), "nothing is exposed: jlab-node expose NAME PORT"),
        (Request("x"), LISTED, "x is exposed no longer"),
    ],
)
def test_describe_each_request(request_: Request, answer: Response, expected: str) -> None:
    assert describe(request_, answer, Path("/t")) == expected


@pytest.mark.parametrize(
    ("session", "host"),
    [
        ("slurm-12-lab", "jlab+ALIAS"),
        ("slurm-12-gpu", "jlab+ALIAS+gpu"),
        ("slurm-12-a-b", "jlab+ALIAS+a-b"),
    ],
)
def test_describe_names_the_ssh_command(session: str, host: str) -> None:
    said = describe(Request("dask", 8787), Response(session, {"dask": 8787}), Path("/t"))
    assert said.splitlines()[-1] == f"  ssh -L 127.0.0.1:8787:/t/dask.sock {host}"
