"""~/.jlab/sessions on a real disk: publish, withdraw, list, choose."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import NOBODY

from jlab_node.errors import JlabError
from jlab_node.jobs import liveness
from jlab_node.jobs.liveness import JobSnapshot
from jlab_node.registry import records, tombstones
from jlab_node.registry.own_record import OwnRecord
from jlab_node.registry.record import Record, render

LAB = Record(name="lab", node="n1", port=8888, token="ab" * 32, job_id="11")
GPU = Record(name="gpu", node="n2", port=8889, token="cd" * 32, scheduler="slurm", job_id="12")


def publish(directory: Path, record: Record, *, at: int) -> records.StoredRecord:
    """Publish, as if it had been `at` seconds after the epoch."""
    published = records.publish(directory, record)
    os.utime(published.path, (at, at))
    return published


def names(directory: Path) -> list[str]:
    """The records that can be read, in order."""
    return [each.record.name for each in records.read_all(directory)[0]]


def test_published_is_private_named_by_its_id_and_read_back(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        published = records.publish(tmp_path, GPU)
    finally:
        os.umask(before)
    assert published == records.StoredRecord(tmp_path / "slurm-12-gpu", GPU)
    assert published.path.stat().st_mode & 0o7777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["slurm-12-gpu"]
    assert records.read_all(tmp_path) == ([published], [])


def test_publishing_again_replaces_the_record_and_keeps_it_private(tmp_path: Path) -> None:
    path = records.publish(tmp_path, LAB).path
    path.chmod(0o644)
    again = replace(LAB, port=9999)
    records.publish(tmp_path, again)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert records.find_session(records.read_all(tmp_path)[0], None).record == again


def test_published_as_of_an_earlier_time_does_not_become_the_newest(tmp_path: Path) -> None:
    """A session whose end has moved is no newer for that."""
    publish(tmp_path, GPU, at=1_700_000_100)
    published = records.publish(tmp_path, LAB, mtime=1_700_000_000.25)
    assert published.path.stat().st_mtime == 1_700_000_000.25
    assert names(tmp_path) == ["gpu", "lab"]
    again = replace(LAB, ends_at=1_700_009_999)
    records.publish(tmp_path, again, mtime=1_700_000_000.25)
    assert names(tmp_path) == ["gpu", "lab"]
    assert records.find_session(records.read_all(tmp_path)[0], "lab").record == again
    records.publish(tmp_path, LAB)
    assert names(tmp_path) == ["lab", "gpu"], "without it, now"


def test_own_record_is_updated_in_place(tmp_path: Path) -> None:
    """What two parts of a session change stands side by side, and makes it no newer."""
    publication = OwnRecord(tmp_path, LAB)
    published_at = (tmp_path / LAB.id).stat().st_mtime
    records.publish(tmp_path, GPU)
    publication.update(ends_at=1_700_009_999)
    publication.update(exposed="dask")
    amended = replace(LAB, ends_at=1_700_009_999, exposed="dask")
    assert publication.record == amended
    assert records.find_session(records.read_all(tmp_path)[0], "lab").record == amended
    assert abs((tmp_path / LAB.id).stat().st_mtime - published_at) < 0.001
    assert names(tmp_path) == ["gpu", "lab"]


def test_own_record_that_cannot_be_updated_stays_as_it_was(tmp_path: Path) -> None:
    publication = OwnRecord(tmp_path, LAB)
    with pytest.raises(JlabError, match="its exposed is not valid"):
        publication.update(exposed="$(reboot)")
    publication.update(ends_at=1_700_009_999)
    assert publication.record == replace(LAB, ends_at=1_700_009_999)


def test_own_record_does_not_come_back_after_its_end(tmp_path: Path) -> None:
    publication = OwnRecord(tmp_path, LAB)
    publication.remove(job_lives_on=False)
    publication.update(exposed="dask")
    assert list(tmp_path.iterdir()) == []


def test_own_record_that_ends_before_its_job_leaves_a_tombstone(tmp_path: Path) -> None:
    """Nobody reads it any more, and nobody waits for that job."""
    publication = OwnRecord(tmp_path, GPU)
    publication.remove(job_lives_on=True)
    assert records.read_all(tmp_path) == ([], [])
    assert tombstones.exists(tmp_path, "slurm", GPU.job_id)
    publication.remove(job_lives_on=True)
    tombstones.remove(tmp_path, "slurm", GPU.job_id)
    assert list(tmp_path.iterdir()) == []


def test_own_record_without_a_tombstone_is_removed_all_the_same(tmp_path: Path) -> None:
    publication = OwnRecord(tmp_path, GPU)
    grave = tmp_path / f".dead-{GPU.id}"
    grave.mkdir()  # a file cannot be renamed to that
    publication.remove(job_lives_on=True)
    assert list(tmp_path.iterdir()) == [grave]


def test_own_record_leaves_what_took_its_place(tmp_path: Path) -> None:
    """A session of the same name in the same job."""
    publication = OwnRecord(tmp_path, LAB)
    another = replace(LAB, token="ef" * 32)
    records.publish(tmp_path, another)
    publication.update(exposed="dask")
    publication.remove(job_lives_on=True)
    assert records.find_session(records.read_all(tmp_path)[0], "lab").record == another


def test_own_record_leaves_another_sessions_record_whatever_its_file_is_called(
    tmp_path: Path,
) -> None:
    publication = OwnRecord(tmp_path, LAB)
    text = render(replace(GPU, token="ef" * 32))
    (tmp_path / LAB.id).write_text(text)
    publication.update(exposed="dask")
    publication.remove(job_lives_on=True)
    publication.remove(job_lives_on=False)
    assert (tmp_path / LAB.id).read_text() == text


def test_own_record_that_somebody_removed_is_there_again_when_updated(tmp_path: Path) -> None:
    publication = OwnRecord(tmp_path, LAB)
    (tmp_path / LAB.id).unlink()
    publication.update(exposed="dask")
    assert names(tmp_path) == ["lab"]


def test_a_record_that_is_not_valid_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(JlabError, match="its node is not valid"):
        records.publish(tmp_path, replace(LAB, node="$(reboot)"))
    assert list(tmp_path.iterdir()) == []


def test_publish_and_read_all_in_a_missing_directory(tmp_path: Path) -> None:
    gone = tmp_path / "sessions"
    with pytest.raises(JlabError, match=r"cannot publish the session in .*: No such file"):
        records.publish(gone, LAB)
    assert records.read_all(gone) == ([], [])


def test_publish_in_a_read_only_directory_fails(bound_by_modes: Path) -> None:
    bound_by_modes.chmod(0o500)
    try:
        with pytest.raises(JlabError, match=r"cannot publish the session in .*: Permission denied"):
            records.publish(bound_by_modes, LAB)
    finally:
        bound_by_modes.chmod(0o700)


def test_newest_comes_first_by_the_time_of_publishing(tmp_path: Path) -> None:
    times = {"b": 300, "d": 100, "a": 200, "c": 400}
    for name, at in times.items():
        publish(tmp_path, replace(LAB, name=name), at=at)
    assert names(tmp_path) == ["c", "b", "a", "d"]
    os.utime(tmp_path / "local-11-d", (500, 500))
    assert names(tmp_path) == ["d", "c", "b", "a"]


def test_order_is_kept_within_one_second(tmp_path: Path) -> None:
    for name, nanoseconds in {"a": 2, "b": 3, "c": 1}.items():
        path = records.publish(tmp_path, replace(LAB, name=name)).path
        os.utime(path, ns=(10**18 + nanoseconds * 10**6, 10**18 + nanoseconds * 10**6))
    assert names(tmp_path) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("wanted", "job_id"),
    [
        pytest.param(None, "13", id="the newest"),
        pytest.param("lab", "11", id="by name"),
        pytest.param("gpu", "13", id="the newest of a name"),
        pytest.param("slurm-12-gpu", "12", id="by id"),
    ],
)
def test_find_session_by_name_or_id(tmp_path: Path, wanted: str | None, job_id: str) -> None:
    publish(tmp_path, GPU, at=100)
    publish(tmp_path, LAB, at=200)
    publish(tmp_path, replace(GPU, job_id="13"), at=300)
    assert records.find_session(records.read_all(tmp_path)[0], wanted).record.job_id == job_id


def test_find_session_without_sessions_fails(tmp_path: Path) -> None:
    with pytest.raises(
        JlabError, match=r"no session is running on .*: start one there with `jlab-node run`"
    ):
        records.find_session(records.read_all(tmp_path)[0], None)


@pytest.mark.parametrize("wanted", ["la", "lab2", "", "local-11-la", "11"])
def test_find_session_that_is_not_there_fails(tmp_path: Path, wanted: str) -> None:
    records.publish(tmp_path, LAB)
    with pytest.raises(JlabError, match=r"no session is called .* on .*; running: "):
        records.find_session(records.read_all(tmp_path)[0], wanted)


def test_remove_takes_our_record_and_no_other(tmp_path: Path) -> None:
    mine = records.publish(tmp_path, LAB)
    records.publish(tmp_path, GPU)
    assert records.remove(mine)
    assert names(tmp_path) == ["gpu"]
    assert not records.remove(mine)


def test_remove_leaves_what_is_no_longer_ours(tmp_path: Path) -> None:
    mine = records.publish(tmp_path, LAB)
    theirs = records.publish(tmp_path, replace(LAB, token="ef" * 32))
    assert theirs.path == mine.path
    assert not records.remove(mine)
    assert records.read_all(tmp_path) == ([theirs], [])


def test_remove_leaves_what_it_cannot_read(tmp_path: Path) -> None:
    mine = records.publish(tmp_path, LAB)
    mine.path.write_text("format=9\n")
    assert not records.remove(mine)
    assert mine.path.exists()


def test_remove_where_nothing_can_be_removed(bound_by_modes: Path) -> None:
    mine = records.publish(bound_by_modes, LAB)
    bound_by_modes.chmod(0o500)
    try:
        assert not records.remove(mine)
    finally:
        bound_by_modes.chmod(0o700)
    assert mine.path.exists()


def test_tombstone_is_no_record_but_is_known_of(tmp_path: Path) -> None:
    dead, alive = records.publish(tmp_path, GPU), records.publish(tmp_path, LAB)
    assert not tombstones.exists(tmp_path, "slurm", "12")
    tombstones.mark_ended(dead)
    assert records.read_all(tmp_path) == ([alive], [])
    assert tombstones.exists(tmp_path, "slurm", "12")
    assert not tombstones.exists(tmp_path, "local", "11"), "one of another job"
    tombstones.mark_ended(dead)  # two connections at the same time
    assert tombstones.exists(tmp_path, "slurm", "12")
    tombstones.remove(tmp_path, "slurm", "12")
    assert not tombstones.exists(tmp_path, "slurm", "12")
    assert [path.name for path in tmp_path.iterdir()] == [LAB.id]
    tombstones.remove(tmp_path, "slurm", "12")


def test_mark_ended_leaves_what_is_no_longer_that_session(tmp_path: Path) -> None:
    """It took a while to find out that it is dead; meanwhile it was started again in its job."""
    dead = records.publish(tmp_path, GPU)
    again = records.publish(tmp_path, replace(GPU, token="ef" * 32))
    tombstones.mark_ended(dead)
    assert records.read_all(tmp_path) == ([again], [])
    assert not tombstones.exists(tmp_path, "slurm", "12")


def test_mark_ended_of_a_removed_record_does_nothing(tmp_path: Path) -> None:
    dead = records.publish(tmp_path, GPU)
    records.remove(dead)
    tombstones.mark_ended(dead)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scheduler", "job_id", "buried"),
    [
        pytest.param("pbs", "12[3].srv", True, id="it"),
        pytest.param("pbs", "123.srv", False, id="what [3] would match"),
        pytest.param("pbs", "12[3]", False, id="a part"),
        pytest.param("pbs", "2[3].srv", False, id="the end"),
        pytest.param("pbs", "*", False, id="a star"),
        pytest.param("slurm", "12[3].srv", False, id="another scheduler"),
    ],
)
def test_job_ids_are_no_patterns(
    tmp_path: Path, scheduler: str, job_id: str, *, buried: bool
) -> None:
    record = replace(GPU, scheduler="pbs", job_id="12[3].srv")
    tombstones.mark_ended(records.publish(tmp_path, record))
    assert tombstones.exists(tmp_path, scheduler, job_id) is buried
    tombstones.remove(tmp_path, scheduler, job_id)
    assert tombstones.exists(tmp_path, "pbs", "12[3].srv") is not buried


def test_remove_tombstones_of_all_sessions_of_a_job(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tombstones.mark_ended(records.publish(tmp_path, replace(GPU, name=name)))
    tombstones.remove(tmp_path, "slurm", "12")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("since", "buried"),
    [
        pytest.param(None, True, id="nobody knows since when"),
        pytest.param(900, True, id="started before"),
        pytest.param(1000, True, id="in the same second"),
        pytest.param(1060, True, id="by a clock that is ahead"),
        pytest.param(1061, False, id="started again since"),
    ],
)
def test_tombstone_since_the_job_was_started(
    tmp_path: Path, since: int | None, *, buried: bool
) -> None:
    tombstones.mark_ended(publish(tmp_path, GPU, at=1000))
    assert tombstones.exists(tmp_path, "slurm", "12", since=since) is buried


def test_tombstone_by_the_schedulers_clock_where_that_is_known(tmp_path: Path) -> None:
    """A node may die, and its job begin anew, within a minute."""
    tombstones.mark_ended(publish(tmp_path, replace(GPU, job_started=1000), at=5000))
    for since, buried in ((1000, True), (1005, True), (1020, False)):
        assert tombstones.exists(tmp_path, "slurm", "12", since=since) is buried


@pytest.mark.parametrize(
    ("of", "cluster", "buried"),
    [
        pytest.param("cal1", "cal1", True, id="the same"),
        pytest.param("cal2", "cal1", False, id="another"),
        pytest.param("", "cal1", True, id="it may be"),
        pytest.param("cal2", "", True, id="this one has no name"),
    ],
)
def test_tombstone_of_a_cluster(tmp_path: Path, of: str, cluster: str, *, buried: bool) -> None:
    """A home may be seen from two, and the numbers of their jobs are the same."""
    tombstones.mark_ended(records.publish(tmp_path, replace(GPU, cluster=of)))
    assert tombstones.exists(tmp_path, "slurm", "12", cluster=cluster) is buried
    tombstones.prune(tmp_path, "slurm", set(), cluster=cluster)
    assert (list(tmp_path.iterdir()) == []) is buried


def test_prune_tombstones_of_unlisted_jobs(tmp_path: Path) -> None:
    for job_id in ("12", "13", "12[3].srv", "123"):
        tombstones.mark_ended(records.publish(tmp_path, replace(GPU, job_id=job_id)))
    other = replace(GPU, scheduler="pbs")
    tombstones.mark_ended(records.publish(tmp_path, other))
    alive = records.publish(tmp_path, replace(GPU, job_id="14"))
    tombstones.prune(tmp_path, "slurm", {"12"})
    assert {path.name for path in tmp_path.iterdir()} == {
        ".dead-slurm-12-gpu",
        ".dead-pbs-12-gpu",
        alive.path.name,
    }


def test_tombstone_that_is_no_record_is_ignored(tmp_path: Path) -> None:
    """It hides no job, and is nobody's to remove."""
    texts = {"12-a": b"", "12-b": b"\xff", "12-c": b"format=9\n", "12": b"x", "": b"x"}
    for name, text in texts.items():
        (tmp_path / f".dead-slurm-{name}").write_bytes(text)
    (tmp_path / ".dead-slurm-12-d").mkdir()
    assert not tombstones.exists(tmp_path, "slurm", "12")
    tombstones.prune(tmp_path, "slurm", set())
    assert len(list(tmp_path.iterdir())) == 6


