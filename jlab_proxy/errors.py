"""What went wrong, where, and what to type next: one class, one exit code each."""

from __future__ import annotations

FAILED = 1
USAGE = 2
UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h: there is nothing to connect to


class JlabError(Exception):
    """A failure that a user or a broken cluster can cause; its text is one clear sentence."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
