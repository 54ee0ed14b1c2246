"""A real browser, through the real tunnel: a plot in a notebook, and a tunnel that is cut.

With JLAB_SCREENSHOT=docs/jupyterlab.png the picture of the README is taken on the way.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback import Loopback, accepts, free_port, stop, wait_until

from tests.loopback.browser import MISSING, PATIENCE, Page, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

PLOT = """\
import matplotlib.pyplot as plt
import numpy as np

t = np.linspace(0, 10, 500)
y = np.exp(-t / 4) * np.cos(4 * t)
plt.figure(figsize=(7.5, 3.6))
plt.plot(t, y)
plt.xlabel("time (s)")
plt.title("A damped oscillation");"""
LATER = "print(round(y.min(), 3))"  # only the same kernel knows y
ANSWER = "-0.823"


class Tunnel:
    """What a person keeps open on the laptop."""

    def __init__(self, site: Loopback) -> None:
        self.site = site
        self.suspended: list[psutil.Process] = []
        self._port = free_port()
        setup = site.proxy("setup", "demo", "--yes", "--port", str(self._port))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.start()

    def start(self) -> None:
        """Open it, and wait until it listens."""
        # It is to notice a silent network sooner than the 45 seconds of the config file.
        command = self.site.ssh("-N", "-oServerAliveInterval=2", "jlab+demo")
        self._ssh = ssh = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until(lambda: accepts(self._port) or ssh.poll() is not None, "the tunnel listens")

    def cut(self, how: str) -> None:
        """The ssh is killed; or the network is silent, for good, to all that is connected."""
        if how == "killed":
            self._ssh.kill()
        else:
            self.suspended = login_processes(self.site)
            for process in self.suspended:
                process.suspend()
        self._ssh.wait(timeout=PATIENCE)

    def bring_back(self) -> None:
        """The same local port, over a new connection: the shared one is of before the cut."""
        for master in self.site.laptop.glob("jlab/login-*"):
            end = self.site.ssh("-Oexit", f"-S{master}", "demo")
            subprocess.run(end, check=True, stderr=subprocess.DEVNULL)
        self.start()

    def close(self) -> None:
        """It has to be open still; else that is why the page failed."""
        code = self._ssh.poll()
        stop(self._ssh)
        assert code is None, "the tunnel has ended by itself"


def login_processes(site: Loopback) -> list[psutil.Process]:
    """What the login node's sshd has for each connection."""

    def sshds(processes: list[psutil.Process]) -> list[psutil.Process]:
        return [each for each in processes if each.name().startswith("sshd")]

    listeners = sshds(psutil.Process().children())
    (listener,) = (each for each in listeners if str(site.root) in " ".join(each.cmdline()))
    return sshds(listener.children(recursive=True))


@pytest.fixture
def tunnel(site: Loopback) -> Iterator[Tunnel]:
    """To a session whose JupyterLab does not ask whether to show its news."""
    settings = site.home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    news = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(news))
    site.wait_for_session(site.start_session())
    made = Tunnel(site)
    yield made
    for process in made.suspended:
        process.kill()  # it heeds nothing else
    made.close()


@pytest.fixture
def notebook(site: Loopback) -> Path:
    """On the cluster; its only cell makes a plot, and has not been run."""
    cell = {"cell_type": "code", "id": "plot", "metadata": {}, "source": PLOT}
    content = {
        "cells": [{**cell, "outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = site.home / "oscillation.ipynb"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def page(tunnel: Tunnel, notebook: Path, tmp_path: Path) -> Iterator[Page]:
    """JupyterLab through the tunnel, with the notebook open."""
    command = tunnel.site.proxy("url", "demo")
    url = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    with chromium(tmp_path) as driver:
        yield Page(driver, url, notebook.name)


def saved_outputs(notebook: Path) -> list[str]:
    """What each of its cells has put out, as it stands on the disk."""
    return [json.dumps(cell.get("outputs")) for cell in json.loads(notebook.read_text())["cells"]]


def test_a_plot(page: Page, notebook: Path) -> None:
    page.run()
    page.wait(lambda: page.pictures() == 1, "the plot")
    page.save()
    assert "image/png" in saved_outputs(notebook)[0]


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_the_page_survives_a_cut(page: Page, tunnel: Tunnel, notebook: Path, how: str) -> None:
    page.run()
    page.wait(lambda: page.pictures() == 1, "the plot")
    assert not page.was_cut()
    tunnel.cut(how)
    page.wait(page.was_cut, "JupyterLab has lost its kernel")
    tunnel.bring_back()
    page.wait(page.is_connected, "JupyterLab has its kernel again")
    page.close_dialogs()
    page.run(LATER)
    page.wait(lambda: page.says(ANSWER), "what the later cell puts out")
    page.save()
    plot, later = saved_outputs(notebook)[:2]
    assert "image/png" in plot
    assert ANSWER in later
    assert page.was_cut(), "it is still the same page"
    if "JLAB_SCREENSHOT" in os.environ:
        page.take_picture(os.environ["JLAB_SCREENSHOT"])
