"""A budget that is refilled as time goes by: for what others can cause."""

from __future__ import annotations

import time


class TokenBucket:
    """So much at once, and again so much a second."""

    def __init__(self, at_once: float, per_second: float) -> None:
        self.capacity = at_once
        self._per_second = per_second
        self._available = at_once
        self._at = time.monotonic()

    def take(self, amount: float = 1.0) -> bool:
        """Take that much if it is left; return whether it was."""
        if self.available < amount:
            return False
        self._available -= amount
        return True

    @property
    def available(self) -> float:
        """How much could be taken."""
        now = time.monotonic()
        self._available = min(self.capacity, self._available + (now - self._at) * self._per_second)
        self._at = now
        return self._available
