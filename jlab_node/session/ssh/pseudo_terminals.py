"""Whether this node's /dev/pts lets an sshd of ours give somebody a terminal."""

from __future__ import annotations

import grp
import os

NONE_HERE = (
    "no sshd of yours can give a terminal on this node (its /dev/pts is mounted without the group "
    "tty): ssh into this session runs commands, and a shell without a prompt"
)


def can_be_given() -> bool:
    """Return whether sshd can give somebody a terminal here.

    It makes each terminal the group tty's, which only root and its members may do.
    """
    try:
        group = grp.getgrnam("tty").gr_gid
    except KeyError:
        return True
    if os.geteuid() == 0 or group in (os.getegid(), *os.getgroups()):
        return True
    try:
        ours, theirs = os.openpty()
    except OSError:
        return False
    try:
        return os.fstat(theirs).st_gid == group
    finally:
        os.close(ours)
        os.close(theirs)
