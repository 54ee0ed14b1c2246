"""The table of `ls`, and what is remembered of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from jlab_proxy.cluster.responses import Queued, Session
from jlab_proxy.commands import completion, ls
from jlab_proxy.commands.ls import Cluster
from jlab_proxy.paths import Paths
from jlab_proxy.ssh_config import keys

if TYPE_CHECKING:
    from pathlib import Path

LAB = Session("slurm-12-lab", "lab", "n1", "slurm", "12", 1, ())
GPU = Session("local-7-gpu", "gpu", "a-long-name", "local", "7", None, ("dask",))
WAITS = Queued("13", "job 13 (jlab) is queued, starts any moment: PENDING")


def test_table_has_sessions_in_columns_then_jobs() -> None:
    found = [
        Cluster("cal1", [LAB], [WAITS]),
        Cluster("myserver", [GPU]),
        Cluster("gricad"),
        Cluster("gone", problem="no connection to gone: timed out"),
    ]
    assert ls.table(found) == [
        "CLUSTER   SESSION  NODE         JOB       LEFT",
        "cal1      lab      n1           slurm 12  0 h 0 min",
        "myserver  gpu      a-long-name  -         -",
        "cal1: job 13 (jlab) is queued, starts any moment: PENDING",
        "gricad: no session, and no job that will be one",
    ]


def test_table_without_sessions_has_no_head() -> None:
    assert ls.table([Cluster("cal1", jobs=[WAITS])]) == [f"cal1: {WAITS.text}"]


def test_for_programs_has_every_value() -> None:
    found = ls.for_programs([Cluster("cal1", [GPU], [WAITS])])
    assert json.loads(json.dumps(found)) == {
        "format": 1,
        "clusters": [
            {
                "alias": "cal1",
                "sessions": [
                    {
                        "id": "local-7-gpu",
                        "name": "gpu",
                        "node": "a-long-name",
                        "scheduler": "local",
                        "job_id": "7",
                        "ends_at": None,
                        "exposed": ["dask"],
                        "socket_dir": None,
                    }
                ],
                "jobs": [{"job_id": "13", "text": WAITS.text}],
                "problem": "",
            }
        ],
    }


def paths_of(directory: Path) -> Paths:
    made = Paths(str(directory / "config"), is_default=False)
    keys.make_directory(made)
    return made


def test_seen_returns_what_was_remembered(tmp_path: Path) -> None:
    paths = paths_of(tmp_path)
    assert completion.seen(paths) == {}
    completion.remember_sessions(paths, "cal1", ["lab", "gpu", "lab"])
    completion.remember_sessions(paths, "gricad", [])
    assert completion.seen(paths) == {"cal1": ["gpu", "lab"], "gricad": []}
    completion.remember_sessions(paths, "cal1", ["lab"])
    assert completion.seen(paths)["cal1"] == ["lab"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"cal1": 5}', "\x00"])
def test_seen_of_a_malformed_file_is_empty(tmp_path: Path, text: str) -> None:
    paths = paths_of(tmp_path)
    (tmp_path / "jlab" / "seen").write_text(text)
    assert completion.seen(paths) == {}
    completion.remember_sessions(paths, "cal1", ["lab"])
    assert completion.seen(paths) == {"cal1": ["lab"]}


def test_remember_sessions_without_a_directory_writes_nothing(tmp_path: Path) -> None:
    """It is a convenience: `ls` goes on."""
    completion.remember_sessions(Paths(str(tmp_path / "config"), is_default=False), "cal1", ["lab"])
    assert list(tmp_path.iterdir()) == []


def test_aliases_are_sorted_and_each_named_once(tmp_path: Path) -> None:
    paths = paths_of(tmp_path)
    blocks = [f"# >>> jlab+{name} >>>\n# <<< jlab+{name} <<<\n" for name in ("b+gpu", "b", "a")]
    (tmp_path / "config").write_text("".join(blocks) + "Host c\n")
    assert completion.aliases(paths) == ["a", "b"]
