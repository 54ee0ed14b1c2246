"""What a line means that comes from the ssh which `open` has started. Pure."""

from __future__ import annotations

from typing import NamedTuple

WAITING, NEWS, SSH = "waiting", "news", "ssh"

_CLUSTER = "jlab-node: "
_WAITING_TAG = "[waiting] "  # before a status line, where the laptop has asked for tags
# In the status lines of clusters before 0.2, which know no tags.
_UNTAGGED_WAITING = (" is queued, ", "; JupyterLab is starting", "asking again")


class Notice(NamedTuple):
    """One line: who says it and why, and its text without prefix and tag.

    `kind`: WAITING for the state of what is waited for, NEWS for any other line of the cluster's,
    SSH for a line of ssh itself.
    """

    kind: str
    text: str


def parse_notice(line: str) -> Notice:
    """Return the line's kind and text; a cluster that sends no tags is known by its sentences."""
    if not line.startswith(_CLUSTER):
        return Notice(SSH, line)
    text = line[len(_CLUSTER) :]
    if text.startswith(_WAITING_TAG):
        return Notice(WAITING, text[len(_WAITING_TAG) :])
    if any(words in text for words in _UNTAGGED_WAITING):
        return Notice(WAITING, text)
    return Notice(NEWS, text)
