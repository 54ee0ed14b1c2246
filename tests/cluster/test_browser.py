"""A real browser on the laptop, JupyterLab in a job: the page shows which job that is.

With JLAB_SCREENSHOT=docs/jupyterlab.png the picture of the README is taken on the way.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loopback.browser import MISSING

if TYPE_CHECKING:
    from tests.cluster.conftest import Person

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

ADDRESS = r"http://127.0.0.1:[0-9]+/lab\?token=[0-9a-f]{64}"
LOOK = {
    "slurm": "!hostname; squeue --me --format '%.6i %.10j %.8T %.6M %.6l %N'",
    "oar": "!hostname; oarstat -u",
}
PLOT = """\
import math
from IPython.display import SVG

path = " ".join(f"{8 * t} {70 - 60 * math.exp(-t / 25) * math.cos(t / 3)}" for t in range(90))
SVG(f'<svg viewBox="0 0 720 140"><polyline points="{path}" fill="none" stroke="#1f77b4" '
    'stroke-width="2"/></svg>')"""

# Runs where the laptop's 127.0.0.1 is: the address, of which others shall not know, comes by stdin.
BROWSE = """
import os, sys
from pathlib import Path
from tests.loopback.browser import Page, chromium
notebook, expected, picture, directory = sys.argv[1:]
with chromium(Path(directory)) as driver:
    page = Page(driver, sys.stdin.read().strip(), notebook)
    page.run_all()
    page.wait(lambda: page.contains(expected), "the page shows " + expected)
    page.save()
    if picture:
        page.take_picture(picture)
"""


@pytest.fixture
def account() -> str:
    return "2"


def notebook(scheduler: str) -> str:
    """Two cells that have not been run: which job this is, and a curve."""
    cells: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "id": f"cell{number}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate((LOOK[scheduler], PLOT))
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def test_the_page_shows_the_job_in_which_it_computes(person: Person, tmp_path: Path) -> None:
    settings = ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    person.on_login("mkdir", "-p", settings)
    news = {"fetchNews": "false", "checkForUpdates": False}
    person.write(f"{settings}/notification.jupyterlab-settings", json.dumps(news))
    person.write("oscillation.ipynb", notebook(person.site.scheduler))
    job = person.submit()
    record = person.wait_for_session(job)
    terminal = person.terminal("jlab-proxy", "open", person.alias, "--no-browser")
    url = re.findall(ADDRESS, terminal.read_until(ADDRESS))[-1]
    picture = os.environ.get("JLAB_SCREENSHOT", "")
    done = subprocess.run(
        [
            "nsenter",
            f"--net=/proc/{person.laptop.pid}/ns/net",
            "--",
            sys.executable,
            "-c",
            BROWSE,
            "oscillation.ipynb",
            f"{record['node']} ",
            picture and str(Path(picture).absolute()),
            str(tmp_path),
        ],
        cwd=Path(__file__).parents[2],
        input=url,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = (person.home / "oscillation.ipynb").read_text()
    assert job in outputs
