"""What a person reads, on a terminal and in a file."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import select
import sys
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.ui import browser
from jlab_proxy.ui import terminal as screen
from jlab_proxy.ui.terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """stderr is a terminal meanwhile; what it has shown stands in the list afterwards."""
    shown: list[str] = []
    ours, theirs = pty.openpty()
    # In the test itself: between a fixture and its test, pytest puts its own in place.
    with os.fdopen(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("COLUMNS", "40")
        yield shown
        stream.write("\0")  # the end: a terminal may take several reads
        stream.flush()
        text = ""
        while not text.endswith("\0") and select.select([ours], [], [], 5)[0]:
            text += os.read(ours, 10000).decode()
        shown += filter(None, [text.rstrip("\0")])
    os.close(ours)


def test_a_status_line_is_refreshed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        made = Screen()
        made.status("one")
        made.status("one")
        made.status("two")
        made.say("news")
        made.clear()
    assert shown == ["\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Kjlab-proxy: news\r\n"]


def test_a_status_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        Screen().status("x" * 100)
    assert shown == ["\r\x1b[K" + "x" * 38 + "…"]


def test_a_status_line_is_left_out_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    made = Screen()
    made.status("one")
    made.say("two\x1b[2J")
    made.clear()
    assert capsys.readouterr().err == "jlab-proxy: two?[2J\n"


def test_print_stream_to_a_file_keeps_every_byte(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    log = b"\x1b[2J\xff\r\nlast"
    screen.print_stream(io.BytesIO(log))
    assert capsysbinary.readouterr().out == log


def test_redirect_page_is_private_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where sandboxed browsers can see it, and nobody else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with browser.redirect_page("http://localhost:1/lab?token=x") as path:
        assert path.parent == tmp_path
        assert path.stat().st_mode & 0o777 == 0o600
        assert 'content="0; url=http://localhost:1/lab?token=x"' in path.read_text()
    assert list(tmp_path.iterdir()) == []


def test_redirect_page_removes_old_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one that was killed: its token may still be good. Another's that is open stays.

    So does what only has such a name.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    old, new, users = (tmp_path / f"jlab-open-{name}.html" for name in ("old", "new", "users"))
    with browser.redirect_page("http://localhost:1/lab?token=y") as page:
        text = page.read_text()
    for each in (old, new):
        each.write_text(text)
    users.write_text("the user's own")
    for each in (old, users):
        os.utime(each, (1, 1))
    with browser.redirect_page("http://localhost:1/lab?token=x"):
        assert not old.exists()
    assert sorted(tmp_path.iterdir()) == [new, users]


@pytest.mark.parametrize(
    ("env", "here"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "w"}, True),
        ({"BROWSER": "x"}, True),
    ],
    ids=str,
)
def test_has_screen_is_false_without_a_display(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *, here: bool
) -> None:
    if sys.platform != "linux":
        pytest.skip("elsewhere there is a browser always")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert browser.has_screen() is here
