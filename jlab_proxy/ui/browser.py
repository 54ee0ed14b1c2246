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
_OLD = 3600  # seconds

# The token is in the address, and everybody can read a browser's command line.
_PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>JupyterLab</title>
<p><a href="{address}">JupyterLab</a></p>
"""


@contextlib.contextmanager
def page(address: str) -> Iterator[Path]:
    """A private page that leads to the address, for as long as this lasts; raises OSError.

    In the home directory itself: browsers in a sandbox see neither /tmp nor hidden directories.
    """
    for left in Path.home().glob(f"{_PREFIX}*.html"):  # by one that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > _OLD and _is_a_page(left):
                left.unlink()
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".html", dir=Path.home())
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(address=address))
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _is_a_page(path: Path) -> bool:
    """Whether we made that, and not the user; raises OSError."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_PAGE)).startswith(_PAGE.partition("{")[0].encode())


def is_here() -> bool:
    """Whether there is a screen for one: a text browser would take over the terminal."""
    if sys.platform in ("darwin", "win32", "cygwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def show(path: Path) -> bool:
    """Open the page; whether a browser was found."""
    return webbrowser.open(path.as_uri())
