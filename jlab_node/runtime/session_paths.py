"""The paths in one session's directory. Pure: nothing is looked at or made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import session_lookup

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class SessionPaths:
    """What a session has in its `directory`, such as /tmp/jlab-alice/s-x7k2m9."""

    directory: Path

    @property
    def jupyter_runtime(self) -> Path:
        """JupyterLab's runtime directory. Its name is short: sockets of kernels are made in it."""
        return self.directory / "rt"

    @property
    def starting(self) -> Path:
        """The file that holds the session's id until the session is ready."""
        return self.directory / session_lookup.STARTING

    @property
    def alive(self) -> Path:
        """The file by whose lock versions before 0.2 know that the session lives."""
        return self.directory / "alive"

    @property
    def sshd_log(self) -> Path:
        """The file to which the session's sshds write what they do."""
        return self.directory / "sshd.log"

    @property
    def control(self) -> Path:
        """The socket on which the session takes requests of `jlab-node expose`."""
        return self.directory / session_lookup.CONTROL

    @property
    def direct(self) -> Path:
        """The socket on which JupyterLab listens."""
        return self.directory / session_lookup.DIRECT

    def socket(self, name: str) -> Path:
        """Return the socket to which the link NAME.sock of the runtime directory may lead."""
        return self.directory / f"{name}.sock"
