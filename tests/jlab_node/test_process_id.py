"""Which process that is: real ones, in real namespaces."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from loopback import finished

from jlab_node import process_id

ONE = "0f" * 16
# Prints what a process in a PID namespace of its own knows of one outside.
INSIDE = """
import os
from jlab_node import process_id
mine = process_id.identity(os.getpid())
print(os.getpid(), process_id.is_alive(mine), process_id.is_alive({outside!r}), mine)
"""


def test_a_process_lives_until_its_end() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        known = process_id.identity(process.pid)
        assert process_id.pid_of(known) == process.pid
        assert process_id.is_alive(known)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_id.is_alive(known) is False, "a zombie has ended"
    assert process_id.is_alive(known) is False
    assert process_id.identity(process.pid) == ""


def test_another_process_with_its_number_is_not_taken_for_it() -> None:
    pid, start, place = process_id.identity(os.getpid()).split(".", 2)
    assert process_id.is_alive(f"{pid}.{start}.{place}")
    assert process_id.is_alive(f"{pid}.{int(start) + 1}.{place}") is False


def test_nobody_can_tell_of_another_machine_or_another_start_of_this_one() -> None:
    known = process_id.identity(os.getpid())
    elsewhere = f"{known.rpartition('.')[0]}.{ONE}"
    assert process_id.is_alive(elsewhere) is None
    assert process_id.is_alive("") is None
    assert not process_id.is_in_another_namespace(known)
    assert not process_id.is_in_another_namespace(elsewhere)


def test_equal_numbers_in_two_namespaces_are_told_apart() -> None:
    outside = process_id.identity(os.getpid())
    code = INSIDE.format(outside=outside)
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    found = [finished([*unshare, sys.executable, "-c", code]) for _ in range(2)]
    if any(each.returncode for each in found):
        pytest.skip(f"no namespaces here: {found[0].stderr.strip()}")
    (pid, mine, of_outside, one), (*same, another) = (each.stdout.split() for each in found)
    assert same == [pid, mine, of_outside] == ["1", "True", "None"]
    assert process_id.is_alive(one) is None
    assert process_id.is_in_another_namespace(one)
    assert another.split(".")[0] == one.split(".")[0]


def test_the_proc_of_another_namespace_tells_nothing() -> None:
    code = "import os; from jlab_node import process_id as p; print([p.identity(os.getpid())])"
    done = finished(["unshare", "--pid", "--fork", sys.executable, "-c", code])
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.stdout == "['']\n"