def test_mark_ended_where_nothing_can_be_changed(bound_by_modes: Path) -> None:
    dead = records.publish(bound_by_modes, GPU)
    bound_by_modes.chmod(0o500)
    try:
        tombstones.mark_ended(dead)
        tombstones.remove(bound_by_modes, "slurm", "12")
    finally:
        bound_by_modes.chmod(0o700)
    assert names(bound_by_modes) == ["gpu"]
    assert not tombstones.exists(bound_by_modes / "gone", "slurm", "12")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "it is cut short", id="empty"),
        pytest.param(render(LAB).encode()[:-1], "it is cut short", id="cut short"),
        pytest.param(
            render(LAB).encode().replace(b"\n", b"\r\n"), "it has no format number", id="CRLF"
        ),
        pytest.param(b"\xff\xfe\n", "it cannot be read: it is not text", id="not text"),
        pytest.param(
            render(LAB).replace("node=n1", "node=$(reboot)").encode(),
            "its node is not valid",
            id="a bad value",
        ),
        pytest.param(render(GPU).encode(), "it says it is slurm-12-gpu", id="of another name"),
        pytest.param(
            render(LAB).replace("format=1", "format=2").encode(),
            "a newer jlab-node wrote it (format 2): upgrade jlab-remote on this cluster",
            id="newer",
        ),
    ],
)
def test_file_without_a_usable_record_is_reported(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / LAB.id
    path.write_bytes(content)
    good = publish(tmp_path, GPU, at=1)
    assert records.read_all(tmp_path) == ([good], [records.InvalidRecord(path, why)])
    assert records.find_session(records.read_all(tmp_path)[0], None) == good


def test_directory_among_the_records_is_reported(tmp_path: Path) -> None:
    (tmp_path / LAB.id).mkdir()
    _, unreadable = records.read_all(tmp_path)
    assert [each.reason for each in unreadable] == ["it cannot be read: Is a directory"]


@pytest.mark.root("only root can give a file to another user")
def test_file_of_another_user_is_reported(tmp_path: Path) -> None:
    planted, good = publish(tmp_path, LAB, at=2), publish(tmp_path, GPU, at=1)
    os.chown(planted.path, NOBODY, NOBODY)
    why = "it is another user's"
    assert records.read_all(tmp_path) == ([good], [records.InvalidRecord(planted.path, why)])


def test_file_that_may_not_be_read_is_reported(bound_by_modes: Path) -> None:
    records.publish(bound_by_modes, LAB).path.chmod(0)
    _, unreadable = records.read_all(bound_by_modes)
    assert [each.reason for each in unreadable] == ["it cannot be read: Permission denied"]


def test_file_that_vanished_since_it_was_listed_is_not_mentioned(tmp_path: Path) -> None:
    good = records.publish(tmp_path, GPU)
    # To a reader, a link to nothing is a file that is listed and then cannot be opened.
    (tmp_path / LAB.id).symlink_to(tmp_path / "gone")
    assert list(records.RecordCache(tmp_path).records()) == [good]


def test_dot_files_are_not_records(tmp_path: Path) -> None:
    (tmp_path / ".tmpx7k2").write_text(render(LAB))
    (tmp_path / ".nfs0001").write_text("left behind by NFS")
    assert records.read_all(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("slurm-12-gpu", "slurm-12-gpu"),
        ("a b~", "a b~"),
        ("\x1b[2Jx", "?[2Jx"),
        ("a\nb\x7f", "a?b?"),
        ("é\x9b", "??"),
        ("\udcff", "?"),
    ],
    ids=ascii,
)
def test_shown_name_has_no_control_characters(name: str, shown: str) -> None:
    assert records.shown_name(Path("/x", name)) == shown


