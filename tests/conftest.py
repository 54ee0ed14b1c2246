"""What tests of both packages use."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator


# Programs that tests start obey signals, also where the tests run under nohup or a shell's "&".
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)


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
