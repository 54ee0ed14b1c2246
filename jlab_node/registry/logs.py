"""Where sessions write their messages, and showing them: also those of a session that is over."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import UNAVAILABLE, JlabError, PlainText
from ..files import writing

if TYPE_CHECKING:
    from typing import Callable

    from .home import Home

DEFAULT_DIRECTORY = "~/jlab-logs"  # of the scripts that `jlab-node script` writes
_POLL = 0.5  # seconds between two looks for more
_TAIL = 1 << 20  # bytes from the end that are looked at


def remember(home: Home, name: str, log: str) -> None:
    """Remember the file `log` to which the session of that name writes; "": to a terminal."""
    note = _notes(home) / name
    with contextlib.suppress(OSError):  # a full disk: the log itself says so
        note.parent.mkdir(mode=0o700, exist_ok=True)
        if log:
            writing.write_atomically(note, log + "\n")
        else:
            note.unlink(missing_ok=True)


def find(home: Home, name: str | None) -> Path:
    """Return the log of the last session of that name, or of any; raises JlabError.

    A job that failed before it was a session has only its own log, in the usual directory.
    """
    notes = [_notes(home) / name] if name else list(_notes(home).glob("[a-z0-9]*"))
    logs = [Path(each.read_text("utf-8", "replace").strip()) for each in notes if each.is_file()]
    logs += [
        each
        for each in Path(DEFAULT_DIRECTORY).expanduser().glob("jlab-*.log")
        if name in (None, _session_name(each))
    ]
    present = [each for each in logs if each.is_file()]
    if present:
        return max(present, key=lambda path: path.stat().st_mtime)
    if logs:
        raise JlabError(f"the log {logs[0]} cannot be seen from here: it is on the node, or gone")
    which = f" of a session called {name}" if name else ""
    raise JlabError(
        f"no log{which} is known here: a session that was started in a terminal writes to that "
        "terminal",
        exit_code=UNAVAILABLE,
    )


def _session_name(log: Path) -> str:
    """Return whose log it is by its file's name: jlab-JOB.log, jlab-NAME-JOB.log."""
    return log.stem.removeprefix("jlab-").rpartition("-")[0] or "lab"


def show(path: Path, *, lines: int, follow: bool, reader_is_gone: Callable[[], bool]) -> None:
    """Print the last lines; `follow`: and what comes, until nobody reads it. Raises JlabError."""
    try:
        with path.open("rb") as file:
            _seek_lines(file, lines)
            text = PlainText()
            while True:
                _copy(file, text)
                if not follow or reader_is_gone():
                    return
                time.sleep(_POLL)
    except BrokenPipeError:
        sys.stderr.close()  # or Python says so on its way out
    except OSError as error:
        raise JlabError(f"cannot read {path}: {error.strerror}") from error


def _seek_lines(file: IO[bytes], lines: int) -> None:
    """Move to the beginning of the last `lines` lines."""
    size = file.seek(0, 2)
    start = max(size - _TAIL, 0)
    file.seek(start)
    ends = [at for at, byte in enumerate(file.read(size - start)) if byte == 10]
    whole = ends[:-1] if ends and start + ends[-1] + 1 == size else ends
    kept = whole[-lines:] if lines else []
    if not lines:
        file.seek(size)
    elif len(whole) >= lines:
        file.seek(start + kept[0] + 1)
    else:
        file.seek(start)


def _copy(file: IO[bytes], text: PlainText) -> None:
    while chunk := file.read(1 << 16):
        sys.stdout.buffer.write(text.of(chunk) if sys.stdout.isatty() else chunk)
    sys.stdout.buffer.flush()


def _notes(home: Home) -> Path:
    return home.path / "logs"
