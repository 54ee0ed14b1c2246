"""How thorough a run is to be."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Every figure is a median of so many; `quick` only shows that all of it works."""

    rounds: int = 10
    idle: float = 600
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}", file=sys.stderr, flush=True)
