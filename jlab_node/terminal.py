"""What `connect` says on the laptop's screen: sentences, and one line that says how it stands."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from .errors import sanitize

_CLEAR = "\r\x1b[K"


class Screen:
    """stderr, as ssh carries it to the laptop; a terminal's status line is refreshed in place."""

    def __init__(self, columns: int | None, *, tagged: bool = False) -> None:
        self._columns = columns  # None: no terminal
        self._tag = "[waiting] " if tagged else ""
        self._said: set[str] = set()
        self._status = ""

    def say(self, text: str) -> None:
        """Print one sentence; the same one only once."""
        if text not in self._said:
            self._said.add(text)
            self.clear()
            print(f"jlab-node: {sanitize(text)}", file=sys.stderr, flush=True)

    def status(self, text: str, *, waited: float, transient: bool = False) -> None:
        """Show how it stands: on a terminal in place and with the time, elsewhere once per change.

        What is `transient` is for a terminal only: it is over before it could be read in a log. The
        tag is for lines that a program reads, so a terminal never shows it. `waited` is in seconds.
        """
        line = f"jlab-node: {sanitize(text)}"
        if self._columns is None:
            if transient:
                return
            line = f"jlab-node: {self._tag}{sanitize(text)}"
            if line != self._status:
                print(line, file=sys.stderr, flush=True)
            self._status = line
            return
        line = line.replace(":", f" [{int(waited) // 60}:{int(waited) % 60:02}]:", 1)
        if len(line) >= self._columns:  # a wrapped line could not be taken back
            line = line[: max(self._columns - 2, 0)] + "…"
        if line != self._status:
            sys.stderr.write(_CLEAR + line)
            sys.stderr.flush()
            self._status = line

    def clear(self) -> None:
        """Take the status line back: something else comes, or nothing."""
        if self._columns is not None and self._status:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._status = ""


def tolerate_encoding_errors() -> None:
    """Read what is no text in the user's locale as it is, and show it as "?"."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=errors)
