"""Chromium without a window, and what a person does with JupyterLab in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 120  # seconds; JupyterLab itself asks a lost server again every 10 to 30
SIZE = {"width": 1200, "height": 800}

# Named, so that selenium looks for nothing and downloads nothing.
_BROWSER, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = (
    ""
    if _BROWSER and _DRIVER
    else "there is no chromium with its chromedriver here (apt install chromium chromium-driver)"
)

_OPTIONS = [
    "--headless=new",
    "--no-sandbox",  # which cannot be had as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_PICTURES = """
return [...document.querySelectorAll('.jp-OutputArea-output img')]
    .filter(each => each.src.startsWith('data:image/png') && each.naturalWidth > 0).length
"""

_NOTE_STATES = """
window.states = [];
const note = changes => window.states.push(...changes.map(each => each.target.dataset.status));
const changes = {subtree: true, attributes: true, attributeFilter: ['data-status']};
new MutationObserver(note).observe(document.body, changes);
"""


_NOTE_DIALOGS = """
window.dialogs = [];
new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {
    if (node.classList && node.classList.contains('jp-Dialog')) window.dialogs.push(node.innerText);
}))).observe(document.body, {subtree: true, childList: true});
"""


@contextlib.contextmanager
def chromium(directory: Path) -> Iterator[WebDriver]:
    """The machine's own, with a profile in `directory`."""
    assert _BROWSER is not None
    options = webdriver.ChromeOptions()
    options.binary_location = _BROWSER
    for option in (*_OPTIONS, f"--user-data-dir={directory}/profile"):
        options.add_argument(option)
    service = Service(_DRIVER, env={**os.environ, "HOME": str(directory)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "localhost")  # where selenium talks to chromedriver
        started = webdriver.Chrome(options=options, service=service)
    with started:
        # Of the page, not of a window around it.
        metrics = {**SIZE, "deviceScaleFactor": 1, "mobile": False}
        started.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield started


class Page:
    """JupyterLab's page, with one notebook open."""

    def __init__(self, driver: WebDriver, url: str, notebook: str) -> None:
        """Log in with the address, double-click on the notebook, wait for its kernel."""
        self._driver = driver
        driver.get(url)
        entry = self._visible(".jp-DirListing-item", text=notebook)
        webdriver.ActionChains(driver).double_click(entry).perform()
        self._visible("#jp-main-statusbar", text="Python 3 (ipykernel) | Idle")
        driver.execute_script(_NOTE_STATES)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until the condition is true."""
        waiting = WebDriverWait(self._driver, PATIENCE, ignored_exceptions=[WebDriverException])
        try:
            waiting.until(lambda _: condition())
        except TimeoutException:
            shown = self._find("body")[0].text
            message = f"not within {PATIENCE} s: {what}; the page says:\n{shown}"
            raise TimeoutError(message) from None

    def _find(self, selector: str) -> list[WebElement]:
        return self._driver.find_elements(By.CSS_SELECTOR, selector)

    def _visible(self, selector: str, *, text: str = "") -> WebElement:
        """The last such element, once there is one."""

        def find() -> list[WebElement]:
            found = self._find(selector)
            return [each for each in found if each.is_displayed() and text in each.text]

        self.wait(find, f"{selector} {text}")
        return find()[-1]

    def run(self, code: str = "") -> None:
        """Type into the last cell and run it."""
        self._visible(".jp-Notebook .jp-Cell .cm-content").click()
        webdriver.ActionChains(self._driver).send_keys(code).perform()
        self.run_selected()

    def run_all(self) -> None:
        """Run each cell, from the first on."""
        cells = self._find(".jp-Notebook .jp-Cell .cm-content")
        cells[0].click()
        for _ in cells:
            self.run_selected()

    def run_selected(self) -> None:
        """Run the cell that is selected, and select the next one."""
        keys = webdriver.ActionChains(self._driver)
        keys.key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def save(self) -> None:
        """Ctrl-S, until the page says that it is done."""
        keys = webdriver.ActionChains(self._driver)
        keys.key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        self.wait(lambda: not self._find(".jp-mod-dirty"), "the notebook is saved")

    def pictures(self) -> int:
        """How many there are among the cells' outputs."""
        return int(self._driver.execute_script(_PICTURES))

    def says(self, text: str) -> bool:
        """Whether a cell's output is this."""
        return text in [each.text.strip() for each in self._find(".jp-OutputArea-output")]

    def contains(self, text: str) -> bool:
        """Whether a cell's output has this in it, whatever the line breaks."""
        outputs = [each.text for each in self._find(".jp-OutputArea-output")]
        return any(text in " ".join(each.split()) for each in outputs)

    def note_dialogs(self) -> None:
        """From now on, however soon they are gone."""
        self._driver.execute_script(_NOTE_DIALOGS)

    def dialogs(self) -> list[str]:
        """What each of them said."""
        return list(self._driver.execute_script("return window.dialogs"))

    def is_connected(self) -> bool:
        """Whether the page has a connection to the notebook's kernel."""
        (indicator,) = self._find(".jp-Notebook-ExecutionIndicator")
        return indicator.get_attribute("data-status") in ("idle", "busy", "unknown")

    def was_cut(self) -> bool:
        """Whether it has lost that, now or before. Not if the page has been loaded again."""
        return "connecting" in (self._driver.execute_script("return window.states") or [])

    def close_dialogs(self) -> None:
        """JupyterLab says once that it has lost the server."""

        def closed() -> bool:
            for button in self._find(".jp-Dialog button.jp-mod-reject"):
                button.click()
            return not self._find(".jp-Dialog")

        self.wait(closed, "the dialogs are closed")

    def take_picture(self, path: str) -> None:
        """Of the page, as a PNG file."""
        self._driver.save_screenshot(path)
