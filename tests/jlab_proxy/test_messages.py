"""The sentences of the laptop's commands, word by word: here alone."""

from __future__ import annotations

import pytest

from jlab_proxy import messages
from jlab_proxy.errors import USAGE, NoConnectionError, PortTakenError, WrongDirectoryError

CHOOSE = "type jlab-proxy setup cal1 --port N to choose another port"
UPGRADE = "pip install -U jlab-remote"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            messages.no_connection("cal1", last_words="Connection refused", exit_code=255),
            "no connection to cal1: Connection refused",
        ),
        (
            messages.no_connection("cal1", last_words="", exit_code=255),
            "no connection to cal1: `ssh cal1` must work first",
        ),
        (messages.no_answer_in_time("cal1", seconds=15.0), "cal1 has not answered for 15 s"),
        (
            messages.no_answer("cal1"),
            "cal1 did not answer as jlab-node does: "
            "`ssh cal1 true` must print nothing; if it prints something, look into ~/.bashrc there",
        ),
        (
            messages.no_answer("cal1", megabytes=4),
            "cal1 sent more than 4 MB and no answer: "
            "`ssh cal1 true` must print nothing; if it prints something, look into ~/.bashrc there",
        ),
        (
            messages.invalid_answer(),
            "the answer of jlab-node is not valid: "
            f"log in to the cluster and type {UPGRADE} && jlab-node setup",
        ),
        (
            messages.cluster_is_older("cal1"),
            "jlab-remote on cal1 is older than on this computer: "
            f"log in there and type {UPGRADE} && jlab-node setup",
        ),
        (
            messages.cluster_is_newer("cal1"),
            f"jlab-remote on cal1 is newer than on this computer: type {UPGRADE} here",
        ),
        (
            messages.unknown_host("cal1", config="/home/alice/.ssh/config"),
            "ssh knows no host cal1: add a Host entry for it to /home/alice/.ssh/config; "
            "when `ssh cal1` works, try again",
        ),
    ],
)
def test_errors_of_the_cluster(error: Exception, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            messages.no_local_port("cal1+gpu", setup="cal1 --session gpu"),
            "no local port leads to cal1+gpu: type jlab-proxy setup cal1 --session gpu",
        ),
        (
            messages.port_of_another_block(8888, "jlab+cal2"),
            "port 8888 belongs to jlab+cal2: choose another one with --port",
        ),
        (
            messages.port_taken_by_other_user(8888, "cal1"),
            f"port 8888 is taken by a program of another user: {CHOOSE}",
        ),
        (
            messages.port_taken(8888, "cal1", pid=7, command="python x.py", is_ours=False),
            f"port 8888 is taken by process 7 (python x.py): {CHOOSE}",
        ),
        (
            messages.port_taken(8888, "cal1", pid=7, command="ssh -N jlab+cal1", is_ours=True),
            "port 8888 is taken by process 7 (ssh -N jlab+cal1): "
            "type jlab-proxy close cal1 to end it",
        ),
        (
            messages.port_leads_to_no_session(8888, "cal1"),
            "the program that answers at port 8888 is not a session that cal1 knows: "
            "type jlab-proxy close cal1, then connect again",
        ),
        (
            messages.jupyterlab_is_silent(8888),
            "JupyterLab does not answer at port 8888: try again soon",
        ),
        (
            messages.block_leads_elsewhere("lab", 8888, "cal1", leads_to="/tmp/a", sockets="/b"),
            "session lab has its sockets in /b, but port 8888 leads to /tmp/a: "
            "type jlab-proxy setup cal1",
        ),
        (
            messages.ssh_leads_elsewhere(
                "jlab+cal1", 8888, "cal1", leads_to="/tmp/a", sockets="/b"
            ),
            "your ssh to jlab+cal1 leads port 8888 to /tmp/a, but the session has its sockets in "
            "/b: end that ssh, then type jlab-proxy setup cal1",
        ),
        (
            messages.ssh_may_lead_to_stranger(
                "lab", "n1", 8888, "cal1", leads_to="/tmp/a", sockets="/b"
            ),
            "the ssh at port 8888 may be connected to session lab on n1, but it leads to /tmp/a "
            "instead of /b: end that ssh, then type jlab-proxy open cal1",
        ),
        (
            messages.ssh_fails("session lab runs", "jlab+cal1", "cal1", last_words="Bad key"),
            "session lab runs, but ssh jlab+cal1 fails: Bad key: "
            "type jlab-proxy doctor cal1 to find the reason",
        ),
        (
            messages.another_setup("/lock", seconds=10.0),
            "another jlab-proxy setup has held /lock for 10 s: "
            "end it, or continue it if it is suspended",
        ),
        (
            messages.port_not_open(8888, "cal1", "jlab+cal1"),
            "nothing listens on port 8888 yet: type jlab-proxy open cal1, "
            "or start ssh -N jlab+cal1 first and type this again",
        ),
        (messages.submit_is_no_line(), "--submit takes one command line"),
    ],
)
def test_errors_of_this_computer(error: Exception, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (messages.already_opening(7, ""), "process 7 is opening it already"),
        (
            messages.already_opening(7, "job 5 waits"),
            "process 7 is opening it already: job 5 waits",
        ),
        (
            messages.already_open(7, "session lab on n1"),
            "session lab on n1; process 7 holds it open",
        ),
        (
            messages.not_forwarded("dask", 7),
            "dask is not forwarded: end process 7, then open it again with --with dask",
        ),
        (
            messages.exposed_at("dask", "http://127.0.0.1:8787/", is_exposed=True),
            "dask at http://127.0.0.1:8787/",
        ),
        (
            messages.exposed_at("dask", "http://127.0.0.1:8787/", is_exposed=False),
            "dask at http://127.0.0.1:8787/ (once you type in the job: jlab-node expose dask PORT)",
        ),
        (
            messages.newest_has_changed(),
            "another session has become the newest, so ssh starts again",
        ),
        (
            messages.no_jupyter_lab("cal1"),
            "note: jupyter-lab is not on the PATH of cal1: activate its environment in the job "
            "before `jlab-node run`",
        ),
        (
            messages.no_sshd("cal1"),
            "note: cal1 has no sshd: sessions need one on their node, or "
            "`jlab-node run --sshd PATH`",
        ),
        (
            messages.block_is_removed("cal1"),
            "removed; the key of this computer stays in ~/.jlab/authorized_keys on cal1",
        ),
    ],
)
def test_sentences_that_end_nothing(sentence: str, text: str) -> None:
    assert sentence == text


