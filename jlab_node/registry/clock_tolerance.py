"""How far the times in records may be apart: those of one clock, and those of two machines."""

from __future__ import annotations

SKEW = 60  # seconds by which two answers of one clock may differ
RESTART = 5  # seconds between two starts of one job, at least, by the scheduler's own clock
FAR = 3600  # seconds by which the clocks of two machines surely do not differ
