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

_PAGE_LIFE = 60.0  # seconds that the page for the browser is kept
_SHORT_LIFE = 10.0  # seconds of that which somebody waits for


class Greeting:
    """A context manager, at whose end the browser's page goes."""

    def __init__(self, screen: Screen, *, with_browser: bool) -> None:
        self._screen = screen
        self._with_browser = with_browser and browser.is_here()
        self._pages = contextlib.ExitStack()
        self._pages_since = 0.0

    def __enter__(self) -> Greeting:
        return self

    def __exit__(self, *_: object) -> None:
        self._pages.close()

    def show(self, address: str) -> None:
        """Print the address, and open the browser there."""
        print(address, flush=True)
        if not self._with_browser:
            return
        with contextlib.suppress(OSError):  # a full disk; the address stands on the screen
            path = self._pages.enter_context(browser.page(address))
            self._pages_since = time.monotonic()
            # Some browsers are waited for until they end.
            threading.Thread(target=browser.show, args=(path,), daemon=True).start()

    def forget_page(self) -> None:
        """When it has been there for long enough."""
        if time.monotonic() - self._pages_since > _PAGE_LIFE:
            self._pages.close()

    def wait_for_browser(self) -> None:
        """Until it has read the page, which goes with us."""
        if self._with_browser:
            time.sleep(_SHORT_LIFE)


def tell_exposed(screen: Screen, ports: Mapping[str, int], exposed: Iterable[str]) -> None:
    """Where each name is forwarded from; `exposed`: those that the session knows."""
    for name, port in ports.items():
        address = local_ports.address(port)
        screen.say(messages.exposed_at(name, address, is_exposed=name in exposed))


def first(paths: Paths, target: Target, port: int) -> dict[str, Any]:
    """What another `open` of the same says, at whichever port; {}: there is none.

    Nor is it one whose port others have here: it may be that of another container.
    """
    found = {each["port"]: each for each in map(_known, open_state.all_of(paths)) if each}
    if port in found and found[port]["host"] == target.host:
        return found[port]
    return next((each for each in found.values() if each["host"] == target.host), {})


def _known(what: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    port, said = what
    fits = all(isinstance(said.get(key), str) for key in ("host", "id", "text", "address"))
    exposed = said.get("exposed")
    if not fits or type(said.get("pid")) is not int or not isinstance(exposed, dict):
        return {}
    if not port_owners.is_only_ours(port):
        return {}
    return {**said, "port": port}


def join(screen: Screen, said: dict[str, Any], names: Iterable[str], *, with_browser: bool) -> int:
    """Show what the other one holds open, and leave it at that; the exit code."""
    if not said["address"]:
        screen.say(messages.already_opening(said["pid"], said["text"]))
        return 0
    screen.say(messages.already_open(said["pid"], said["text"]))
    missing = [name for name in names if name not in said["exposed"]]
    tell_exposed(screen, {name: said["exposed"][name] for name in said["exposed"]}, names)
    with Greeting(screen, with_browser=with_browser) as greeting:
        greeting.show(said["address"])
        greeting.wait_for_browser()
    for name in missing:
        screen.say(messages.not_forwarded(name, said["pid"]))
    return int(bool(missing))


def announced(
    target: Target, text: str, session: str, address: str, exposed: Mapping[str, int]
) -> dict[str, Any]:
    """What an `open` says of itself to those who ask."""
    return {
        "pid": os.getpid(),
        "host": target.host,
        "id": session,
        "text": text,
        "address": address,
        "exposed": dict(exposed),
    }
