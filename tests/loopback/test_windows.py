"""The block that Windows gets, which other systems' ssh reads as well."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from loopback import accepts, finished, free_port, wait_until

from jlab_proxy import target
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import document

if TYPE_CHECKING:
    from tests.loopback.conftest import Lab


@pytest.mark.skipif(" " in sys.executable, reason="ssh on Windows takes no path with a blank")
def test_the_block_leads_into_the_job(lab: Lab) -> None:
    config = lab.site.laptop / "config-windows"  # keys and pins beside it are those of `setup`
    block = document.Block(
        target=target.parse("demo"),
        user=lab.site.user,
        port=free_port(),
        socket=f"{lab.site.tmp}/lab.sock",
        proxy=[sys.executable, "-m", "jlab_proxy"],
        paths=Paths(str(config), is_default=False),
        share=False,
        mux=False,
        platform="nt",
    )
    before = document.remove(lab.site.config.read_text(), "jlab+demo")
    config.write_text(document.merge(before, block))
    ssh = ["ssh", "-F", str(config)]
    tunnel = subprocess.Popen([*ssh, "-N", "jlab+demo"], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts(block.port), "the forward listens")
        done = finished([*ssh, "jlab+demo", "echo $SLURM_JOB_ID; exit 7"])
    finally:
        tunnel.terminate()
        tunnel.wait(timeout=20)
    assert (done.returncode, done.stdout) == (7, "4711\n")
    assert "Address already in use" in done.stderr  # as docs/platforms.md says
