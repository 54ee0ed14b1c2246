"""What a person is told: failures with their exit codes, and sentences on stderr."""

from __future__ import annotations

import sys

# Control characters, halves of surrogate pairs, and what turns the direction of writing.
_OBEYED = (
    r"[^\x20-\x7e\u00a1-\ud7ff\ue000-\uffff]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

FAILED = 1
USAGE = 2
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: there is nothing to connect to


class JlabError(Exception):
    """A failure that a user or a broken cluster can cause; its text is one clear sentence."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    """Print one line for the person at the terminal."""
    print(f"jlab-proxy: {text}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Without what a terminal would obey: some of it comes from the other side."""
    import re  # here: not on the way of every ssh

    return re.sub(_OBEYED, "?", text)
