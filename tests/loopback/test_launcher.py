"""The little file that ssh starts: as quick as it can be, and right wherever jlab-remote is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loopback import finished

if TYPE_CHECKING:
    import subprocess

    from loopback import Loopback


def connect(site: Loopback, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, str(site.laptop / "jlab" / "connect.py"), "connect"]
    return finished([*command, "jlab+demo", "-F", str(site.config)])


def test_it_is_what_the_block_names(laptop: Loopback) -> None:
    launcher = laptop.laptop / "jlab" / "connect.py"
    assert launcher.stat().st_mode & 0o777 == 0o600
    command = rf"ProxyCommand '?/.+/python\S* -IS {launcher} connect '%h'"
    assert re.search(command, laptop.config.read_text())


def test_nothing_is_imported_that_is_not_needed(laptop: Loopback) -> None:
    """`site`, pip's own start of a command, click."""
    done = connect(laptop, "-IS", "-X", "importtime")
    assert "no session to connect to" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "jlab_proxy.connect" in imported
    assert not imported & {"site", "re", "click", "typing", "pathlib", "socket", "subprocess"}


def test_it_finds_what_was_installed_anew_elsewhere(laptop: Loopback) -> None:
    """Then the command that pip makes is started, which knows."""
    launcher = laptop.laptop / "jlab" / "connect.py"
    here = str(Path(__file__).parents[2])
    text = launcher.read_text()
    assert repr(here) in text or "site-packages" in text
    launcher.write_text(text.replace("sys.path.insert(0, ", 'sys.path.insert(0, "/gone" + '))
    done = connect(laptop, "-IS")
    assert done.returncode == 69
    assert "no session to connect to" in done.stderr