def test_record_cache_opens_no_more_than_is_asked_for(tmp_path: Path) -> None:
    """Whoever opened one of the older ones would wait for ever: it is a pipe."""
    newest = publish(tmp_path, GPU, at=3 * 10**9)
    for number in range(3):
        os.mkfifo(tmp_path / f"slurm-{number}-old")
    shelf = records.RecordCache(tmp_path)
    assert next(shelf.records()) == newest
    assert list(shelf.records(name="gpu")) == [newest]
    assert list(shelf.records(jobs={"12"})) == [newest]
    assert list(shelf.records(name="lab")) == list(shelf.records(jobs={"1x"})) == []


def test_record_cache_knows_names_with_dashes(tmp_path: Path) -> None:
    dashed = publish(tmp_path, replace(GPU, name="gpu-2-lab"), at=100)
    shelf = records.RecordCache(tmp_path)
    assert list(shelf.records(name="gpu-2-lab")) == list(shelf.records(jobs={"12"})) == [dashed]
    for part in ("gpu", "2-lab", "lab"):
        assert list(shelf.records(name=part)) == []


def test_record_cache_reads_again_what_has_changed_and_only_that(tmp_path: Path) -> None:
    for record in (LAB, GPU):
        publish(tmp_path, record, at=100)
    shelf = records.RecordCache(tmp_path)
    before = {each.path: each for each in shelf.records()}
    amended = replace(GPU, ends_at=5)
    records.publish(tmp_path, amended, mtime=100)  # no newer for that
    after = {each.path: each for each in shelf.records()}
    assert after[tmp_path / LAB.id] is before[tmp_path / LAB.id]
    assert after[tmp_path / GPU.id] == records.StoredRecord(tmp_path / GPU.id, amended)
    (tmp_path / GPU.id).unlink()
    assert [each.path.name for each in shelf.records()] == [LAB.id]
    records.publish(tmp_path, GPU)
    assert [each.path.name for each in shelf.records()] == [GPU.id, LAB.id]


def test_names_that_are_no_ids_are_of_no_job(tmp_path: Path) -> None:
    for name in ("slurm", "slurm-12", "12"):
        (tmp_path / name).write_text("x")
    shelf = records.RecordCache(tmp_path)
    assert len(list(shelf.records())) == 3
    assert list(shelf.records(jobs={"12"})) == []


def test_prune_removes_records_of_killed_sessions(tmp_path: Path) -> None:
    """Not the newest of a name: how that ended is told to whoever comes."""
    old = replace(GPU, cluster="cal1", started=100)
    for at, job_id in enumerate(("12", "13", "14", "15")):
        publish(tmp_path, replace(old, job_id=job_id), at=1000 + at)
    publish(tmp_path, replace(old, name="other"), at=900)
    published, _ = records.read_all(tmp_path)
    liveness.prune(published, [])
    assert len(list(tmp_path.iterdir())) == 5, "nobody can tell"
    liveness.prune(published, [JobSnapshot("slurm", "cal1", frozenset({"13"}), 5000)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "slurm-12-other",
        "slurm-13-gpu",
        "slurm-15-gpu",
    ]
