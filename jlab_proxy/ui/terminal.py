"""What a person reads at the laptop's terminal: sentences, and one line that says how it stands."""

from __future__ import annotations

import contextlib
import re
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ..errors import TURNS_WRITING, printable

if TYPE_CHECKING:
    from typing import IO

_CLEAR_LINE = "\r\x1b[K"
_COLOURS = re.compile(r"(\x1b\[[0-9;]{0,16}m)")
_MAX_LINE = 1 << 16  # bytes of a line that are read at once: it may have no end
# Control characters, what turns the direction of writing, and tags, which nobody sees.
_UNSAFE_CHARACTERS = rf"[^\t\x20-\x7e\u00a1-\U0010ffff]|{TURNS_WRITING}|[\U000e0000-\U000e0fff]"


def tolerate_encoding_errors() -> None:
    """Read text that is not in the user's encoding as it is, and print it as "?"."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)


def print_stream(stream: IO[bytes]) -> None:
    """Print a stream as it comes; a terminal gets nothing that it obeys but tabs and colours."""
    with contextlib.suppress(BrokenPipeError):
        _print_lines(stream)


def _print_lines(stream: IO[bytes]) -> None:
    while line := stream.readline(_MAX_LINE):
        text = line
        if sys.stdout.isatty():
            words = _COLOURS.split(line.decode("utf-8", errors="replace").rstrip("\r\n"))
            text = (
                "".join(
                    each if _COLOURS.fullmatch(each) else re.sub(_UNSAFE_CHARACTERS, "?", each)
                    for each in words
                ).encode()
                + b"\x1b[m"
                + (b"" if len(line) == _MAX_LINE else b"\n")
            )
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


class Screen:
    """stderr: on a terminal the status line is refreshed in place, elsewhere it is left out."""

    def __init__(self) -> None:
        self.in_place = sys.stderr.isatty()
        self._status = ""

    def say(self, text: str) -> None:
        """Print one sentence, which stays."""
        self.clear()
        print(f"jlab-proxy: {printable(text)}", file=sys.stderr, flush=True)

    def status(self, text: str) -> None:
        """Show how it stands, until that changes."""
        if not self.in_place:
            return
        import shutil  # here: most commands show no status line

        width = shutil.get_terminal_size().columns
        line = printable(text)
        if len(line) >= width:  # a wrapped line could not be taken back
            line = line[: max(width - 2, 0)] + "…"
        if line != self._status:
            sys.stderr.write(_CLEAR_LINE + line)
            sys.stderr.flush()
            self._status = line

    def clear(self) -> None:
        """Take the status line back: something else comes, or nothing."""
        if self._status:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._status = ""
