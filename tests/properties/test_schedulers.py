"""Schedulers: whatever their commands print, it is read or is no answer, and is shown safely."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlab_node.errors import sanitize
from jlab_node.identifiers import is_id
from jlab_node.jobs import matching, messages, scheduler_client
from jlab_node.jobs.job_list_cache import JobListCache
from jlab_node.schedulers import TABLE
from jlab_node.schedulers.base import CommandResult, Machine, State, Status
from tests.jlab_node.schedulers import (
    test_local,
    test_lsf,
    test_oar,
    test_pbs,
    test_sge,
    test_slurm,
)

from .strategies import hostile_json, hostile_text, is_shown_safely, mutated, mutated_json

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from jlab_node.schedulers.base import Scheduler

MODULES = {
    "local": test_local,
    "lsf": test_lsf,
    "oar": test_oar,
    "pbs": test_pbs,
    "sge": test_sge,
    "slurm": test_slurm,
}
each = pytest.mark.parametrize("scheduler", TABLE.values(), ids=TABLE)
each_batch = pytest.mark.parametrize(
    "scheduler", [each for each in TABLE.values() if each.NAME != "local"], ids=lambda it: it.NAME
)


def printed(scheduler: Scheduler) -> SearchStrategy[str]:
    """What a real one has printed, damaged; or anything."""
    texts = [
        value
        for value in vars(MODULES[scheduler.NAME]).values()
        if isinstance(value, str) and "\n" in value and value != MODULES[scheduler.NAME].__doc__
    ]
    documents = [text for text in texts if text.strip().startswith("{")]
    damaged = mutated(texts) | (mutated_json(documents) if documents else st.nothing())
    return damaged | hostile_text | hostile_json.map(json.dumps)


@st.composite
def answers(draw: st.DrawFn, scheduler: Scheduler) -> CommandResult:
    texts = printed(scheduler)
    return CommandResult(draw(st.sampled_from([0, 0, 1])), draw(texts), draw(st.just("") | texts))


def check(status: Status) -> None:
    """All that becomes of what a scheduler says of a job."""
    assert isinstance(status.state, State)
    now = time.time()
    texts = [
        messages.waiting([status], now=now),
        messages.job_never_became_session(status),
        messages.job_ended("slurm", status.job_id, status),
        messages.what_became_of("slurm-12-lab", status),
    ]
    for text in texts:
        assert is_shown_safely(sanitize(text))
        sanitize(text).encode("utf-8")
    matching.will_start_session(status, status.command, "lab", now=now)
    for path in matching.script_paths(status):
        if not os.path.exists(path.partition("\0")[0]):  # noqa: PTH110 - whatever it is
            assert scheduler_client.read_text(path) == ""


@each
@given(data=st.data())
def test_what_it_prints_is_read_or_is_no_answer(scheduler: Scheduler, data: st.DataObject) -> None:
    answer = data.draw(answers(scheduler))
    found = scheduler.parse_job_list(answer) or []
    for status in found:
        check(status)
        one = scheduler.parse_job_status(status.job_id, answer)
        if one is not None:
            assert one.job_id == status.job_id
            check(one)
    one = scheduler.parse_job_status("12", answer)
    assert one is None or one.job_id == "12"
    assert isinstance(scheduler.parse_cluster(answer), str)
    assert is_shown_safely(sanitize(scheduler_client.error_message(answer)))


@each_batch
@given(data=st.data())
def test_only_plain_job_numbers_are_asked_about(
    scheduler: Scheduler, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """They become words of a command. What it said is kept in a file, which may be anything."""
    directory = tmp_path_factory.getbasetemp()
    answer = data.draw(answers(scheduler))
    said = {"code": answer.code, "stdout": answer.stdout, "stderr": answer.stderr}
    kept = data.draw(st.just(json.dumps(said)) | mutated_json([json.dumps(said)]))
    (directory / f"{os.uname().nodename}-{scheduler.NAME}").write_text(kept, encoding="utf-8")
    cache = JobListCache(scheduler, user="u1", directory=directory)
    with pytest.MonkeyPatch.context() as patch:  # where what is kept is no use
        patch.setattr(scheduler_client, "ask_for_jobs", lambda *_: CommandResult(0, ""))
        found = cache.fetch(max_age=3600)
    assert all(is_id(f"{scheduler.NAME}-{each.job_id}-lab") for each in found.jobs)
    assert is_shown_safely(sanitize(found.problem))


_VALUES = hostile_text.filter(lambda text: "\0" not in text) | st.sampled_from(
    ["12", "n1", "1", "0", "/files/nodes", "12[3].pbs-1", "9:1"]
)
_ENV = {
    variable: _VALUES
    | st.sampled_from(["12", "n1", "1", "0", "/files/nodes", "12[3].pbs-1", "9:1"])
    for variable in (
        *("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_CLUSTER_NAME", "SLURM_JOB_END_TIME"),
        *("OAR_JOB_ID", "OAR_NODEFILE", "PBS_JOBID", "PBS_NODEFILE", "PBS_SERVER"),
        *("JOB_ID", "SGE_TASK_ID", "SGE_ROOT", "SGE_CELL", "PE_HOSTFILE", "HOSTNAME"),
        *("LSB_JOBID", "LSB_JOBINDEX", "LSB_HOSTS", "LSB_MCPU_HOSTS", "LSB_EXEC_CLUSTER"),
    )
}


@each
@given(env=st.fixed_dictionaries({}, optional=_ENV), file=hostile_text | st.just("n1\nn2\n"))
def test_any_environment_is_a_job_or_none(
    scheduler: Scheduler, env: dict[str, str], file: str
) -> None:
    machine = Machine("n1", 4711, lambda node: node in ("n1", file.strip()), lambda _: file)
    job = scheduler.detect(env, machine)
    assert job is None or job.scheduler == scheduler.NAME
