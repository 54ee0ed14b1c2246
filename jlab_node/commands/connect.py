"""`jlab-node connect`: what `ssh jlab+ALIAS` runs on the login node."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..connect.attempt import ConnectAttempt
from ..connect.request import ConnectRequest
from ..registry import home


def connect(
    session: str | None,
    *,
    columns: int | None,
    may_submit: bool,
    tried: str | None,
    tagged: bool,
) -> NoReturn:
    """Become the ssh connection to the session of that name, None: the newest; raises JlabError.

    `columns`: of the laptop's terminal, if it has one. `tried`: the file of a record whose node did
    not answer just now. `tagged`: status lines begin with [waiting].
    """
    request = ConnectRequest(
        session,
        columns,
        may_submit=may_submit,
        unresponsive_record=tried,
        arguments=sys.argv[2:],
        tagged=tagged,
    )
    ConnectAttempt(request, env=os.environ, user=home.user()).run()
