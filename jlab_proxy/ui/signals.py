"""What ends this program ends what it started: SIGTERM and SIGHUP become an exit like others."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit within the context: 128 + the signal's number."""

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    wanted = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows has one
    before = {
        each: signal.signal(each, leave)
        for each in wanted
        if each is not None and signal.getsignal(each) != signal.SIG_IGN  # as nohup wants it
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
