"""Where things are on the laptop: the user's ssh config file, and our directory beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """An ssh config file and what belongs to it; everything of ours is in `jlab/` beside it."""

    config: Path
    is_default: bool

    @property
    def directory(self) -> Path:
        return self.config.parent / "jlab"

    @property
    def key(self) -> Path:
        return self.directory / "id"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"


def locate(config: str | None) -> Paths:
    """Paths for `config`, or for the file that ssh reads by itself."""
    default = _home() / ".ssh" / "config"
    chosen = Path(config).absolute() if config else default
    return Paths(chosen, chosen == default)


def _home() -> Path:
    """The home that ssh means by "~": the one in the user database, whatever $HOME says."""
    try:
        import pwd
    except ImportError:
        return Path.home()
    return Path(pwd.getpwuid(os.getuid()).pw_dir)
