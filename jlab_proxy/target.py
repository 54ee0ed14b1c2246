"""`jlab+gricad+gpu` -> the ssh alias "gricad" and the session "gpu". Pure.

On the way of every `ssh jlab+x`: no dataclass and no `re`, which cost more to import than all of
this takes.
"""

from __future__ import annotations

from .errors import USAGE, JlabError

PREFIX = "jlab+"

_FIRST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_NAME_CHARACTERS = _FIRST_CHARACTERS | frozenset("._-")
_MAX_ALIAS = 63  # characters
_MAX_SESSION = 32  # characters


class Target:
    """A cluster's login node, by its name in ~/.ssh/config, and a session there."""

    def __init__(self, alias: str, session: str | None = None) -> None:
        self.alias = alias
        self.session = session  # None: the newest

    @property
    def host(self) -> str:
        """What a user types after `ssh`."""
        return PREFIX + self.name

    @property
    def name(self) -> str:
        """What a user types after `jlab-proxy url`."""
        return f"{self.alias}+{self.session}" if self.session else self.alias

    @property
    def sessions(self) -> list[str]:
        """The session as an argument for `jlab-node`, which takes the newest without one."""
        return [self.session] if self.session else []


def parse_host(host: str) -> Target:
    """Return the target of a host name as ssh passes it; raises JlabError."""
    if not host.startswith(PREFIX):
        raise JlabError(
            f"{host!r} is not of the form jlab+ALIAS or jlab+ALIAS+SESSION", exit_code=USAGE
        )
    return parse(host[len(PREFIX) :])


def parse(text: str) -> Target:
    """Return the target that `ALIAS` or `ALIAS+SESSION` means; raises JlabError.

    Both end up in a command line on the other side, so what they may consist of is narrow.
    """
    alias, plus, session = text.partition("+")
    if not _is_name(alias, _MAX_ALIAS):
        raise JlabError(
            f"{alias!r} cannot be an alias",
            remedy=f"use 1 to {_MAX_ALIAS} of a-z 0-9 . _ - (ssh lower-cases "
            "host names); give the cluster such a name with a Host line in ~/.ssh/config",
            exit_code=USAGE,
        )
    if plus:
        check_session(session)
    return Target(alias, session or None)


def check_session(name: str) -> None:
    """Raise JlabError unless a session, or what one exposes, can be called so."""
    if not _is_name(name, _MAX_SESSION):
        raise JlabError(
            f"{name!r} cannot be a session's name",
            remedy=f"use 1 to {_MAX_SESSION} of a-z 0-9 . _ -",
            exit_code=USAGE,
        )


def _is_name(text: str, longest: int) -> bool:
    return (
        1 <= len(text) <= longest
        and text[0] in _FIRST_CHARACTERS
        and _NAME_CHARACTERS.issuperset(text)
    )
