"""A real browser, through the real tunnel: a plot in a notebook, and a tunnel that is cut."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Callable

import psutil
import pytest
from loopback import Loopback, free_port, stop, wait_until

from jlab_proxy.forwarding import ssh_forward
from tests.loopback.browser import MISSING, PATIENCE, Page, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

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


def switch_off(site: Loopback) -> None:
    for process in (site.sshd, *site.connections()):
        process.kill()


def freeze(site: Loopback) -> None:
    for process in (site.sshd, *site.connections()):
        process.suspend()


def thaw(site: Loopback) -> None:
    for process in (site.sshd, *site.connections()):
        process.resume()


# How long, in seconds; what begins it, what ends it.
OUTAGES: dict[str, tuple[float, Callable[[Loopback], None], Callable[[Loopback], None]]] = {
    "switched off": (30, switch_off, Loopback.start_sshd),
    "frozen": (120, freeze, thaw),
}


class Tunnel:
    """`jlab-proxy open` on the laptop, which comes back by itself."""

    def __init__(self, site: Loopback) -> None:
        self.site = site
        self._port = free_port()
        setup = site.proxy("setup", "demo", "--yes", "--port", str(self._port))
        subprocess.run(setup, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        command = site.proxy("open", "demo", "--no-browser")
        self._open = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        site.add_process(self._open)
        assert self._open.stdout is not None
        self.url = self._open.stdout.readline().decode().strip()
        self._end: threading.Timer | None = None  # of the outage

    def ssh(self) -> psutil.Process | None:
        """The one that it has at the moment."""
        with contextlib.suppress(psutil.Error):
            for each in psutil.Process(self._open.pid).children():
                if each.name() == "ssh" and "-N" in each.cmdline():
                    return each
        return None

    def cut(self, how: str) -> None:
        """Its ssh is killed; or the login node is off, or the network to it silent, for a while."""
        self._before = self.ssh()
        assert self._before
        if how == "killed":
            self._before.kill()
        else:
            seconds, begin, end = OUTAGES[how]
            begin(self.site)
            self._end = threading.Timer(seconds, end, [self.site])
            self._end.start()
        self._before.wait(timeout=PATIENCE)

    def wait_for_its_return(self) -> None:
        """The same local port, over a new connection."""
        if self._end is not None:
            self._end.join()
        wait_until(
            lambda: ssh_forward.login_status(self.url) == 200,
            "the tunnel is back",
            seconds=PATIENCE,
        )

    def close(self) -> None:
        """It has to be open still; else that is why the page failed."""
        code = self._open.poll()
        stop(self._open)
        assert self._open.stdout is not None
        self._open.stdout.close()
        assert code is None, "the tunnel has ended by itself"


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
    thaw(site)
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
    with chromium(tmp_path) as driver:
        yield Page(driver, tunnel.url, notebook.name)


def saved_outputs(notebook: Path) -> list[str]:
    """What each of its cells has put out, as it stands on the disk."""
    return [json.dumps(cell.get("outputs")) for cell in json.loads(notebook.read_text())["cells"]]


def test_a_plot(page: Page, notebook: Path) -> None:
    page.run()
    page.wait(lambda: page.pictures() == 1, "the plot")
    page.save()
    assert "image/png" in saved_outputs(notebook)[0]


@pytest.mark.full
@pytest.mark.parametrize(
    "how", ["killed", "switched off", pytest.param("frozen", marks=pytest.mark.nightly)]
)
def test_the_page_survives_a_cut(page: Page, tunnel: Tunnel, notebook: Path, how: str) -> None:
    page.run()
    page.wait(lambda: page.pictures() == 1, "the plot")
    assert not page.was_cut()
    tunnel.cut(how)
    page.wait(page.was_cut, "JupyterLab has lost its kernel")
    tunnel.wait_for_its_return()
    page.wait(page.is_connected, "JupyterLab has its kernel again")
    page.close_dialogs()
    page.run(LATER)
    page.wait(lambda: page.says(ANSWER), "what the later cell puts out")
    page.save()
    plot, later = saved_outputs(notebook)[:2]
    assert "image/png" in plot
    assert ANSWER in later
    assert page.was_cut(), "it is still the same page"


COUNT = (
    "import time; "
    "[print(each, end=' ', flush=True) or time.sleep(1) for each in range(50)] and print('counted')"
)


@pytest.mark.full
@pytest.mark.parametrize("how", OUTAGES)
def test_no_dialog_and_no_gap_when_the_way_is_gone_for_20_s(
    page: Page, tunnel: Tunnel, how: str
) -> None:
    """While a cell runs that puts something out all the time."""
    page.run()
    page.wait(lambda: page.pictures() == 1, "the plot")
    page.note_dialogs()
    page.run(COUNT)
    page.wait(lambda: page.contains("3 4 5"), "it counts")
    _, begin, end = OUTAGES[how]
    begin(tunnel.site)
    try:
        time.sleep(20)
    finally:
        end(tunnel.site)
    page.wait(lambda: page.contains("counted"), "it has counted to the end")
    assert page.contains(" ".join(map(str, range(50))) + " counted")
    assert page.dialogs() == []
