"""The sshd of one session, started for each connection with the keys as they are at that moment.

It runs from memory (memory_file.py): configuration, host key and laptops' keys are in no directory
that could come to belong to somebody else while the session lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import JlabError
from ..io_thread import IoThread
from ..job_log import log
from . import sshd, trusted_keys
from .memory_file import MemoryFile

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Callable

    from ...registry.home import Home
    from ..child_processes import Child, Children

_HOME_TIMEOUT = 2.0  # seconds for the keys to be read
_STILL_READ = 2 * sshd.LOGIN_GRACE  # seconds in which an sshd may still look at older ones


@dataclass(frozen=True)
class Keys:
    """What decides who is let in."""

    host_key: bytes
    authorized: bytes  # laptops' keys, as in authorized_keys


def read_keys(home: Home) -> Keys:
    """Return those in ~/.jlab, and the user's own if only the user can write them.

    Raises OSError and JlabError where ~/.jlab is not there, or may be another user's by now.
    """
    host_key = trusted_keys.read(home.host_key, closed=True)
    authorized = b""
    with contextlib.suppress(FileNotFoundError):
        authorized = trusted_keys.read(home.authorized_keys)
    with contextlib.suppress(OSError, JlabError):
        own = trusted_keys.read(home.path.parent / ".ssh" / "authorized_keys")
        authorized = authorized.rstrip(b"\n") + b"\n" + own
    return Keys(host_key, authorized)


class SessionSshd:
    """Starts `program` for one connection after the other; raises JlabError if it never could."""

    def __init__(
        self,
        program: str,
        home: Home,
        *,
        user: str,
        env: Mapping[str, str],
        log: Path,
        terminals: bool = True,
    ) -> None:
        self._program = program
        self._home = home
        self._user = user
        self._env = env
        self._log = log
        self._terminals = terminals
        self._io = IoThread()
        self._reading: concurrent.futures.Future[Keys] | None = None
        self._logged = ""
        try:
            self._keys = read_keys(home)
            self._sealed = self._seal(self._keys)
        except OSError as error:
            raise JlabError(f"cannot read {error.filename}: {error.strerror}") from error
        sshd.check(program, self._sealed[0].path)

    def _seal(self, keys: Keys) -> list[MemoryFile]:
        """Return the configuration, and what it names, in memory."""
        host_key, authorized = MemoryFile(keys.host_key), MemoryFile(keys.authorized)
        text = sshd.config(
            host_key.path,
            authorized.path,
            user=self._user,
            env=self._env,
            terminals=self._terminals,
        )
        return [MemoryFile(text.encode(errors="surrogateescape")), host_key, authorized]

    async def start(
        self, connection: int, children: Children, *, check: Callable[[], None]
    ) -> Child:
        """Serve ssh on that descriptor, if `check` raises nothing; raises OSError, JlabError.

        A slow home takes its time to say which keys may enter, so `check` is called after that.
        """
        await self._look_at_keys()
        check()
        command = sshd.command(self._program, self._sealed[0].path)
        with os.fdopen(self._open_log(), "ab") as log:
            return children.start(command, stdin=connection, stdout=connection, stderr=log.fileno())

    async def _look_at_keys(self) -> None:
        """Read the keys again.

        A home that does not answer, or is not to be trusted, leaves them as they were.
        """
        if self._reading is None or self._reading.done():
            self._reading = self._io.submit(lambda: read_keys(self._home))
            await asyncio.wait([asyncio.wrap_future(self._reading)], timeout=_HOME_TIMEOUT)
        if not self._reading.done():
            return
        try:
            keys = self._reading.result()
        except (OSError, JlabError) as error:
            self._log_once(f"{error}: whoever could get into this session before still can")
            return
        if keys != self._keys:
            old, self._sealed, self._keys = self._sealed, self._seal(keys), keys
            loop = asyncio.get_running_loop()
            for each in old:
                loop.call_later(_STILL_READ, each.close)

    def _log_once(self, text: str) -> None:
        if text != self._logged:
            self._logged = text
            log(text)

    def _open_log(self) -> int:
        """Open the file to which sshd writes what it does, for the user to look at."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self._log, flags, 0o600)
        except OSError:
            return os.open(os.devnull, os.O_WRONLY)
