"""Share done and time left of a video, played against a clock of the test's own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from cogvx_nb.events import PlanChanged, Planned, SharesChanged, StageStarted, Step
from cogvx_nb.live_line import bar_line
from cogvx_nb.planning import planner, request
from cogvx_nb.planning.paces import MeasuredPace
from cogvx_nb.planning.stages import expected_seconds, median_pace
from cogvx_nb.sweep.folder import SweepRun
from cogvx_nb.sweep.progress import START_SECONDS, Progress, predicted_seconds
from cogvx_nb.time_left import CACHED_STEP, LEAST_SECONDS, TimeLeft

LOOK = 0.25
"""Seconds between looks of a page."""

AS_EXPECTED = {"load": 4.0, "text": 1.0, "denoise": 100.0, "decode": 40.0, "write": 2.0}


@dataclass
class Looks:
    """A video that is made, and what one sees of it meanwhile."""

    now: float = 1000.0
    seen: list[tuple[float, float, float | None]] = field(default_factory=list)  # now, share, left

    def __post_init__(self) -> None:
        self.time = TimeLeft(clock=lambda: self.now)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(self.now + LOOK, end)
            self.seen.append((self.now, self.time.share, self.time.seconds_left))

    def play(self, expected: dict, actual: dict, steps: list[float], computed=()) -> Looks:
        self.time.record(Planned(None, None, "", expected, computed))
        for stage, seconds in actual.items():
            self.time.record(StageStarted(stage))
            if stage == "denoise":
                for number, duration in enumerate(steps, 1):
                    self.wait(duration)
                    self.time.record(Step(number, len(steps), None))
            else:
                self.wait(seconds)
        return self

    @property
    def left(self) -> list[tuple[float, float]]:
        """(true, told) seconds left, as far as any were told."""
        return [(self.now - then, left) for then, _, left in self.seen if left is not None]

    def worst(self, after: float = 0.0) -> float:
        """The largest error of what was told after a share of the time, over the whole time."""
        whole = self.now - self.seen[0][0]
        return max(
            abs(told - true) / whole for true, told in self.left if whole - true >= after * whole
        )


def jumps(looks: Looks, apart: float) -> float:
    """The largest change of the time left in so many seconds, beyond those that passed, over it."""
    stride = round(apart / LOOK)
    pairs = zip(looks.seen, looks.seen[stride:], strict=False)
    changes = [
        abs(later - (earlier - (now - then))) / max(earlier, LEAST_SECONDS)
        for (then, _, earlier), (now, _, later) in pairs
        if earlier is not None and earlier > now - then
    ]
    return max(changes)


STEPS = [2.0] * 50

CASES = {
    "as expected": (AS_EXPECTED, AS_EXPECTED, STEPS),
    "the first step warms up": (AS_EXPECTED, AS_EXPECTED, [15.0, *STEPS[1:]]),
    "twice as slow": (AS_EXPECTED, AS_EXPECTED | {"decode": 80.0}, [4.0] * 50),
    "five times as fast": (AS_EXPECTED, AS_EXPECTED | {"decode": 8.0}, [0.4] * 50),
    "thirty times as slow": (
        {"text": 0.03, "denoise": 3.0, "decode": 0.8, "write": 0.1},
        {"load": 15.0, "text": 2.0, "denoise": 0, "decode": 20.0, "write": 1.0},
        [4.0, *[2.2] * 49],
    ),
    "a machine that gets busy": (
        AS_EXPECTED,
        AS_EXPECTED | {"decode": 80.0},
        [*[2.0] * 25, *[4.0] * 25],
    ),
    "noisy": (AS_EXPECTED, AS_EXPECTED, [1.0, 3.0] * 25),
    "nothing known": ({}, AS_EXPECTED, STEPS),
}


@pytest.mark.parametrize("case", CASES)
def test_neither_the_share_nor_the_time_left_jumps(case):
    looks = Looks().play(*CASES[case])
    shares = [share for _, share, _ in looks.seen]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert 0.9 < shares[-1] <= 0.99
    assert jumps(looks, LOOK) < 0.15
    assert jumps(looks, 1.0) <= 0.5


@pytest.mark.parametrize(
    ("case", "after", "most"),
    [
        ("as expected", 0.0, 0.05),
        ("the first step warms up", 0.0, 0.1),
        ("twice as slow", 0.1, 0.1),
        ("five times as fast", 0.3, 0.1),
        ("thirty times as slow", 0.3, 0.1),
        ("a machine that gets busy", 0.5, 0.1),
        ("noisy", 0.1, 0.1),
        ("nothing known", 0.0, 0.1),
    ],
)
def test_the_time_left_is_honest(case, after, most):
    assert Looks().play(*CASES[case]).worst(after) < most


@pytest.mark.parametrize("last", ["write", "decode"])
def test_it_is_not_all_done_before_the_end(last):
    """Nor are 100 % shown of a share that is next to it."""
    expected = {"load": 1.0, "denoise": 2000.0, "decode": 0.0, "write": 0.0} | {last: 1.0}
    looks = Looks().play(expected, expected | {"write": 60.0}, STEPS)
    assert "100%" not in bar_line("write", looks.seen[-1][1], None)
    assert "99%" in bar_line("write", looks.seen[-1][1], None)


def test_the_first_step_is_not_extrapolated():
    looks = Looks()
    looks.time.record(Planned(None, None, "", {"denoise": 50.0}))
    looks.time.record(StageStarted("denoise"))
    looks.wait(20)
    looks.time.record(Step(1, 50, None))
    looks.wait(5)
    assert looks.time.seconds_left < 55, "not 49 times 20"


def test_nothing_is_told_while_nothing_is_known():
    looks = Looks()
    looks.time.record(Planned(None, None))
    for stage in ("load", "text", "denoise"):
        looks.time.record(StageStarted(stage))
        looks.wait(2)
    looks.time.record(Step(1, 10, None))
    assert looks.time.seconds_left is None
    looks.wait(2)
    looks.time.record(Step(2, 10, None))
    assert looks.time.seconds_left > 16, "eight steps, and a decode by the usual share"


def test_cached_steps_take_next_to_nothing():
    shares = [1, 0.5, 1, 1, 0.5, 0, 0, 0] + 3 * [1, 0, 0, 0]
    durations = [2.0 * max(share, CACHED_STEP) for share in shares]
    expected = {"denoise": sum(durations), "decode": 4.0}
    looks = Looks().play(expected, expected, durations, shares)
    assert looks.worst() < 1.2


def test_another_plan_begins_again_without_going_back():
    looks = Looks().play(AS_EXPECTED, {"load": 4.0, "text": 1.0, "denoise": 0}, STEPS[:30])
    share, left = looks.time.share, looks.time.seconds_left
    looks.time.record(PlanChanged(None))
    looks.time.record(StageStarted("text"))
    assert looks.time.share == share
    looks.wait(5)
    assert looks.time.seconds_left > left


def test_steps_that_are_added_while_a_video_is_made_are_counted():
    looks = Looks()
    planned = [1.0, 1.0, 0.5, 0.5] * 2  # two clips of four steps
    looks.time.record(Planned(None, None, "", {"denoise": 60.0}, planned))
    looks.time.record(StageStarted("denoise"))
    for step in range(1, 7):
        looks.wait(10)
        looks.time.record(Step(step, 8, None))
    looks.time.record(SharesChanged([1.0, 1.0, 1.0, 1.0]))  # of the second one
    looks.wait(1)
    assert looks.time._weight_left() == 2.0
    assert looks.time._known["denoise"] == 70.0
    assert looks.time.share < 0.9


def test_a_compilation_that_only_the_stage_announces_is_counted():
    looks = Looks()
    looks.time.record(Planned(None, None, "", {"text": 1.0, "denoise": 10.0}))
    looks.time.record(StageStarted("compile", 60.0))
    looks.wait(10)
    assert 50 < looks.time.seconds_left < 61


def test_what_a_video_is_expected_to_take_follows_measurements(tiny, here):
    asked = request.make_request(tiny, "a red circle moving right", frames=25, steps=20)
    plan = planner.plan_request(asked, here)
    known = {13: MeasuredPace(0.5, 3.0, 4.0, 0.2, 2.0, 0.1)}
    expected = expected_seconds(plan, here, 20, known, imported=True)
    assert list(expected) == ["load", "text", "denoise", "decode", "write"]
    assert expected["load"] == 4.0
    assert expected["denoise"] > 20 * 0.5, "more frames than were measured"
    assert expected["decode"] / expected["denoise"] == pytest.approx(2.0 / (20 * 0.5))
    again = expected_seconds(plan, here, 20, known, loaded=True)
    assert again == {stage: expected[stage] for stage in again}
    assert "load" not in again
    predicted = expected_seconds(plan, here, 20, {}, loaded=True)
    assert predicted["denoise"] > predicted["text"] > 0
    assert predicted["decode"] > 0


def test_loading_counts_only_where_it_happened():
    videos = [(0.5, 3.0, load, 0.1, 2.0, None) for load in (6.0, 0.0, 0.01, 4.0)]
    pace = median_pace(videos)
    assert (pace.step_seconds, pace.other_seconds) == (0.5, 3.0)
    assert (pace.load_seconds, pace.decode_seconds, pace.write_seconds) == (5.0, 2.0, 0.0)


def run_of(number: int, seconds: float | None) -> SweepRun:
    return SweepRun(f"run-{number}", number, {}, {}, seconds=seconds)


def test_a_sweep_has_a_time_left_before_its_first_run_ends():
    runs = [run_of(number, 10.0) for number in range(5)]
    sweep = Progress("mine", 5, 0, 4, 1, waiting_seconds=predicted_seconds(runs[1:]))
    sweep.running[0] = runs[0], time.monotonic()
    assert sweep.seconds_left == pytest.approx(50 + START_SECONDS, abs=1)
    assert sweep.share < 0.01
    sweep.running[0] = runs[0], time.monotonic() - 5
    assert 0.03 < sweep.share < 0.2, "a part of the first of five"


def test_a_sweep_is_corrected_by_the_runs_that_are_done():
    sweep = Progress("mine", 5, 3, 2, 1, waiting_seconds=20.0)
    sweep.seconds.extend([60.0, 20.0, 22.0])
    sweep.slowdowns.extend([6.0, 2.0, 2.2])  # the first loaded the model
    assert sweep.seconds_left == pytest.approx(42, abs=1)
    assert sweep.share == 0.6
    unpredicted = Progress("mine", 5, 3, 2, 2)
    assert unpredicted.seconds_left is None
    unpredicted.seconds.extend([10.0, 20.0, 30.0])
    assert unpredicted.seconds_left == pytest.approx(20, abs=1), "two runs for two workers"


def test_predictions_count_only_if_there_is_one_of_each_run():
    assert predicted_seconds([run_of(1, 2.0), run_of(2, 3.0)]) == 5.0
    assert predicted_seconds([run_of(1, 2.0), run_of(2, None)]) is None
