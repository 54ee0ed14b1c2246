"""How many descriptors this process may have: what it can give itself; its children as ever."""

from __future__ import annotations

import contextlib
import resource

_WANTED_LIMIT = 4096


def raise_limit() -> int:
    """Let this process have more, where it may; return the limit as it was, for `lower_limit`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _WANTED_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft


def lower_limit(soft: int) -> None:
    """Give the limit back in a child, which may not expect more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def share(of: int, *, most: int) -> int:
    """Return one part in `of` of the descriptors that this process may have, `most` at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // of)
