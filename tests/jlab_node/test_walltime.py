"""The end of the job: when its log warns, and what happens when the scheduler moves it.

Hours pass in no time, by a clock of its own: it stands still but for the sleeping.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from jlab_node.registry.record import Record
from jlab_node.schedulers.base import CommandResult
from jlab_node.session import walltime

NOW = 1_800_000_000  # 2027-01-15 08:00:00 UTC
MINUTE = 60
RECORD = Record(name="lab", node="n1", port=1, token="ab" * 32, scheduler="slurm", job_id="12")

pytestmark = pytest.mark.usefixtures("utc")


@dataclass
class Life:
    """A session whose clock and scheduler are ours. Minutes are counted from its beginning."""

    end: float | None  # what the scheduler believes; None: it does not answer
    lasts: float  # the session is ended then
    moves: dict[float, float | None] = field(default_factory=dict)  # when its belief changes
    late: float = 0.0  # seconds by which a sleep ends too late
    seconds: float = 0.0
    asked: list[float] = field(default_factory=list)
    said: list[tuple[float, str]] = field(default_factory=list)
    moved: list[tuple[float, float]] = field(default_factory=list)
    is_told: bool = True

    def time(self) -> float:
        return NOW + self.seconds

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds + self.late
        if self.seconds > self.lasts * MINUTE:
            raise asyncio.CancelledError

    async def ask(self, command: list[str]) -> CommandResult:
        assert "squeue" in command
        assert "--jobs=12" in command
        self.asked.append(self.minute)
        for at in [at for at in self.moves if at <= self.minute]:
            self.end = self.moves.pop(at)
        if self.end is None:
            return CommandResult(1, "", "slurm_load_jobs error: Unable to contact slurm controller")
        fields = ["12", "RUNNING", "None", str(NOW), f"{NOW + self.end * MINUTE:.0f}", "n1", "", ""]
        return CommandResult(0, "\x1f".join(fields) + "\n")

    @property
    def minute(self) -> float:
        return round(self.seconds / MINUTE, 2)

    def run(
        self, monkeypatch: pytest.MonkeyPatch, *, ends: float | None, scheduler: str = "slurm"
    ) -> Life:
        """Follow the end, which is in the record as `ends`."""
        end = None if ends is None else round(NOW + ends * MINUTE)

        async def moved(at: int) -> bool:
            self.moved.append((self.minute, (at - NOW) / MINUTE))
            return self.is_told

        following = walltime.follow(
            replace(RECORD, scheduler=scheduler, ends_at=end),
            ask=self.ask,
            moved=moved,
            log=lambda text: self.said.append((self.minute, text)),
        )

        async def until_cancelled() -> None:
            try:
                await following
            except asyncio.CancelledError:
                return

        with monkeypatch.context() as patch:
            patch.setattr(walltime, "time", self)
            patch.setattr(asyncio, "sleep", self.sleep)
            asyncio.run(until_cancelled())
        return self

    @property
    def warned(self) -> list[float]:
        return [minute for minute, _ in self.said]


def test_follow_warns_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(end=120, lasts=120).run(monkeypatch, ends=120)
    assert life.said == [
        (90, "Slurm ends this job in 30 minutes, at 10:00: save your work"),
        (110, "Slurm ends this job in 10 minutes, at 10:00: save your work"),
        (115, "Slurm ends this job in 5 minutes, at 10:00: save your work"),
    ]
    assert life.moved == []


@pytest.mark.parametrize(
    ("ends", "warned"),
    [
        pytest.param(31, [1, 21, 26], id="31 minutes"),
        pytest.param(30, [20, 25], id="30 minutes: the user knows that"),
        pytest.param(8, [3], id="8 minutes"),
        pytest.param(5, [], id="5 minutes"),
        pytest.param(1, [], id="1 minute"),
        pytest.param(-10, [], id="it should have ended"),
    ],
)
def test_a_job_that_began_short(
    monkeypatch: pytest.MonkeyPatch, ends: float, warned: list[float]
) -> None:
    assert Life(end=ends, lasts=max(ends, 2)).run(monkeypatch, ends=ends).warned == warned


def test_a_machine_that_was_busy_warns_late_but_truly(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(end=60, lasts=60, late=100).run(monkeypatch, ends=60)
    minutes = [text.split(" minutes")[0].split()[-1] for _, text in life.said]
    assert len(life.said) == 3
    for (at, _), left in zip(life.said, minutes):
        assert int(left) == round(60 - at)


def test_no_end_is_nothing_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(end=60, lasts=600).run(monkeypatch, ends=None)
    assert (life.seconds, life.asked, life.said) == (0, [], [])


def test_the_scheduler_is_asked_every_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(end=120, lasts=120).run(monkeypatch, ends=120)
    gaps = [later - sooner for sooner, later in zip([0.0, *life.asked], [*life.asked, 120])]
    assert max(gaps) <= 10
    assert len(life.asked) < 16


@pytest.mark.parametrize(
    ("moves", "moved", "warned"),
    [
        pytest.param({15: 180}, [(20, 180)], [150, 170, 175], id="later, long before"),
        pytest.param({15: 50}, [(20, 50)], [20, 40, 45], id="sooner, so that it is near"),
        pytest.param({85: 180}, [(90, 180)], [150, 170, 175], id="just before the warning"),
        pytest.param(
            {95: 155}, [(100, 155)], [90, 125, 145, 150], id="after the first warning: warn again"
        ),
        pytest.param(
            {15: 180, 25: 150}, [(20, 180), (30, 150)], [120, 140, 145], id="there and back"
        ),
        pytest.param({15: 120.5}, [(20, 120.5)], [90.5, 110.5, 115.5], id="by half a minute"),
    ],
)
def test_follow_tells_of_a_moved_end(
    monkeypatch: pytest.MonkeyPatch,
    moves: dict[float, float | None],
    moved: list[tuple[float, float]],
    warned: list[float],
) -> None:
    last = [end for end in moves.values() if end is not None][-1]
    life = Life(end=120, lasts=last, moves=dict(moves)).run(monkeypatch, ends=120)
    assert life.moved == moved
    assert life.warned == warned


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end that is known stands, and is warned of."""
    life = Life(end=None, lasts=120).run(monkeypatch, ends=120)
    assert (life.moved, life.warned) == ([], [90, 110, 115])


