"""scripts/demo, as the README has people run it; its environment is the one these tests run in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from loopback import finished

DEMO = [sys.executable, str(Path(__file__).parents[2] / "scripts" / "demo.py")]


def test_check() -> None:
    done = finished([*DEMO, "--check"], timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "42"


def test_ctrl_c_leaves_nothing_behind() -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "Ctrl-C ends everything.\n")
        said = "".join(lines)
        root = re.search(r"/tmp/jl-[a-z0-9_]+", said)
        assert root is not None
        assert "/lab?token=" in said
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        assert demo.wait(timeout=60) == 130
        assert demo.stderr is not None
        assert "Traceback" not in demo.stderr.read()
    assert not Path(root[0]).exists()
    lines_of_all = [
        " ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])
    ]
    assert [line for line in lines_of_all if root[0] in line] == []
