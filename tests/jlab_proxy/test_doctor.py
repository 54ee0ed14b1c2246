"""What doctor makes of what ssh, a login shell and a cluster say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from loopback import NOBODY

from jlab_proxy import target
from jlab_proxy.cluster.client import ClusterClient
from jlab_proxy.doctor import laptop, login_node, session
from jlab_proxy.doctor.check import Check, broken, parse, render
from jlab_proxy.doctor.login_node import CommandResult
from jlab_proxy.errors import JlabError
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import document, keys

if TYPE_CHECKING:
    from pathlib import Path

DENIED = "me@gricad: Permission denied"
LOGIN = ClusterClient(Paths("/home/me/.ssh/config", is_default=True), "gricad", share=True)


def said(stderr: str = "", *, stdout: str = "", code: int | None = 255) -> CommandResult:
    return CommandResult(code, stdout, stderr, 12)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026", "ok"),
        ("OpenSSH_for_Windows_9.5p1, LibreSSL 3.8.2", "ok"),
        ("OpenSSH_10.0p2, OpenSSL 3.5.0", "ok"),
        ("OpenSSH_7.6p1", "ok"),
        ("OpenSSH_7.4p1, OpenSSL 1.0.2k-fips  26 Jan 2017", "failure"),
        ("Dropbear v2022.83", "failure"),
        ("\x1b[2J", "failure"),
        ("", "failure"),
    ],
)
def test_parse_version_rejects_old_and_foreign_ssh(text: str, state: str) -> None:
    check = laptop.parse_version(text)
    assert check.state == state
    assert "\x1b" not in check.found


def test_permissions_of_an_unreadable_config_fail(bound_by_modes: Path) -> None:
    closed = bound_by_modes / "closed"
    closed.mkdir(mode=0)
    check = laptop.permissions(Paths(f"{closed}/.ssh/config", is_default=False))
    assert (check.state, check.found) == ("failure", f"{closed}/.ssh: Permission denied")
    assert check.remedy == f"chmod u+rwx {closed}"


@pytest.mark.root("only root can give files away")
def test_permissions_of_another_users_config_fail(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()
    os.chown(config, NOBODY, NOBODY)
    check = laptop.permissions(Paths(str(config), is_default=False))
    assert (check.state, check.found) == ("failure", f"{config} belongs to another user")


@pytest.mark.parametrize(
    ("stderr", "found", "remedy"),
    [
        (f"{DENIED} (publickey,keyboard-interactive).", "second factor", "jlab+"),
        (f"{DENIED} (publickey,gssapi-with-mic,password).", "password", "jlab+"),
        (f"{DENIED} (publickey,gssapi-with-mic).", "refuses your keys", "ssh -v"),
        ("Host key verification failed.\n", "host key is not known", "ssh gricad"),
        ("ssh: connect to host g port 22: Connection refused", "Connection refused", "ssh gricad"),
        ("", "exit code 255", "ssh gricad"),
        ("\x1b]0;PWNED\x07 no", "?]0;PWNED? no", "ssh gricad"),
    ],
)
def test_why_unreachable_tells_the_reason(stderr: str, found: str, remedy: str) -> None:
    check = login_node.why_unreachable(said(stderr), LOGIN)
    assert check.state == "failure"
    assert found in check.found
    assert remedy in check.remedy


def test_command_result_without_exit_code_is_out_of_time() -> None:
    assert "no answer in time" in login_node.why_unreachable(said(code=None), LOGIN).found


def test_why_unreachable_of_an_alias_with_its_own_sharing_names_the_alias() -> None:
    alias = ClusterClient(LOGIN.paths, "gricad", share=False)
    check = login_node.why_unreachable(said("Permission denied (keyboard-interactive)."), alias)
    assert "`ssh gricad`" in check.remedy


@pytest.mark.parametrize(
    ("stdout", "state", "found"),
    [
        ("jlab-doctor-is-here /bin/zsh\n", "ok", "/bin/zsh prints nothing of its own"),
        ("Hi\njlab-doctor-is-here /bin/zsh\n", "warning", "before each command: Hi"),
        ("Hi jlab-doctor-is-here /bin/zsh\n", "failure", "half a line before each command: Hi"),
        ("\x1b[1mHi\njlab-doctor-is-here /bin/\x1b\n", "warning", "/bin/? prints"),
        ("This account is not available.\n", "failure", "This account is not available"),
        ("", "failure", "exit code 0"),
    ],
)
def test_shell_tells_what_is_printed_before_a_command(stdout: str, state: str, found: str) -> None:
    check = login_node.shell(said(stdout=stdout, code=0), "gricad")
    assert check.state == state
    assert found in check.found


@pytest.mark.parametrize(
    ("stderr", "found"),
    [
        ("...\nHost key verification failed.", "another host key"),
        ("me@jlab+gricad: Permission denied (publickey).", "does not take this computer's key"),
        ("jlab-node: job 1 is queued\nConnection closed", "Connection closed"),
    ],
)
def test_way_in_tells_why_ssh_is_refused(stderr: str, found: str) -> None:
    check = session.way_in(said(stderr), target.Target("gricad"))
    assert check.state == "failure"
    assert found in check.found
    assert check.remedy


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (JlabError("a: b \x1b", remedy="type c: d"), "a: b ?", "type c: d"),
        (JlabError("cannot start ssh: no such file"), "cannot start ssh: no such file", "else"),
    ],
)
def test_a_colon_in_a_problem_begins_no_remedy(error: JlabError, found: str, remedy: str) -> None:
    assert broken("login node", error, remedy="else") == Check(
        "login node", "failure", found, remedy
    )


GOOD = {"check": "home", "state": "warning", "found": "full", "remedy": "make room"}


def test_parse_reads_the_clusters_checks() -> None:
    checks = [{**GOOD, "new": 1}, {"check": "~/.jlab", "state": "ok", "found": "\x9b2J"}]
    assert parse({"checks": checks}, alias="gricad") == [
        Check("home", "warning", "full", "on gricad: make room"),
        Check("~/.jlab", "ok", "?2J"),
    ]


@pytest.mark.parametrize(
    "checks",
    [
        None,
        {},
        [],
        [None],
        [GOOD] * 101,
        [{**GOOD, "check": ""}],
        [{**GOOD, "check": "\x1b"}],
        [{**GOOD, "check": "x" * 33}],
        [{**GOOD, "state": "fine"}],
        [{**GOOD, "state": ["ok"]}],
        [{**GOOD, "found": 1}],
        [{**GOOD, "remedy": ["reboot"]}],
    ],
)
def test_parse_rejects_malformed_checks(checks: Any) -> None:
    with pytest.raises(JlabError, match="jlab-node doctor is not valid"):
        parse({"checks": checks}, alias="gricad")


def test_parse_cuts_long_sentences() -> None:
    (check,) = parse({"checks": [{**GOOD, "found": "x" * 100_000}]}, alias="gricad")
    assert len(check.found) == 1000


def test_render_puts_the_remedy_under_its_line() -> None:
    line, remedy = render(Check("home", "warning", "full", "make room")).splitlines()
    assert line.endswith("full")
    assert remedy.strip() == "-> make room"
    assert len(render(Check("home", "ok", "fine")).splitlines()) == 1


def block(host: str) -> str:
    return f"# >>> {host} >>>\nHost {host}\n    User x\nMatch all\n# <<< {host} <<<\n\n"


A, A_GPU, B = block("jlab+a"), block("jlab+a+gpu"), block("jlab+b")


@pytest.mark.parametrize(
    ("text", "is_at_top"),
    [
        (A, True),
        (B + A, True),
        (A_GPU + A, True),
        (A + "Host *\n    User y\n", True),
        (A + A_GPU, False),
        ("Host *\n" + A, False),
        ("\n" + A, False),
        (B + "# mine\n" + A, False),
        (B, False),
        ("", False),
    ],
)
def test_is_at_top_only_below_blocks_of_ours(text: str, is_at_top: bool) -> None:
    assert document.is_at_top(text, "jlab+a") is is_at_top


def test_block_of_returns_the_lines_of_one_block() -> None:
    assert document.block_of("Host x\n" + A + B, "jlab+a") == A
    assert document.block_of(A + B, "jlab+c") == ""


def test_pinned_finds_the_key_of_each_cluster() -> None:
    gricad, other = target.Target("gricad"), target.Target("cal1")
    text = keys.pin(keys.pin("", gricad, "ssh-ed25519 A"), other, "ssh-ed25519 B")
    assert keys.pinned(text, gricad) == "ssh-ed25519 A"
    assert keys.pinned(text, other) == "ssh-ed25519 B"
    assert keys.pinned(text, target.Target("gri")) is None