def test_a_scheduler_that_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(end=None, lasts=180, moves={55: 180}).run(monkeypatch, ends=120)
    assert (life.moved, life.warned) == ([(60, 180)], [150, 170, 175])


def test_a_job_that_outlives_its_end_does_not_besiege_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slurm's OverTimeLimit allows it."""
    life = Life(end=60, lasts=180).run(monkeypatch, ends=60)
    assert len([minute for minute in life.asked if minute > 60]) <= 13
    assert life.warned == [30, 50, 55]
    life = Life(end=60, lasts=120, moves={65: 120}).run(monkeypatch, ends=60)
    assert [end for _, end in life.moved] == [120], "and yet it sees that the end has moved"


@pytest.mark.parametrize(
    ("scheduler", "left", "text"),
    [
        pytest.param(
            "oar",
            600,
            "OAR ends this job in 10 minutes, at 08:10: save your work; for an hour more, type on "
            "the login node: oarwalltime 12 +1:00",
            id="users can move it",
        ),
        pytest.param(
            "slurm",
            149,
            "Slurm ends this job in 2 minutes, at 08:02: save your work",
            id="users cannot",
        ),
        pytest.param(
            "pbs",
            86400,
            "PBS ends this job in 1440 minutes, at 2027-01-16 08:00: save your work",
            id="another day",
        ),
    ],
)
def test_warning_names_time_and_command(scheduler: str, left: int, text: str) -> None:
    record = replace(RECORD, scheduler=scheduler)
    assert walltime.warning(record, NOW + left, now=NOW) == text


def test_follow_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real clock and a real loop, which ends it."""
    import time

    monkeypatch.setattr(walltime, "WARNINGS", (1,))
    said: list[str] = []

    async def ask(command: list[str]) -> CommandResult:
        return CommandResult(1, "")

    async def moved(_: int) -> bool:
        return True

    async def session() -> None:
        record = replace(RECORD, ends_at=round(time.time()) + 2)
        following = asyncio.ensure_future(
            walltime.follow(record, ask=ask, moved=moved, log=said.append)
        )
        await asyncio.sleep(2.2)
        assert not following.done()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(session())
    assert [text.split(",")[0] for text in said] == ["Slurm ends this job in 0 minutes"]


def test_an_end_that_could_not_be_published_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full, or the home away."""
    life = Life(end=120, lasts=50, moves={15: 180}, is_told=False).run(monkeypatch, ends=120)
    assert [minute for minute, _ in life.moved] == [20, 30, 40, 50]
    assert {end for _, end in life.moved} == {180}
