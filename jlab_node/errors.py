"""What a person is told: failures with their exit codes, and text that no terminal obeys."""

from __future__ import annotations

import codecs
import re

# Control characters, halves of surrogate pairs, and what turns the direction of writing.
_UNSAFE_CHARACTERS = (
    r"[^\x20-\x7e\u00a1-\ud7ff\ue000-\uffff]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_UNSAFE_IN_LINES = _UNSAFE_CHARACTERS.replace(r"[^\x20", r"[^\t\n\x20")
FAILED = 1
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: there is nothing to connect to


class JlabError(Exception):
    """A failure that a user or a broken cluster can cause: what is wrong, and what to type next.

    As text it is one sentence: the problem, and after a colon the remedy, if there is one.
    """

    def __init__(self, problem: str, *, remedy: str = "", exit_code: int = FAILED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


def sanitize(text: str) -> str:
    """Return `text` without what a terminal would obey: some of it comes from other hosts."""
    return re.sub(_UNSAFE_CHARACTERS, "?", text)


class PlainText:
    """Bytes of a log on their way to a terminal: all but lines and tabs that it would obey is "?".

    Other users of a node can have something in it: what they ask JupyterLab for, say.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, chunk: bytes) -> bytes:
        """Return the next piece of the log, as it may be shown."""
        return re.sub(_UNSAFE_IN_LINES, "?", self._decoder.decode(chunk)).encode()
