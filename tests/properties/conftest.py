"""How many examples each property gets: few in every run, 100,000 in `scripts/nightly`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: this machine may be busy. Some strategies repair what they draw, which is slow.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "fast", max_examples=100, derandomize=True, deadline=None, suppress_health_check=_QUIET
)
settings.register_profile(
    "nightly", max_examples=100_000, deadline=None, print_blob=True, suppress_health_check=_QUIET
)
# --hypothesis-profile=nightly takes its place.
settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By their mark `scripts/nightly` finds them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.properties)
