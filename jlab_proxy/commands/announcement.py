"""What `open` shows when there is a way: sentences, the address, the browser."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from .. import messages, open_state
from ..forwarding import local_ports, port_owners
from ..ui import browser

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..paths import Paths
    from ..target import Target
    from ..ui.terminal import Screen

_PAGE_LIFETIME = 60.0  # seconds that the page for the browser is kept
_BROWSER_START_TIME = 10.0  # seconds of that which somebody waits for


class AddressDisplay:
    """Shows the address, and opens the browser there; a context manager that removes its page."""

    def __init__(self, screen: Screen, *, with_browser: bool) -> None:
        self._screen = screen
        self._with_browser = with_browser and browser.has_screen()
        self._pages = contextlib.ExitStack()
        self._pages_since = 0.0

    def __enter__(self) -> AddressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._pages.close()

    def show(self, address: str) -> None:
        """Print the address, and open the browser there."""
        print(address, flush=True)
        if not self._with_browser:
            return
        with contextlib.suppress(OSError):  # a full disk; the address stands on the screen
            path = self._pages.enter_context(browser.redirect_page(address))
            self._pages_since = time.monotonic()
            # Some browsers are waited for until they end.
            threading.Thread(target=browser.open_page, args=(path,), daemon=True).start()

    def remove_old_page(self) -> None:
        """Remove the browser's page once it has been there for long enough."""
        if time.monotonic() - self._pages_since > _PAGE_LIFETIME:
            self._pages.close()

    def wait_for_browser(self) -> None:
        """Wait until the browser has read the page, which is removed at the end."""
        if self._with_browser:
            time.sleep(_BROWSER_START_TIME)


def show_exposed(screen: Screen, ports: Mapping[str, int], exposed: Iterable[str]) -> None:
    """Print where each name is forwarded from; `exposed`: those that the session knows."""
    for name, port in ports.items():
        address = local_ports.address(port)
        screen.say(messages.exposed_at(name, address, is_exposed=name in exposed))


def other_open(paths: Paths, target: Target, port: int) -> dict[str, Any]:
    """Return the state of another `open` of the same target, at whichever port; {} if none is.

    One whose port others have here is left out: it may be that of another container.
    """
    opens = {}
    for its_port, state in open_state.query_all(paths):
        if _is_valid(state) and port_owners.is_only_ours(its_port):
            opens[its_port] = {**state, "port": its_port}
    if port in opens and opens[port]["host"] == target.host:
        return opens[port]
    return next((state for state in opens.values() if state["host"] == target.host), {})


def _is_valid(state: dict[str, Any]) -> bool:
    """Return whether the state of an `open` has all that is needed of it."""
    has_texts = all(isinstance(state.get(key), str) for key in ("host", "id", "text", "address"))
    return has_texts and type(state.get("pid")) is int and isinstance(state.get("exposed"), dict)


def show_other_open(
    screen: Screen, state: dict[str, Any], names: Iterable[str], *, with_browser: bool
) -> int:
    """Show what the other `open` holds, and leave it at that; return the exit code.

    `names`: what is to be forwarded as well. The exit code is 1 if the other does not forward it.
    """
    if not state["address"]:
        screen.say(messages.already_opening(state["pid"], state["text"]))
        return 0
    screen.say(messages.already_open(state["pid"], state["text"]))
    missing = [name for name in names if name not in state["exposed"]]
    show_exposed(screen, state["exposed"], names)
    with AddressDisplay(screen, with_browser=with_browser) as display:
        display.show(state["address"])
        display.wait_for_browser()
    for name in missing:
        screen.say(messages.not_forwarded(name, state["pid"]))
    return int(bool(missing))


def describe_open(
    target: Target, text: str, session: str, address: str, exposed: Mapping[str, int]
) -> dict[str, Any]:
    """Return what an `open` says of itself to those who ask."""
    return {
        "pid": os.getpid(),
        "host": target.host,
        "id": session,
        "text": text,
        "address": address,
        "exposed": dict(exposed),
    }
