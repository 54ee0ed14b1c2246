"""News of the cluster, the state of what is waited for, and what ssh itself says."""

from __future__ import annotations

import pytest

from jlab_proxy.cluster.notices import NEWS, SSH, WAITING, parse_notice

QUEUED = "job 12 (jlab) is queued, its start is not known yet: PENDING, Resources"
RUNS = "job 12 (jlab) runs on n1; JupyterLab is starting"
SILENT = "Slurm does not answer (down); asking again"
SUBMITTED = "a job was submitted; it is not listed yet"


@pytest.mark.parametrize("text", [QUEUED, RUNS, SILENT, SUBMITTED, "any other words", ""])
def test_a_tagged_line_is_a_state_whatever_its_words(text: str) -> None:
    assert parse_notice(f"jlab-node: [waiting] {text}") == (WAITING, text)


@pytest.mark.parametrize("text", [QUEUED, RUNS, SILENT])
def test_a_state_of_a_cluster_without_tags_is_known_by_its_words(text: str) -> None:
    assert parse_notice(f"jlab-node: {text}") == (WAITING, text)


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (
            "jlab-node: session lab is over: its job ended",
            NEWS,
            "session lab is over: its job ended",
        ),
        ("jlab-node: see [waiting] there", NEWS, "see [waiting] there"),
        ("jlab-node: [waiting]", NEWS, "[waiting]"),
        ("jlab-node: ", NEWS, ""),
        ("[waiting] Permission denied", SSH, "[waiting] Permission denied"),
        ("ssh: jlab-node: nothing", SSH, "ssh: jlab-node: nothing"),
        ("", SSH, ""),
    ],
)
def test_other_lines_are_news_or_ssh(line: str, kind: str, text: str) -> None:
    assert parse_notice(line) == (kind, text)
