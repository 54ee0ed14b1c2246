"""Open the user's browser at an address that must not stand in a command line."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "jlab-open-"
_STALE_AGE = 3600  # seconds after which a page was left behind

# The token is in the address, and everybody can read a browser's command line.
_PAGE_TEXT = """\
<!DOCTYPE html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>JupyterLab</title>
<p><a href="{address}">JupyterLab</a></p>
"""


@contextlib.contextmanager
def redirect_page(address: str) -> Iterator[Path]:
    """Make a private page that leads to the address, and goes with the context; raises OSError.

    It is in the home directory itself: browsers in a sandbox see neither /tmp nor hidden
    directories.
    """
    for left in Path.home().glob(f"{_PREFIX}*.html"):  # by one that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > _STALE_AGE and _is_redirect_page(left):
                left.unlink()
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".html", dir=Path.home())
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_PAGE_TEXT.format(address=address))
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _is_redirect_page(path: Path) -> bool:
    """Return whether we made that, and not the user; raises OSError."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_PAGE_TEXT)).startswith(_PAGE_TEXT.partition("{")[0].encode())


def has_screen() -> bool:
    """Return whether a browser has a screen: a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32", "cygwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_page(path: Path) -> bool:
    """Open the page; return whether a browser was found."""
    return webbrowser.open(path.as_uri())
