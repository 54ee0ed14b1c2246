"""What several of these tests use: little programs that stand for a scheduler's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jlab_node import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Callable


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script of a name on PATH, before all others."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)

    def put(name: str, text: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture(autouse=True)
def elsewhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Which cluster this machine belongs to is found out anew in each test, and kept nowhere."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    jobs.site.cache_clear()
    yield
    jobs.site.cache_clear()


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local times mean the same wherever the tests run."""
    import time

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def on_stdin(tmp_path: Path) -> Iterator[Path]:
    """A file that is this process' stdin: in real life that is the laptop's ssh."""
    path = tmp_path / "stdin"
    path.write_text("from ssh\n", encoding="utf-8")
    before = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    yield path
    os.dup2(before, 0)
    os.close(before)
