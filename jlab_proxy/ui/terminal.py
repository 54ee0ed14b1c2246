"""What a person reads at the laptop's terminal: sentences, and one line that says how it stands."""

from __future__ import annotations

import contextlib
import re
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ..errors import printable

if TYPE_CHECKING:
    from typing import IO

_CLEAR = "\r\x1b[K"
_COLOURS = re.compile(r"(\x1b\[[0-9;]{0,16}m)")
_LONGEST = 1 << 16  # bytes of a line that are read at once: it may have no end
_CONTROLS = r"[^\t\x20-\x7e\u00a1-\U0010ffff]"


def take_any_text() -> None:
    """What is no text in the user's locale is no error: read as it is, and shown as "?"."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


def copy(stream: IO[bytes]) -> None:
    """Print a stream as it comes; a terminal gets no more of its escape sequences than colours."""
    with contextlib.suppress(BrokenPipeError):
        _copy(stream)


def _copy(stream: IO[bytes]) -> None:
    while line := stream.readline(_LONGEST):
        text = line
        if sys.stdout.isatty():
            words = _COLOURS.split(line.decode("utf-8", errors="replace").rstrip("\r\n"))
            text = (
                "".join(
                    each if _COLOURS.fullmatch(each) else re.sub(_CONTROLS, "?", each)
                    for each in words
                ).encode()
                + b"\x1b[m"
                + (b"" if len(line) == _LONGEST else b"\n")
            )
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


class Screen:
    """stderr: on a terminal the status line is refreshed in place, elsewhere it is left out."""

    def __init__(self) -> None:
        self.in_place = sys.stderr.isatty()
        self._status = ""

    def say(self, text: str) -> None:
        """One sentence, which stays."""
        self.clear()
        print(f"jlab-proxy: {printable(text)}", file=sys.stderr, flush=True)

    def status(self, text: str) -> None:
        """How it stands, until that changes."""
        if not self.in_place:
            return
        import shutil  # here: most commands show no status line

        width = shutil.get_terminal_size().columns
        line = printable(text)
        if len(line) >= width:  # a wrapped line could not be taken back
            line = line[: max(width - 2, 0)] + "…"
        if line != self._status:
            sys.stderr.write(_CLEAR + line)
            sys.stderr.flush()
            self._status = line

    def clear(self) -> None:
        """Take the status line back: something else comes, or nothing."""
        if self._status:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._status = ""
