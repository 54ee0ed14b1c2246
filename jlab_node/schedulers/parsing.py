"""Bits of text that several schedulers print or read."""

from __future__ import annotations

import re
import time


def clock(seconds: int) -> str:
    """Return a duration in seconds as hours:minutes:seconds."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def seconds(text: str) -> int | None:
    """Return the seconds of [[days-]hours:]minutes:seconds, any number of hours; None: not one."""
    found = re.fullmatch(r"(?:(?:([0-9]{1,4})-)?([0-9]{1,6}):)?([0-9]{1,2}):([0-9]{1,2})", text)
    if not found:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def number(text: str) -> int | None:
    """Return a number of at most twelve digits, so that as a time it is one that can be shown."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None


def moment(text: str, form: str) -> int | None:
    """Return the Unix time of a local date in the given strptime form; None: not one."""
    try:
        return int(time.mktime(time.strptime(text, form)))
    except (ValueError, OverflowError):
        return None
