"""What the laptop sends: plain words, which every login shell passes on as they are."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlab_proxy import connect, paths, ssh, target
from jlab_proxy.errors import JlabError
from tests.jlab_proxy.test_ssh import in_shell

from .strategies import fewer, hostile_text, is_shown_safely, mutated, records

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ["bash", "dash", "zsh", "ksh", "tcsh", "fish"]
PLAIN = r"[A-Za-z0-9._=+-]+"

targets = mutated(["gricad", "gricad+gpu", "a.b_c-0+0._-", "x" * 63 + "+" + "y" * 32])


@given(targets | hostile_text)
def test_a_target_is_plain_words_or_is_refused(text: str) -> None:
    for parse, given_text in ((target.parse, text), (target.parse_host, f"jlab+{text}")):
        try:
            where = parse(given_text)
        except JlabError as error:
            assert is_shown_safely(str(error))
            continue
        assert where.name == text
        for word in (where.alias, *where.sessions):
            assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", word)
        assert target.parse_host(where.host).name == where.name
        options = {"--port": "8888", "--sockets": "/tmp/jlab-alice"}
        words = connect._cluster_arguments(where, paths.Paths("/none", is_default=False), options)
        assert all(re.fullmatch(PLAIN, word) for word in words)


@given(
    st.lists(targets | hostile_text | st.sampled_from(["--port", "--sockets", "-F", "--no-share"]))
)
def test_the_words_of_connect_are_read_or_refused(words: list[str]) -> None:
    try:
        host, options = connect._parse(words)
    except JlabError as error:
        assert is_shown_safely(str(error))
        return
    assert host in words
    assert connect.is_port(options.get("--port", "1"))
    assert options.get("-F") != ""


# Of each kind that the laptop sends; the ids of sessions may have brackets, as PBS numbers jobs.
words = st.one_of(
    records.map(lambda record: record.id),
    records.map(lambda record: f"--after={record.id}"),
    records.map(lambda record: f"--session={record.name}"),
    records.map(lambda record: record.name),
    records.map(lambda record: f"--port={record.port}"),
    st.sampled_from(["--json", "--dry-run", "--authorize", "--unchecked", "--follow", "-f"]),
    st.from_regex(r"[A-Za-z0-9._=+\[\]-]{1,40}", fullmatch=True).map("x{}".format),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that a pattern might be taken for are in it."""
    made = tmp_path_factory.mktemp("home")
    (made / ".jlab").mkdir()
    (made / ".jlab/connect").write_text("printf '%s\\n' \"$@\"\n")
    for name in ("pbs-123-lab", "--after=pbs-123-lab", "x1", "a", "1"):
        (made / name).touch()
    return made


@pytest.mark.parametrize("shell", SHELLS)
@fewer(40)
@given(arguments=st.lists(words, min_size=1, max_size=60))
def test_every_login_shell_passes_them_as_they_are(
    home: Path, shell: str, arguments: list[str]
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = in_shell(shell, home, ssh.remote_command("connect", arguments, alias="gricad"))
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (arguments, "", 0)
