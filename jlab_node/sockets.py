"""The user's directory on the node: a directory per session, and the links that `ssh -L` names.

    /tmp/jlab-alice/lab.sock  ->  x7k2m9qa/gpu.sock     the newest session
    /tmp/jlab-alice/gpu.sock  ->  x7k2m9qa/gpu.sock     the newest one of that name
    /tmp/jlab-alice/x7k2m9qa/                           sshd_config, runtime/, gpu.sock, alive

A session holds the lock `alive` for as long as it lives. The kernel lets go of it whatever the
end is, so what a killed session left behind is known as such, and removed by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import portpicker
from filelock import FileLock, Timeout

from . import files
from .errors import JlabError
from .record import is_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

NEWEST = "lab"  # the link, and the default name of a session
_CHUNK = 256 * 1024
_LOCK_TIMEOUT = 10.0  # seconds


def base_path(env: Mapping[str, str], user: str) -> Path:
    """The user's directory on every node. The laptop's ssh config names it: it must not vary."""
    named = env.get("JLAB_TMPDIR")
    if named is None:
        return Path("/tmp", "jlab-" + re.sub(r"[^A-Za-z0-9._-]", "_", user))  # noqa: S108
    if not re.fullmatch(r"/[A-Za-z0-9._/-]{1,60}", named):
        raise JlabError("JLAB_TMPDIR must be an absolute path of at most 60 plain characters")
    return Path(named)


class SessionDirectory:
    """One session's place on the node; a context manager that leaves nothing behind."""

    def __init__(self, base: Path, name: str, session_id: str) -> None:
        self.base = base
        self.name = name
        self._id = session_id

    def __enter__(self) -> SessionDirectory:
        try:
            files.private_directory(self.base)
            with self._lock():
                for dead in _dead(self.base):
                    shutil.rmtree(dead, ignore_errors=True)
                self._point_links()
                self.path = Path(tempfile.mkdtemp(dir=self.base, prefix=""))
                self._alive = FileLock(self.path / "alive", mode=0o600)
                self._alive.acquire(timeout=_LOCK_TIMEOUT)  # a `connect` may be looking at it
            try:
                self.runtime.mkdir(mode=0o700)
                files.replace(self._starting, self._id)
            except BaseException:
                self.__exit__()
                raise
        except OSError as error:
            where = error.filename or self.base
            raise JlabError(f"cannot use {where}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, JlabError), self._lock():
            shutil.rmtree(self.path, ignore_errors=True)
            self._alive.release()
            self._point_links()

    @property
    def runtime(self) -> Path:
        """JupyterLab's runtime directory. Its name is short: sockets of kernels are made in it."""
        return self.path / "rt"

    @property
    def _starting(self) -> Path:
        return self.path / "starting"

    @property
    def socket(self) -> Path:
        return self.path / f"{self.name}.sock"

    @property
    def sshd_config(self) -> Path:
        return self.path / "sshd_config"

    def write(self, path: Path, text: str) -> None:
        """A private file in here; raises JlabError."""
        try:
            files.replace(path, text)
        except OSError as error:
            raise JlabError(f"cannot write {path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Only one session of this user at a time; raises JlabError."""
        path = self.base / "lock"
        try:
            with FileLock(path, mode=0o600, timeout=_LOCK_TIMEOUT):
                yield
        except Timeout as error:
            raise JlabError(
                f"another jlab-node of yours on this node has held {path} for "
                f"{_LOCK_TIMEOUT:.0f} s: is one suspended?"
            ) from error

    def reserve_port(self) -> int:
        """A port free right now, which no other session of this user is about to take."""
        with self._lock():
            reserved = {_text(path) for path in self.base.glob("*/port")}
            while True:
                try:
                    port = int(portpicker.pick_unused_port())
                except portpicker.NoFreePortFoundError as error:
                    raise JlabError("no port is free on this node") from error
                if str(port) not in reserved:
                    files.replace(self.path / "port", str(port))
                    return port

    def take_links(self) -> None:
        """Let `ssh -L` to the newest session's socket lead here."""
        with self._lock():
            self._point_links()

    def ready(self) -> None:
        """The session is no longer `starting`."""
        self._starting.unlink(missing_ok=True)

    def _point_links(self) -> None:
        """Every link to the newest socket that fits it; links that fit none go."""
        sockets = sorted(self.base.glob("*/*.sock"), key=lambda path: path.stat().st_mtime_ns)
        wanted = {path.name: path for path in sockets}
        if sockets:
            wanted[f"{NEWEST}.sock"] = sockets[-1]
        for link in self.base.glob("*.sock"):
            if link.name not in wanted:
                link.unlink()
        for name, target in wanted.items():
            _link(self.base / name, target.relative_to(self.base))


def starting(base: Path) -> list[str]:
    """The ids of this node's sessions that are not ready yet, in order."""
    if not files.is_private(base):
        return []  # another user's trap; `run` says so
    alive = (path for path in _session_directories(base) if _is_alive(path))
    found = (_text(path / "starting") for path in alive)
    return sorted(text for text in found if is_id(text))


def _session_directories(base: Path) -> Iterator[Path]:
    return (path for path in base.iterdir() if path.is_dir() and not path.is_symlink())


def _dead(base: Path) -> list[Path]:
    return [path for path in _session_directories(base) if not _is_alive(path)]


def _is_alive(directory: Path) -> bool:
    lock = FileLock(directory / "alive", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def _link(path: Path, target: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, path)  # noqa: PTH105


@contextlib.asynccontextmanager
async def relay(path: Path, host: str, port: int) -> AsyncIterator[None]:
    """Carry each connection to the unix socket `path` to `host:port`, for as long as this lasts."""
    carrying: set[asyncio.Task[None]] = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_carry(reader, writer, host, port))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    try:
        server = await asyncio.start_unix_server(start, path, limit=_CHUNK)
    except OSError as error:
        raise JlabError(f"cannot listen on {path}: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port, limit=_CHUNK)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    finally:
        for each in (writer, far_writer):
            each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; then the other is told, and may still finish what it has to say."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
