"""What starts jlab-proxy again, as `setup` writes it for ssh."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.commands import setup

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    made = tmp_path / "bin" / "jlab-proxy"
    made.parent.mkdir()
    made.touch(mode=0o755)
    return made


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`python -m jlab_proxy` of an environment where nothing is installed; nor is it on PATH."""
    python = tmp_path / "bare" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", ["/src/jlab_proxy/__main__.py", "setup", "demo"])
    monkeypatch.setenv("PATH", str(python.parent))
    return str(python)


def test_own_command_is_the_program_that_runs(
    program: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/jlab-proxy", "setup", "demo"])
    monkeypatch.chdir(program.parents[1])
    assert setup.own_command() == [str(program)]


def test_own_command_is_the_program_beside_python(
    program: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    assert setup.own_command() == [str(program)]


def test_own_command_is_the_program_on_path(
    program: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert setup.own_command() == [str(program)]


def test_own_command_without_a_program_runs_the_module(module: str) -> None:
    assert setup.own_command() == [module, "-m", "jlab_proxy"]
