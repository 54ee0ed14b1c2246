"""What `connect` says: one sentence for each thing that can be the matter."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from jlab_node.jobs import messages
from jlab_node.jobs.messages import NoSession
from jlab_node.jobs.site import Site
from jlab_node.registry.record import Record
from jlab_node.schedulers import TABLE
from jlab_node.schedulers.base import State, Status

NOW = 1_800_000_000  # 2027-01-15 08:00:00 UTC
RECORD = Record(
    name="gpu", node="n1", port=1, token="ab" * 32, scheduler="slurm", job_id="12", cluster="cal1"
)
QUEUED = Status("12", State.QUEUED, raw_state="PENDING", reason="Resources", name="jlab")
RUNNING = Status("12", State.RUNNING, raw_state="RUNNING", name="jlab", node="n1")
SLURM = Site(TABLE["slurm"], "cal1")
OAR = Site(TABLE["oar"], "")

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize(
    ("later", "text"),
    [
        pytest.param(0, "08:00", id="now"),
        pytest.param(16 * 3600 - 1, "23:59", id="today"),
        pytest.param(16 * 3600, "2027-01-16 00:00", id="tomorrow"),
        pytest.param(-8 * 3600, "00:00", id="this morning"),
        pytest.param(-8 * 3600 - 1, "2027-01-14 23:59", id="yesterday"),
        pytest.param(365 * 86400, "2028-01-15 08:00", id="the same day of another year"),
    ],
)
def test_clock_has_the_date_of_another_day(later: int, text: str) -> None:
    assert messages.clock(NOW + later, now=NOW) == text


def test_clock_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert messages.clock(NOW, now=NOW) == "17:00"


@pytest.mark.parametrize(
    ("scheduler", "status", "text"),
    [
        pytest.param(
            "slurm",
            Status("12", State.ENDED, reason="reached its time limit", ends_at=NOW),
            "Slurm job 12 reached its time limit at 2027-01-15 08:00",
            id="when and why",
        ),
        pytest.param(
            "oar",
            Status("12", State.ENDED, reason="was deleted"),
            "OAR job 12 was deleted",
            id="nobody knows when",
        ),
        pytest.param(
            "slurm", QUEUED, "Slurm job 12 was put back in the queue", id="it will come again"
        ),
        pytest.param(
            "local",
            Status("12", State.ENDED, reason="has ended"),
            "its process 12 has ended",
            id="ps",
        ),
    ],
)
def test_job_ended_by_state(scheduler: str, status: Status, text: str) -> None:
    assert messages.job_ended(scheduler, RECORD.job_id, status) == text


def test_session_died_names_the_job() -> None:
    text = "its jlab-node has ended, although OAR job 12 still runs"
    assert messages.session_died("oar", RECORD.job_id) == text


@pytest.mark.parametrize(
    ("record", "text"),
    [
        pytest.param(
            RECORD,
            "session gpu runs on n1 in Slurm job 12 of cluster cal1, which this machine does not "
            "know",
            id="a cluster with a name",
        ),
        pytest.param(
            replace(RECORD, scheduler="pbs", cluster=""),
            "session gpu runs on n1 in PBS job 12, which this machine does not know",
            id="a cluster without",
        ),
        pytest.param(
            replace(RECORD, scheduler="local"),
            "session gpu runs on n1, which is another machine",
            id="no cluster",
        ),
        pytest.param(
            replace(RECORD, scheduler="flux"),
            "session flux-12-gpu is a flux job, which this jlab-node does not know: upgrade "
            "jlab-remote on this cluster",
            id="a scheduler of the future",
        ),
    ],
)
def test_other_cluster_by_scheduler(record: Record, text: str) -> None:
    assert messages.other_cluster(record) == text


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        pytest.param(
            [replace(QUEUED, starts_at=NOW + 60)],
            "job 12 (jlab) is queued, starts about 08:01: PENDING, Resources",
            id="queued",
        ),
        pytest.param(
            [replace(QUEUED, starts_at=NOW + 86400)],
            "job 12 (jlab) is queued, starts about 2027-01-16 08:00: PENDING, Resources",
            id="until tomorrow",
        ),
        pytest.param(
            [replace(QUEUED, starts_at=NOW + 59)],
            "job 12 (jlab) is queued, starts any moment: PENDING, Resources",
            id="nearly there",
        ),
        pytest.param(
            [replace(QUEUED, starts_at=NOW - 9)],
            "job 12 (jlab) is queued, starts any moment: PENDING, Resources",
            id="overdue",
        ),
        pytest.param(
            [QUEUED],
            "job 12 (jlab) is queued, its start is not known yet: PENDING, Resources",
            id="no estimate",
        ),
        pytest.param(
            [replace(QUEUED, name="", reason="")],
            "job 12 is queued, its start is not known yet: PENDING",
            id="neither name nor reason",
        ),
        pytest.param(
            [replace(QUEUED, starts_at=NOW), RUNNING, QUEUED],
            "job 12 (jlab) is queued, starts any moment: PENDING, Resources (and 2 more)",
            id="the first of several",
        ),
        pytest.param([RUNNING], "job 12 (jlab) runs on n1; JupyterLab is starting", id="running"),
        pytest.param(
            [replace(RUNNING, name="", node=""), QUEUED],
            "job 12 runs; JupyterLab is starting (and 1 more)",
            id="running somewhere",
        ),
    ],
)
def test_waiting_by_state(ahead: list[Status], text: str) -> None:
    assert messages.waiting(ahead, now=NOW) == text


@pytest.mark.parametrize(
    ("job", "text"),
    [
        pytest.param(
            Status("12", State.ENDED, reason="failed", name="jlab", ends_at=NOW),
            "job 12 (jlab) failed at 2027-01-15 08:00 before its session started: its log says why",
            id="it ended",
        ),
        pytest.param(
            Status("12", State.ENDED, reason="was cancelled"),
            "job 12 was cancelled before its session started: its log says why",
            id="it ended, nobody knows when",
        ),
        pytest.param(
            RUNNING,
            "job 12 (jlab) has run for ten minutes and has no session yet: its log may say why",
            id="it runs",
        ),
        pytest.param(
            QUEUED,
            "job 12 (jlab) is not in the queue any more: its log may say why",
            id="nobody knows",
        ),
    ],
)
def test_job_never_became_session_by_state(job: Status, text: str) -> None:
    assert messages.job_never_became_session(job) == text


def test_unreachable_lists_the_failures() -> None:
    said = messages.unreachable(["TCP to port 1: refused", "srun: down", "ssh: down"])
    assert said.splitlines()[0] == (
        "no way leads there: TCP to port 1: refused; srun: down; ssh: down"
    )
    assert "--port-range" in said.splitlines()[1]


@pytest.mark.parametrize(
    ("site", "wanted", "names", "jobs", "text"),
    [
        pytest.param(
            None,
            None,
            [],
            0,
            "no session to connect to on box: start one there with `jlab-node run`",
            id="a plain server",
        ),
        pytest.param(
            None,
            "gpu",
            ["a", "lab"],
            0,
            "no session called gpu to connect to on box (there are: a, lab): start one there with "
            "`jlab-node run --name gpu`",
            id="a plain server, that name",
        ),
        pytest.param(
            SLURM,
            None,
            [],
            0,
            "no session to connect to, and you have no job there: log in and submit one with "
            "`sbatch jlab.sh` (`jlab-node script slurm > jlab.sh` writes it)",
            id="no job",
        ),
        pytest.param(
            OAR,
            None,
            [],
            3,
            "no session to connect to, and none of your OAR jobs (3) looks like a session (jlab in "
            "its name, or jlab-node in its script): log in and submit one with `chmod +x jlab.sh "
            "&& oarsub -S ./jlab.sh` (`jlab-node script oar > jlab.sh` writes it)",
            id="other jobs",
        ),
        pytest.param(
            SLURM,
            "gpu",
            ["lab"],
            1,
            "no session called gpu to connect to (there are: lab), and none of your other Slurm "
            "jobs (1) looks like a session (jlab in its name, or jlab-node in its script): log in "
            "and submit one with `sbatch jlab.sh` (`jlab-node script slurm --name gpu > jlab.sh` "
            "writes it)",
            id="no job of that name",
        ),
        pytest.param(
            SLURM,
            "gpu",
            ["lab"],
            0,
            "no session called gpu to connect to (there are: lab), and you have no other job "
            "there: log in and submit one with `sbatch jlab.sh` (`jlab-node script slurm --name "
            "gpu > jlab.sh` writes it)",
            id="no other job",
        ),
    ],
)
def test_no_session_says_why_and_what_to_do(
    site: Site | None, wanted: str | None, names: list[str], jobs: int, text: str
) -> None:
    found = NoSession(site, host="box", wanted=wanted, names=names, job_count=jobs)
    assert messages.no_session(found) == text


@pytest.mark.parametrize(
    ("how", "text"),
    [
        pytest.param(
            {"other_pending": [QUEUED]},
            "your Slurm job 12 (jlab) will be a session of another name",
            id="of another name",
        ),
        pytest.param(
            {
                "other_pending": [QUEUED, Status("13", State.RUNNING, name="x")],
                "ended_early": [RUNNING],
            },
            "your Slurm job 12 (jlab), 13 (x) will be a session of another name",
            id="two",
        ),
        pytest.param(
            {"ended_early": [RUNNING]},
            "the session of your Slurm job 12 (jlab) is over, although the job still runs",
            id="it was one",
        ),
    ],
)
def test_no_session_names_jobs_that_are_none(how: dict[str, list[Status]], text: str) -> None:
    found = NoSession(SLURM, host="box", wanted="gpu", names=[], job_count=3, **how)
    assert messages.no_session(found) == (
        f"no session called gpu to connect to, and {text}: log in and submit one with `sbatch "
        "jlab.sh` (`jlab-node script slurm --name gpu > jlab.sh` writes it)"
    )


@pytest.mark.parametrize(
    ("session_id", "status", "text"),
    [
        pytest.param("slurm-12-gpu", None, "", id="nobody knows"),
        pytest.param("local-12-gpu", Status("12", State.RUNNING), "", id="its process ends"),
        pytest.param(
            "slurm-12-gpu",
            RUNNING,
            ": its jlab-node has ended, although Slurm job 12 still runs",
            id="the job lives on",
        ),
        pytest.param(
            "slurm-12-gpu", QUEUED, ": Slurm job 12 was put back in the queue", id="requeued"
        ),
        pytest.param(
            "pbs-12[3].srv-gpu",
            Status("12[3].srv", State.ENDED, reason="was deleted", ends_at=NOW),
            ": PBS job 12[3].srv was deleted at 2027-01-15 08:00",
            id="it ended",
        ),
    ],
)
def test_what_became_of_by_state(session_id: str, status: Status | None, text: str) -> None:
    assert messages.what_became_of(session_id, status) == f"session gpu is over{text}"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        pytest.param(RECORD, "session gpu runs on n1 in Slurm job 12", id="no end is known"),
        pytest.param(
            replace(RECORD, ends_at=NOW + 3 * 3600 + 119),
            "session gpu runs on n1 in Slurm job 12, 3 h 1 min left",
            id="whole minutes",
        ),
        pytest.param(
            replace(RECORD, scheduler="local", ends_at=NOW - 1),
            "session gpu runs on n1, 0 h 0 min left",
            id="a plain server, and its time is up",
        ),
    ],
)
def test_running_says_where_and_how_long(record: Record, text: str) -> None:
    assert messages.running(record, now=NOW) == text


def test_job_restarted_names_the_job() -> None:
    assert messages.job_restarted("slurm", "12") == "Slurm job 12 was started again"


@pytest.mark.parametrize("scheduler", ["slurm", "oar", "pbs", "sge", "lsf"])
def test_what_it_tells_to_type_is_the_schedulers(scheduler: str) -> None:
    site = Site(TABLE[scheduler], "")
    said = messages.no_session(NoSession(site, host="box", wanted=None, names=[]))
    assert f"`{site.scheduler.SUBMIT_COMMAND.format('jlab.sh')}`" in said
    assert f"`jlab-node script {scheduler} > jlab.sh`" in said
