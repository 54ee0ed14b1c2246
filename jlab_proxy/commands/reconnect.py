"""Trying again: how long to pause between two attempts, and when to give up."""

from __future__ import annotations

_FIRST_PAUSE, MAX_PAUSE = 2.0, 15.0  # seconds between two attempts
_USEFUL_TIME = 60.0  # seconds after which an attempt that fails was good for something
_MAX_FAILURES = 5  # in a row, while cluster and session are there
# What ssh says when another attempt changes nothing.
_FINAL_WORDS = (
    "Host key verification failed",
    "Permission denied",
    "forwarding",
    "Bad configuration",
)


class Backoff:
    """Seconds that double from `initial` up to `maximum`."""

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial, self._maximum = initial, maximum
        self._next = initial

    def next(self) -> float:
        """Return the seconds for this time; for the next time they are doubled."""
        seconds = self._next
        self._next = min(seconds * 2, self._maximum)
        return seconds

    def reset(self) -> None:
        """Begin with `initial` again."""
        self._next = self._initial


class Failures:
    """The attempts in a row by which ssh did not lead to the session."""

    def __init__(self) -> None:
        self.count = 0
        self.last_words = ""  # of ssh, or why it was ended
        self._pauses = Backoff(_FIRST_PAUSE, MAX_PAUSE)

    def clear(self) -> None:
        """Forget them: ssh did lead there."""
        self.count = 0
        self._pauses.reset()

    def add(self, *, lasted: float) -> None:
        """Count one more. One that lasted so many seconds may have waited for the session."""
        if lasted > _USEFUL_TIME:
            self.clear()
        self.count += 1

    def are_final(self, *, is_new: bool) -> bool:
        """Return whether to give up; `is_new`: no session has been reached yet."""
        too_many = is_new and self.count >= _MAX_FAILURES
        return too_many or any(words in self.last_words for words in _FINAL_WORDS)

    def pause(self) -> float:
        """Return the seconds to wait before the next attempt."""
        return self._pauses.next()
