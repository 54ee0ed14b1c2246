"""Finding and showing what sessions wrote."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from loopback import wait_until

from jlab_node.errors import UNAVAILABLE, JlabError
from jlab_node.registry import logs
from jlab_node.registry.home import Home


@pytest.fixture
def home() -> Home:
    path = Path.home() / ".jlab"
    path.mkdir(mode=0o700)
    return Home(path)


def log(name: str, *, at: int, note: Home | None = None, session: str = "lab") -> Path:
    """A log of that time; `note`: its session told of it."""
    path = Path.home() / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{name}\n")
    os.utime(path, (at, at))
    if note:
        logs.remember(note, session, str(path))
    return path


def test_the_last_session_of_any_name_or_of_that(home: Home) -> None:
    old = log("old", at=100, note=home, session="gpu")
    new = log("new", at=200, note=home)
    assert logs.find(home, None) == new
    assert logs.find(home, "lab") == new
    assert logs.find(home, "gpu") == old
    os.utime(old, (300, 300))
    assert logs.find(home, None) == old


def test_notes_are_private_and_replaced(home: Home) -> None:
    log("old", at=300, note=home)
    new = log("new", at=200, note=home)
    assert logs.find(home, "lab") == new
    note = home.path / "logs" / "lab"
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    logs.remember(home, "lab", "")
    assert not note.exists(), "the next one writes to a terminal"
    logs.remember(home, "lab", "")
    logs.remember(Home(home.path / "gone"), "lab", "/x")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param(None, "jlab-big-gpu-13.log", id="any: the last"),
        pytest.param("lab", "jlab-12.log", id="lab: of no name"),
        pytest.param("gpu", "jlab-gpu-12.log", id="a name"),
        pytest.param("big-gpu", "jlab-big-gpu-13.log", id="a name of two words"),
        pytest.param("big", None, id="half a name"),
        pytest.param("12", None, id="a number"),
    ],
)
def test_a_job_that_failed_before_it_was_a_session(
    home: Home, name: str | None, found: str | None
) -> None:
    """It has its own log, where `jlab-node script` put it."""
    names = ["jlab-11.log", "jlab-12.log", "jlab-gpu-12.log", "jlab-big-gpu-13.log"]
    for at, each in enumerate(names):
        log(f"jlab-logs/{each}", at=100 + at)
    log("jlab-logs/other-15.log", at=900)
    if found:
        assert logs.find(home, name) == Path.home() / "jlab-logs" / found
    else:
        with pytest.raises(JlabError, match=f"^no log of a session called {name} is known here"):
            logs.find(home, name)


def test_the_jobs_log_and_the_sessions(home: Home) -> None:
    """The later one tells more."""
    session = log("session.log", at=100, note=home)
    job = log("jlab-logs/jlab-12.log", at=200)
    assert logs.find(home, "lab") == job
    os.utime(session, (300, 300))
    assert logs.find(home, "lab") == session


def test_find_without_a_log_fails(home: Home) -> None:
    with pytest.raises(
        JlabError, match=r"^no log is known here: .* terminal writes to that terminal$"
    ) as no:
        logs.find(home, None)
    assert no.value.exit_code == UNAVAILABLE


def test_a_log_that_is_not_seen_from_here(home: Home) -> None:
    logs.remember(home, "lab", "/scratch/of/n1/lab.log")
    with pytest.raises(JlabError, match=r"^the log /scratch/of/n1/lab\.log cannot be seen from"):
        logs.find(home, "lab")


def shown(capfdbinary: pytest.CaptureFixture[bytes], path: Path, lines: int) -> bytes:
    logs.show(path, lines=lines, follow=False, reader_is_gone=lambda: False)
    return capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("text", "lines", "end"),
    [
        pytest.param(b"", 5, b"", id="empty"),
        pytest.param(b"a\nb\nc\n", 2, b"b\nc\n", id="the last two"),
        pytest.param(b"a\nb\nc\n", 3, b"a\nb\nc\n", id="all"),
        pytest.param(b"a\nb\nc\n", 9, b"a\nb\nc\n", id="more than there are"),
        pytest.param(b"a\nb\nc\n", 0, b"", id="none"),
        pytest.param(b"a\nb\nc", 1, b"c", id="the last line has no end"),
        pytest.param(b"a\nb\nc", 2, b"b\nc", id="two of which the last has no end"),
        pytest.param(b"a", 1, b"a", id="one line without an end"),
        pytest.param(b"a", 0, b"", id="none of one line without an end"),
        pytest.param(b"\n\n\n", 2, b"\n\n", id="empty lines"),
        pytest.param(b"\xff\0\n\xfe\n", 1, b"\xfe\n", id="no text"),
        pytest.param(b"x" * (3 << 20) + b"\nend\n", 1, b"end\n", id="a long line before"),
        pytest.param(b"x" * (3 << 20), 1, b"x" * (1 << 20), id="a line that is too long"),
    ],
)
def test_show_prints_the_last_lines(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, text: bytes, lines: int, end: bytes
) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    assert shown(capfdbinary, path, lines) == end


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(JlabError, match=r"^cannot read .*/gone: No such file or directory$"):
        logs.show(tmp_path / "gone", lines=1, follow=False, reader_is_gone=lambda: False)


def test_show_follows_what_comes(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\nb\n")
    looked, gone = threading.Event(), threading.Event()

    def reader_is_gone() -> bool:
        looked.set()
        return gone.is_set()

    thread = threading.Thread(
        target=logs.show,
        args=(path,),
        kwargs={"lines": 1, "follow": True, "reader_is_gone": reader_is_gone},
    )
    thread.start()
    try:
        assert looked.wait(60)
        seen = b""

        def sees(text: bytes) -> bool:
            nonlocal seen
            seen += capfdbinary.readouterr().out
            return seen == text

        wait_until(lambda: sees(b"b\n"), "the last line is shown")
        with path.open("ab") as file:
            file.write(b"c\n")
        wait_until(lambda: sees(b"b\nc\n"), "what comes is shown")
    finally:
        gone.set()
        thread.join()
