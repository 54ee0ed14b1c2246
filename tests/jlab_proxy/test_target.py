"""What may stand after `jlab+`."""

from __future__ import annotations

import pytest

from jlab_proxy import target
from jlab_proxy.errors import USAGE, JlabError


@pytest.mark.parametrize(
    ("text", "alias", "session"),
    [
        ("gricad", "gricad", None),
        ("gricad+gpu", "gricad", "gpu"),
        ("login.example.org", "login.example.org", None),
        ("10.0.0.1+0", "10.0.0.1", "0"),
        ("a-b_c.d+e-f_g.h", "a-b_c.d", "e-f_g.h"),
        ("a" * 63 + "+" + "b" * 32, "a" * 63, "b" * 32),
        ("jlab+lab", "jlab", "lab"),
    ],
)
def test_parse_splits_alias_and_session(text: str, alias: str, session: str | None) -> None:
    for found in (target.parse(text), target.parse_host(f"jlab+{text}")):
        assert (found.alias, found.session) == (alias, session)
        assert (found.name, found.host) == (text, f"jlab+{text}")
        assert found.sessions == ([session] if session else [])


@pytest.mark.parametrize(
    "alias",
    [
        "",
        "Gricad",
        "-oProxyCommand=reboot",
        ".a",
        "_a",
        "a b",
        "a/b",
        "alice@gricad",
        "gricad:22",
        "[::1]",
        "a;reboot",
        "$(reboot)",
        "a'",
        "a\n",
        "\na",
        "a\x00",
        "a\x1b[2J",
        "é",
        "a\u0661",
        "a%h",
        "a*",
        "a" * 64,
    ],
    ids=ascii,
)
def test_parse_rejects_an_invalid_alias(alias: str) -> None:
    for text in (alias, f"{alias}+gpu"):
        with pytest.raises(JlabError, match="cannot be an alias: use 1 to 63 of") as caught:
            target.parse(text)
        assert caught.value.exit_code == USAGE
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "session",
    ["", "Gpu", "-gpu", ".gpu", "a b", "a+b", "+", "$(reboot)", "a\n", "é", "a" * 33],
    ids=ascii,
)
def test_parse_rejects_an_invalid_session(session: str) -> None:
    with pytest.raises(JlabError, match="cannot be a session's name: use 1 to 32 of") as caught:
        target.parse(f"gricad+{session}")
    assert caught.value.exit_code == USAGE
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("host", ["", "gricad", "jlab", "jlab-gricad", "JLAB+gricad", " jlab+a"])
def test_parse_host_rejects_another_form(host: str) -> None:
    with pytest.raises(JlabError, match=r"is not of the form jlab\+ALIAS or") as caught:
        target.parse_host(host)
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize("host", ["jlab+", "jlab++gpu", "jlab+a+", "jlab+a+b+c"])
def test_parse_host_rejects_a_missing_or_extra_part(host: str) -> None:
    with pytest.raises(JlabError, match="cannot be"):
        target.parse_host(host)
