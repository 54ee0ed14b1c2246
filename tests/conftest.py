"""What tests of both packages use."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import surroundings
from loopback import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator

# The longest first, where several run at once.
_ORDER = ("tests/cluster/", "tests/loopback/", "")


surroundings.leave()

# Programs that tests start obey signals, also where the tests run under nohup or a shell's "&".
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each file stays together, since its tests share what they start."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [item.nodeid.startswith(each) for each in _ORDER].index(True))


def _part(nodeid: str) -> str:
    """What runs in one process: a file, or all that goes to one of the two clusters."""
    if nodeid.startswith("tests/cluster/"):
        return "OAR" if re.search(r"\[.*\boar", nodeid) else "Slurm"
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who runs what, where scripts/test lets several processes run the tests."""
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _part
    return scheduler


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs root is skipped without, for the reason that its mark gives."""
    for mark in item.iter_markers("root"):
        if os.geteuid():
            pytest.skip(*mark.args or ("it needs root",))


@pytest.fixture
def bound_by_modes(tmp_path: Path) -> Iterator[Path]:
    """A directory of a user whom file modes bind; root becomes such a user for the test."""
    if os.geteuid():
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp())
    os.chown(directory, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        os.seteuid(0)
        shutil.rmtree(directory)
