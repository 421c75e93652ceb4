"""Schedules of guidance and their limit to some steps: scales, predictions, records, frames."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from conftest import CIRCLE

from cogvx_nb.checkpoints.registry import get_checkpoint
from cogvx_nb.errors import RequestError
from cogvx_nb.planning import cost, planner, request
from cogvx_nb.planning.guidance import OFF, Guiding, parse_interval, trailing_timesteps, wave
from cogvx_nb.planning.schedulers import used_guidance
from cogvx_nb.planning.step_cache import HALVES, STEPS, schedule_for
from cogvx_nb.reproduction import request_of
from cogvx_nb.results.records import read_settings
from cogvx_nb.results.result import describe_video

TIMES = trailing_timesteps(10)


def test_scales_of_the_schedules():
    assert Guiding(6.0)(TIMES) == [6.0] * 10
    assert Guiding(6.0, "authors")(TIMES) == wave(6.0)(TIMES)
    assert Guiding(6.0, "falling")(trailing_timesteps(6)) == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert Guiding(6.0, "falling")([999]) == [6.0]
    limited = Guiding(6.0, "authors", (0.2, 0.8))(TIMES)
    assert limited == [OFF] * 2 + wave(6.0)(TIMES)[2:8] + [OFF] * 2


def test_auto_is_the_authors_where_they_have_one():
    used = {
        (name, scheduler): used_guidance(get_checkpoint(name), scheduler, "auto")
        for name in ("5b", "2b")
        for scheduler in ("auto", "ddim", "euler")
    }
    assert [key for key, schedule in used.items() if schedule == "authors"] == [("5b", "auto")]
    assert used_guidance(get_checkpoint("2b"), "euler", "authors") == "authors"


@pytest.mark.parametrize(
    ("text", "interval"),
    [("", (0, 1)), (" 0.2 - 0.8 ", (0.2, 0.8)), ("0-.5", (0, 0.5)), ("0.25–1", (0.25, 1))],
)
def test_intervals_are_read(text, interval):
    assert parse_interval(text) == interval


@pytest.mark.parametrize("text", ["0.8-0.2", "0.5", "0.2-1.1", "a-b", "0.2-0.2", "-0.1-0.5", "٠-١"])
def test_other_intervals_are_refused_in_a_line(tiny, text):
    with pytest.raises(RequestError, match="such as") as caught:
        request.make_request(tiny, CIRCLE, guidance_interval=text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (
            {"guidance_interval": "0.50-0.51"},
            "guidance_interval: no step of 20 lies between 0.5 and 0.51, so there is no guidance",
        ),
        (
            {"guidance_interval": "0.2-0.8", "guidance": 1.0},
            "guidance_interval has no effect at guidance 1",
        ),
        (
            {"guidance_schedule": "falling", "guidance": 0.5},
            "guidance_schedule has no effect at guidance 0.5",
        ),
        ({"guidance_interval": "0.5-0.55"}, ""),
        ({"guidance": 1.0}, ""),
    ],
)
def test_guidance_that_no_step_has_is_told(tiny, values, note):
    made = request.make_request(tiny, CIRCLE, steps=20, **values)
    assert [told for told in made.notes if "guidance" in told] == ([note] if note else [])


def test_steps_outside_compute_the_prompt_alone():
    scales = Guiding(6.0, interval=(0.3, 0.6))(trailing_timesteps(10))
    assert schedule_for("", scales) == [1] * 3 + [2] * 3 + [1] * 4
    assert schedule_for("", scales, changed={1, 4}) == [1] * 3 + [2] * 3 + [1] * 4
    scales = Guiding(6.0, interval=(0.5, 0.8))(trailing_timesteps(50))
    cached = schedule_for(HALVES, scales)
    assert max(cached[:25] + cached[40:]) == 1
    assert cached[25] == 2  # though the cache would not compute this step
    assert set(schedule_for(STEPS, scales)) == {0, 2}


def test_a_limit_is_planned_and_predicted(tiny, here):
    asked = {"frames": 49, "steps": 50, "seed": 1}
    whole = request.make_request(tiny, CIRCLE, **asked, guidance_schedule="constant")
    limited = request.make_request(
        tiny, CIRCLE, **asked, guidance_schedule="constant", guidance_interval="0.2-0.6"
    )
    plans = [planner.plan_request(video, here) for video in (whole, limited)]
    assert [sum(cost.step_shares(plan, 50)) for plan in plans] == [50, 35]
    assert [plan.batches for plan in plans] == [(2,), (2, 1)]


def test_it_is_recorded_and_older_settings_have_none(tiny, here, generated):
    made = describe_video(generated(guidance_schedule="falling", guidance_interval="0-0.5"))
    content = json.loads(json.dumps(made.as_json()))
    assert content["request"]["guidance_schedule"] == "falling"
    again = request_of(read_settings(content))
    assert again.guiding == Guiding(6.0, "falling", (0, 0.5))
    for name in ("guidance_schedule", "guidance_interval"):
        del content["request"][name]
    del content["templates"]  # which came later still
    content["request"]["prompt"] = "a [red:blue:0.5] circle"
    older = request_of(read_settings(content))
    assert older.guiding == Guiding(6.0, "authors")
    assert older.texts_by_step == {0: ("", "a [red:blue:0.5] circle")}
    assert replace(older, prompt="a [red:blue:0.5] circle").texts_by_step[0] == ("", "a red circle")
