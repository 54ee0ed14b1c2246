"""The cluster's answer, among all that a .bashrc may say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.cluster import client
from jlab_proxy.errors import JlabError
from jlab_proxy.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = {"format": 1, "version": "0.1.0", "user": "alice"}
LINE = json.dumps(ANSWER)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(f"{LINE}\n", id="alone"),
        pytest.param(LINE, id="without a newline"),
        pytest.param(f"{LINE}\r\n", id="CRLF"),
        pytest.param(f"Welcome to Gricad!\n\n{LINE}\n", id="after a greeting"),
        pytest.param(f"{LINE}\nlogout\n", id="before a farewell"),
        pytest.param(f'{{"user": "mallory"}}\n[1]\n{LINE}\n', id="after other JSON"),
        pytest.param(f'{{"format": 1, "us\n{LINE}\n', id="after half an answer"),
        pytest.param(f"\x1b[2J\ufffd\n{LINE}\n", id="after control characters"),
        pytest.param(f"{LINE}\n" + json.dumps({**ANSWER, "user": "bob"}), id="the first of two"),
    ],
)
def test_parse_finds_the_answer_among_other_lines(output: str) -> None:
    assert client.parse(output, alias="gricad") == ANSWER


def test_parse_keeps_unknown_keys() -> None:
    answer = {**ANSWER, "gpus": {"count": [4]}}
    assert client.parse(json.dumps(answer), alias="gricad") == answer


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("", id="nothing"),
        pytest.param("Welcome to Gricad!\n", id="a greeting alone"),
        pytest.param("bash: jlab-node: command not found\n", id="an error"),
        pytest.param(LINE[:-5], id="cut short"),
        pytest.param(f"> {LINE}\n", id="in the middle of a line"),
        pytest.param('{"version": "0.1.0"}\n', id="without a format"),
        pytest.param('["format", 1]\n', id="a list"),
    ],
)
def test_parse_rejects_what_is_no_answer(output: str) -> None:
    with pytest.raises(JlabError, match=r"^gricad did not answer"):
        client.parse(output, alias="gricad")


@pytest.mark.parametrize("version", [2, 3, 10**9])
def test_parse_of_a_newer_format_says_to_upgrade_here(version: int) -> None:
    with pytest.raises(JlabError, match="newer than on this computer"):
        client.parse(json.dumps({**ANSWER, "format": version}), alias="gricad")


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", None, [], True])
def test_parse_of_an_invalid_format_says_to_upgrade_there(version: object) -> None:
    with pytest.raises(JlabError, match="older than on this computer"):
        client.parse(json.dumps({**ANSWER, "format": version}), alias="gricad")


def test_resolve_takes_a_host_name_without_an_entry(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()
    found = client.resolve(Paths(str(config), is_default=False), "localhost")
    assert (found.alias, found.share) == ("localhost", True)
