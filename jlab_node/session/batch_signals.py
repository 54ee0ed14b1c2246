"""What a batch system sends some time before it ends or suspends a job: told, and survived.

Slurm sends what `--signal` names, LSF its signal 12 (USR2) at the run limit, Grid Engine USR1 and
USR2 with `-notify` and at soft limits, OAR the one of `--checkpoint`. By default each of them
would end the program at once.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from ..jobs import messages
from .job_log import log

if TYPE_CHECKING:
    import asyncio
    from typing import Callable

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU)


class BatchSignals:
    """Listens for these signals, and tells each of them in the job's log."""

    def __init__(self) -> None:
        self.ends_at: Callable[[], int | None] = lambda: None  # Unix time, seconds, as it is known

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; whoever has chosen to ignore one of them goes on doing so."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._tell, number)

    def _tell(self, number: signal.Signals) -> None:
        left = messages.time_left(self.ends_at(), now=time.time())
        log(
            f"{number.name}: the batch system warns that it will end or suspend this job soon"
            f"{left}: save your work. The session goes on"
        )
