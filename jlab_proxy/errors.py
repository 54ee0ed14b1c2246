"""What a person is told: failures with their exit codes, and sentences on stderr."""

from __future__ import annotations

import sys

TURNS_WRITING = r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # from left to right, or back
# Control characters, halves of surrogate pairs, and what turns the direction of writing.
_UNSAFE_CHARACTERS = rf"[^\x20-\x7e\u00a1-\ud7ff\ue000-\uffff]|{TURNS_WRITING}"

FAILED = 1
USAGE = 2
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


class NoConnectionError(JlabError):
    """ssh did not get to the login node, or nothing came back: another attempt may succeed."""


class PortTakenError(JlabError):
    """A program has the local port, and it leads to no session: another port may do."""


class WrongDirectoryError(JlabError):
    """An ssh leads to another directory than the session's: another attempt finds the same."""


def say(text: str) -> None:
    """Print one line for the person at the terminal."""
    print(f"jlab-proxy: {text}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return the text with "?" for what a terminal would obey: it may come from the other side."""
    import re  # here: not on the way of every ssh

    return re.sub(_UNSAFE_CHARACTERS, "?", text)
