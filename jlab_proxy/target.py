"""`jlab+gricad+gpu` -> the ssh alias "gricad" and the session "gpu". Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import USAGE, JlabError

PREFIX = "jlab+"
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SESSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Target:
    """A cluster's login node, by its name in ~/.ssh/config, and a session there."""

    alias: str
    session: str | None = None  # None: the newest

    @property
    def host(self) -> str:
        """What a user types after `ssh`."""
        return "+".join(["jlab", self.alias, *([self.session] if self.session else [])])


def parse_host(host: str) -> Target:
    """Target of a host name as ssh passes it; raises JlabError."""
    if not host.startswith(PREFIX):
        raise JlabError(f"{host!r} is not of the form jlab+ALIAS or jlab+ALIAS+SESSION", code=USAGE)
    return parse(host[len(PREFIX) :])


def parse(text: str) -> Target:
    """Target from `ALIAS` or `ALIAS+SESSION`; raises JlabError.

    Both end up in a command line on the other side, so the patterns are narrow.
    """
    alias, plus, session = text.partition("+")
    if not _ALIAS.fullmatch(alias):
        raise JlabError(
            f"{alias!r} cannot be an alias: 1 to 63 of a-z 0-9 . _ - (ssh lower-cases host names); "
            "give the cluster such a name with a Host line in ~/.ssh/config",
            code=USAGE,
        )
    if plus and not _SESSION.fullmatch(session):
        raise JlabError(
            f"{session!r} cannot be a session's name: 1 to 32 of a-z 0-9 . _ -", code=USAGE
        )
    return Target(alias, session or None)
