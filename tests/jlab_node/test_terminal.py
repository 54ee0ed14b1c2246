"""What stands on the laptop's screen, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jlab_node.errors import sanitize
from jlab_node.terminal import Screen

BACK = "\r\x1b[K"


def err(capsys: pytest.CaptureFixture[str]) -> str:
    """What has been written since the last time; never anything on stdout, which is ssh's."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_a_sentence_is_a_line_and_the_same_one_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for screen in (Screen(None), Screen(80)):
        for text in ("one", "two", "one"):
            screen.say(text)
        assert err(capsys) == "jlab-node: one\njlab-node: two\n"


def test_status_without_a_terminal_is_a_line_per_change(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(None)
    screen.status("queued", waited=1)
    screen.status("queued", waited=99)
    assert err(capsys) == "jlab-node: queued\n"
    screen.status("runs", waited=100)
    screen.status("queued", waited=101)
    assert err(capsys) == "jlab-node: runs\njlab-node: queued\n"
    screen.clear()
    screen.status("queued", waited=102)
    assert err(capsys) == "", "there is nothing to take back, and nothing new"
    screen.status("x" * 500, waited=102)
    assert err(capsys) == f"jlab-node: {'x' * 500}\n", "a log has no width"


def test_a_status_for_a_program_is_tagged(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(None, tagged=True)
    for text in ("queued", "queued", "runs"):
        screen.status(text, waited=1)
    screen.status("trying srun", waited=2, transient=True)
    screen.say("one")
    assert err(capsys) == (
        "jlab-node: [waiting] queued\njlab-node: [waiting] runs\njlab-node: one\n"
    )
    Screen(80, tagged=True).status("queued", waited=1)
    assert err(capsys) == f"{BACK}jlab-node [0:01]: queued", "a person reads that"


def test_what_passes_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(None)
    screen.status("queued", waited=1)
    screen.status("trying srun", waited=2, transient=True)
    screen.status("queued", waited=3)
    assert err(capsys) == "jlab-node: queued\n"
    screen = Screen(80)
    screen.status("trying srun", waited=2, transient=True)
    assert err(capsys) == f"{BACK}jlab-node [0:02]: trying srun"


def test_status_on_a_terminal_changes_in_place_and_tells_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(80)
    screen.status("queued: Resources", waited=0.9)
    assert err(capsys) == f"{BACK}jlab-node [0:00]: queued: Resources"
    screen.status("queued: Resources", waited=0.99)
    assert err(capsys) == "", "no change"
    screen.status("queued: Resources", waited=1)
    assert err(capsys) == f"{BACK}jlab-node [0:01]: queued: Resources"
    screen.status("runs", waited=3671)
    assert err(capsys) == f"{BACK}jlab-node [61:11]: runs"
    screen.clear()
    assert err(capsys) == BACK
    screen.clear()
    assert err(capsys) == "", "it is clear already"


def test_a_sentence_takes_the_place_of_the_status_line(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(80)
    screen.status("queued", waited=1)
    screen.say("one")
    screen.status("queued", waited=1)
    line = "jlab-node [0:01]: queued"
    assert err(capsys) == f"{BACK}{line}{BACK}jlab-node: one\n{BACK}{line}"
    screen.say("one")
    assert err(capsys) == "", "what was said already leaves the status alone"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        pytest.param(30, "jlab-node [0:01]: 0123456789", id="room"),
        pytest.param(29, "jlab-node [0:01]: 0123456789", id="just enough"),
        # The last column stays free: terminals wrap at different moments.
        pytest.param(28, "jlab-node [0:01]: 01234567…", id="one too many"),
        pytest.param(20, "jlab-node [0:01]: …", id="narrow"),
        pytest.param(3, "j…", id="hardly any"),
        pytest.param(2, "…", id="two"),
        pytest.param(1, "…", id="one"),
        pytest.param(0, "…", id="none"),
        pytest.param(-5, "…", id="nonsense"),
    ],
)
def test_status_fits_the_width(
    capsys: pytest.CaptureFixture[str], columns: int, shown: str
) -> None:
    Screen(columns).status("0123456789", waited=1)
    assert err(capsys) == BACK + shown
    assert len(shown) < max(columns, 2)


HOSTILE = [
    pytest.param("job \x1b[2J\x1b]0;x\x07", "job ?[2J?]0;x?", id="escape sequences"),
    pytest.param("a\nb\r\tc\0", "a?b??c?", id="control characters"),
    pytest.param("\x7f\x80\x9b31m\x9f\xa0", "???31m??", id="C1 and delete"),
    pytest.param("café, 日本 …", "café, 日本 …", id="letters"),
    pytest.param("\U0001f600", "?", id="beyond the first plane"),
    pytest.param("~ !", "~ !", id="the ends of ASCII"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_nothing_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    assert sanitize(text) == shown
    Screen(None).say(text)
    Screen(None).status(text, waited=1)
    assert err(capsys) == f"jlab-node: {shown}\n" * 2
    Screen(80).status(text, waited=1)
    assert err(capsys) == f"{BACK}jlab-node [0:01]: {shown}"


def test_what_the_locale_lacks_is_no_traceback() -> None:
    program = (
        "import sys; from jlab_node.terminal import *; tolerate_encoding_errors(); "
        "print(ascii(sys.stdin.read()), 'é')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        input=b"\xff",
        capture_output=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"'\\udcff' ?\n", b"")
