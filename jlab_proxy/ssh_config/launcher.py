"""What ssh starts for `ssh jlab+x`: a small file beside our key, which Python runs bare.

The command `jlab-proxy` does the same. But `site`, which looks through all that is installed beside
us, and what pip writes into such a command take longer than everything of ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..paths import LAUNCHER_HEADER
from . import text_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..paths import Paths

_TEXT = """\
import sys

sys.path.insert(0, {place!a})
try:
    from jlab_proxy.__main__ import main
except ImportError:  # jlab-remote has been installed anew, in another place
    import os

    os.execv({program!a}, [*{words!a}, *sys.argv[1:]])
main()
"""


def words(paths: Paths, proxy: Sequence[str], *, platform: str = os.name) -> list[str]:
    """Return the words before `connect HOST` in a ProxyCommand.

    `proxy`: the words that start jlab-proxy.
    """
    if platform == "nt":  # the directory's name may have a space, which ssh cannot quote there
        return [*proxy]
    return [sys.executable, "-IS", paths.launcher]


def write(paths: Paths, proxy: Sequence[str]) -> None:
    """Write the file, unless it is there already; raises JlabError."""
    place = str(Path(__file__).parents[2])
    text = LAUNCHER_HEADER + _TEXT.format(place=place, program=proxy[0], words=[*proxy])
    if text_file.read(paths.launcher) != text:
        text_file.write(paths.launcher, text)