def test_other_host_key_shows_both_and_how_to_compare() -> None:
    assert messages.other_host_key("cal1", pinned="SHA256:a", sent="SHA256:b").splitlines() == [
        "the sessions of cal1 have another host key than before:",
        "  pinned here: SHA256:a",
        "  sent by cal1: SHA256:b",
        "this is right if you have removed ~/.jlab there: compare with what this prints there:",
        "  ssh-keygen -lf ~/.jlab/host_key.pub",
    ]


def test_setup_is_done_names_the_config_file_that_is_not_the_usual_one() -> None:
    text = messages.setup_is_done("jlab+cal1", "cal1", 8888, option=" -F /tmp/c")
    assert text.splitlines() == [
        "jlab-proxy open -F /tmp/c cal1   opens JupyterLab in your browser (port 8888)",
        "ssh -F /tmp/c jlab+cal1   opens a shell in your session",
    ]


def test_errors_have_the_classes_and_exit_codes_that_callers_tell_apart() -> None:
    refused = messages.no_connection("cal1", last_words="", exit_code=255)
    assert isinstance(refused, NoConnectionError)
    assert refused.exit_code == 255
    assert isinstance(messages.no_answer_in_time("cal1", seconds=1), NoConnectionError)
    assert isinstance(messages.port_taken_by_other_user(8888, "cal1"), PortTakenError)
    taken = messages.port_taken(8888, "cal1", pid=7, command="x", is_ours=True)
    assert isinstance(taken, PortTakenError)
    elsewhere = messages.ssh_leads_elsewhere("jlab+a", 1, "a", leads_to="/a", sockets="/b")
    assert isinstance(elsewhere, WrongDirectoryError)
    assert messages.submit_is_no_line().exit_code == USAGE
