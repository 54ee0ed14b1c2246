"""What the tests of all schedulers use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jlab_node.schedulers.base import JobRequest, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Callable


@pytest.fixture
def machine() -> Callable[..., Machine]:
    """Makes a machine of a name, which is a node by its first label, with some files."""

    def make(host: str, files: Mapping[str, str] | None = None) -> Machine:
        return Machine(
            host=host,
            pid=4711,
            is_here=lambda node: node.partition(".")[0] == host,
            read=lambda path: (files or {}).get(path, ""),
        )

    return make


@pytest.fixture
def everything() -> JobRequest:
    """A request that leaves nothing to the site."""
    return JobRequest(
        name="jlab-gpu",
        cpus=4,
        gpus=1,
        memory=16384,
        walltime=129600,
        account="ml",
        partition="long",
        log="/home/u/jlab-logs/jlab-gpu",
    )


@pytest.fixture
def least() -> JobRequest:
    """A request that leaves all it can to the site."""
    return JobRequest("jlab", 1, 0, None, 5400, "", "", "/home/u/jlab-logs/jlab")


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local dates mean the same wherever the tests run."""
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()
