"""The panel's parts without a browser: fields, live token counts, queue, result, inert text."""

from __future__ import annotations

import html
import json
import re
import threading
from dataclasses import replace

import ipywidgets as widgets
import pytest
from chat import Endpoint, Reply
from conftest import CIRCLE, everything, wait_for

from cogvx_nb.errors import CogvxError, RequestError
from cogvx_nb.planning import fields, request
from cogvx_nb.results import result, trash
from cogvx_nb.workbench import app, form, jobs
from cogvx_nb.workbench.previews import load_colours
from cogvx_nb.workbench.session import Session

XSS = f'{CIRCLE}, {CIRCLE}, {CIRCLE} <script>alert(1)</script> "><img src=x onerror=alert(2)>'


@pytest.fixture
def session():
    fresh = Session()
    yield fresh
    if fresh.queue.running:
        fresh.queue.clear()
        fresh.queue.cancel(fresh.queue.running)
    assert fresh.queue.wait(60)


@pytest.fixture
def shown(tiny, session):
    return app.GenerateTab(tiny, session, prompt=CIRCLE, steps=2, seed=7)


def test_the_tokens_are_counted_while_typing(shown):
    assert shown.form.tokens.value == "9 of 63 tokens"
    shown.form.inputs["prompt"].value = CIRCLE + " zyzzyva"
    unknown = "10 of 63 tokens, 1 unknown to cogvideox-tiny: "
    assert html.unescape(shown.form.tokens.value) == f"{unknown}'zyzzyva'"
    shown.form.inputs["prompt"].value = "a red circel"
    assert "'circel' (did you mean 'circle'?)" in html.unescape(shown.form.tokens.value)
    shown.form.inputs["prompt"].value = "a" * 2001
    assert "2001 characters; at most 2000" in shown.form.tokens.value
    shown.form.inputs["prompt"].value = "红色的圆形向右移动"
    assert "unknown" not in shown.form.tokens.value
    shown.form.inputs["prompt"].value = "zyzzyva quokka"
    assert "would be ignored: it knows one coloured shape" in shown.form.tokens.value
    shown.form.inputs["prompt"].value = "red " * 80
    assert re.search(r"this end has no effect: <s>(red ?){17}</s>", shown.form.tokens.value)


def test_generate_makes_a_result_and_shows_it(shown, session, outputs):
    shown.form.inputs["frames"].value = 25
    shown.generate.click()
    assert session.queue.wait(120)
    (job,) = session.finished
    assert job.state == jobs.DONE
    (video,) = [widget for widget in everything(shown) if isinstance(widget, widgets.Video)]
    assert bytes(video.value) == job.result.path.read_bytes()
    assert job.result.path.is_relative_to(outputs)
    text = " ".join(
        widget.value for widget in everything(shown.result) if isinstance(widget, widgets.HTML)
    )
    assert str(job.result.path) in text
    assert "denoise" in text
    assert shown.form.inputs["frames"].value == 25, "the new predictions leave the mode"
    assert list(session.catalogue.paces("cogvideox-tiny", "cpu")) == [25]
    assert load_colours(outputs / ".previews" / "cogvideox-tiny.json").fitted

    another = app.GenerateTab(shown.form.model, session)
    assert [widget for widget in everything(another) if isinstance(widget, widgets.Video)]


def test_a_result_in_the_trash_is_no_hindrance(shown, session):
    shown.generate.click()
    assert session.queue.wait(120)
    trash.move_to_trash(session.finished[0].result.path)
    another = app.GenerateTab(shown.form.model, session)
    assert not [widget for widget in everything(another) if isinstance(widget, widgets.Video)]


def test_a_page_that_fails_does_not_stop_the_work(shown, session, caplog):
    session.listen(lambda job, event: 1 / 0)
    shown.generate.click()
    shown.generate.click()
    assert session.queue.wait(120)
    assert [job.state for job in session.finished] == [jobs.DONE, jobs.DONE]
    assert "ZeroDivisionError" in caplog.text


def test_a_second_panel_shows_what_is_running(shown, session, tiny):
    shown.form.inputs["steps"].value = 400
    shown.generate.click()
    shown.generate.click()
    another = app.GenerateTab(tiny, session)
    texts = [
        widget.value for widget in everything(another.queue) if isinstance(widget, widgets.HTML)
    ]
    assert [text.split()[0] for text in texts] in (["<b>running</b>", "waiting"], ["waiting"] * 2)
    wait_for(lambda: session.queue.running)
    shown.clear.click()
    assert session.queue.waiting == ()
    another.cancel.click()
    assert session.queue.wait(60)
    assert session.finished[-1].state == jobs.CANCELLED


def test_bad_values_are_said_and_not_queued(shown, session):
    shown.form.inputs["prompt"].value = "  "
    shown.generate.click()
    assert "prompt = '  ': is empty" in shown.message.value.replace("&#x27;", "'")
    assert session.queue.running is None
    assert not session.queue.waiting


ASKED = {
    "prompt": CIRCLE,
    "negative_prompt": "blurry",
    "frames": 25,
    "steps": 2,
    "height": 112,
    "guidance": 4.5,
    "seed": 7,
    "speed": "fast",
    "attention": "stock",
    "fallback": "reduce",
    "strict": True,
    "allow_untrained_size": True,
    "allow_unknown": True,
}
"""All fields but the width, each with another value than its default."""


def test_every_field_is_offered_under_a_label(tiny, session):
    filled = form.Form(tiny, session.predict)
    assert set(filled.inputs) | {"enrich"} == set(fields.FIELDS)
    shown = everything(filled)
    for name, widget in filled.inputs.items():
        assert widget in shown, name
        assert (widget in everything(filled.advanced)) == fields.FIELDS[name].advanced, name
        assert widget.description, name
        assert widget.tooltip == fields.FIELDS[name].help, name
    assert filled.request(prompt=CIRCLE) == request.make_request(tiny, CIRCLE, height=96, width=144)


def test_settings_come_back(tiny, session):
    shown = app.GenerateTab(tiny, session, **ASKED)
    assert ASKED.items() <= shown.form.values.items()
    shown.generate.click()
    assert session.queue.wait(120)
    recorded = session.finished[0].result.settings
    another = app.GenerateTab(tiny, session)
    assert another.form.values["attention"] == "auto"
    another.load(recorded)
    assert another.form.values == shown.form.values
    before = another.form.inputs["seed"].value
    another.form.dice.click()
    assert another.form.inputs["seed"].value != before


def test_settings_without_the_asked_plan_come_back_as_planned(place, tiny, session):
    path = place()
    sidecar = path.with_suffix(".json")
    content = json.loads(sidecar.read_text())
    for name in ("speed", "attention", "fallback"):
        del content["asked"][name]
    content["plan"] |= {"speed": "turbo", "attention": "flash4"}
    content["allowed"] = ["allow_unknown"]
    sidecar.write_text(json.dumps(content))
    filled = form.Form(tiny, session.predict)
    filled.load(result.read_result(path).settings)
    restored = [filled.values[n] for n in ("speed", "attention", "fallback", "allow_unknown")]
    assert restored == ["turbo", "flash4", "", True]


def test_a_value_that_no_field_accepts_is_said(place, tiny, session):
    with pytest.raises(RequestError, match=r"speed = 'warp'.*exact"):
        form.Form(tiny, session.predict, speed="warp")
    shown = app.GenerateTab(tiny, session, prompt="")
    path = place(seed=-2)
    shown.load(result.read_result(path).settings)
    assert "seed = -2" in shown.message.value
    assert shown.form.values["prompt"] == "", "nothing of it is taken"


def test_text_of_users_is_inert(shown, session):
    shown.form.inputs["prompt"].value = XSS
    shown.generate.click()
    assert session.queue.wait(120)
    assert session.finished[-1].state == jobs.DONE
    for widget in everything(shown):
        if isinstance(widget, widgets.HTML):
            assert "<script" not in widget.value
            assert "<img" not in widget.value


def test_each_control_has_a_label(tiny, session):
    for widget in everything(app.Workbench(tiny, session)):
        if isinstance(widget, widgets.Button | widgets.ToggleButton):
            assert widget.description or widget.tooltip
        elif isinstance(widget, widgets.ToggleButtons):
            assert all(widget.options)
        elif isinstance(widget, widgets.ValueWidget) and not isinstance(
            widget, widgets.HTML | widgets.Image | widgets.FloatProgress | widgets.Video
        ):
            assert widget.description, widget


@pytest.fixture
def endpoint(monkeypatch):
    with Endpoint() as running:
        monkeypatch.setenv("COGVX_CHAT_BASE_URL", running.url)
        monkeypatch.setenv("COGVX_CHAT_MODEL", "a-model")
        monkeypatch.setenv("COGVX_CHAT_KEY", "sk-never-shown-0123")
        yield running


def ask(shown) -> None:
    """Press Enrich, and wait for its thread."""
    shown.form.enrich.click()
    for thread in threading.enumerate():
        if thread.name == "cogvx enrich":
            thread.join(30)


def test_a_prompt_is_enriched_and_both_are_kept(tiny, session, endpoint):
    readable = replace(tiny, checkpoint=replace(tiny.checkpoint, enrichable=True))
    shown = app.GenerateTab(readable, session, prompt="一个蓝色的星星", steps=2)
    endpoint.reply = Reply("a blue star moving up on a white background")
    ask(shown)
    assert shown.form.inputs["prompt"].value == "a blue star moving up on a white background"
    assert shown.form.typed.value == "一个蓝色的星星"
    assert shown.form.typed.layout.display is None
    assert shown.form.enriching.value.startswith("by a-model")
    shown.form.inputs["prompt"].value = "a blue star moving up on a black background"
    shown.generate.click()
    assert session.queue.wait(60)
    recorded = session.finished[0].result.settings
    assert recorded.request.prompt.endswith("black background")
    assert recorded.enriched_from == "一个蓝色的星星"
    assert "never-shown" not in session.finished[0].result.sidecar.read_text()

    endpoint.reply = Reply("<b>sk-never-shown-0123", status=401)
    ask(shown)
    assert "correct COGVX_CHAT_KEY" in shown.form.enriching.value
    assert "never-shown" not in shown.form.enriching.value
    assert "<b>sk" not in shown.form.enriching.value
    assert shown.form.inputs["prompt"].value == "a blue star moving up on a black background"
    assert not shown.form.enrich.disabled

    another = app.GenerateTab(tiny, session)
    another.load(recorded)
    assert another.form.typed.value == "一个蓝色的星星"
    assert another.form.enrich.layout.display == "none", "its model can't read such prompts"


def test_the_notebook_can_ask_for_enriching(tiny, session, endpoint):
    readable = replace(tiny, checkpoint=replace(tiny.checkpoint, enrichable=True))
    endpoint.reply = Reply("a blue star moving up on a white background")
    shown = form.Form(readable, session.predict, prompt="一个蓝色的星星", enrich=True)
    wait_for(lambda: shown.typed.value == "一个蓝色的星星", seconds=30)
    assert shown.inputs["prompt"].value == "a blue star moving up on a white background"
    refused = form.Form(tiny, session.predict, prompt=CIRCLE, enrich=True)
    wait_for(lambda: "can't be enriched" in html.unescape(refused.enriching.value), seconds=30)


def test_a_prediction_knows_the_attention(tiny, session):
    shown = form.Form(tiny, session.predict)
    assert "GiB" in shown.predictions.value
    shown.inputs["attention"].value = "flash4"
    assert "FlashAttention 4 needs a GPU" in shown.predictions.value


def test_an_unknown_attention_is_not_queued(shown, session):
    shown.form.inputs["attention"].value = "sagee"
    shown.generate.click()
    assert "did you mean 'sage'" in html.unescape(shown.message.value)
    assert session.queue.running is None
    assert not session.queue.waiting


def test_enriching_is_not_offered_without_an_endpoint(tiny, session, monkeypatch):
    monkeypatch.delenv("COGVX_CHAT_BASE_URL", raising=False)
    readable = replace(tiny, checkpoint=replace(tiny.checkpoint, enrichable=True))
    assert app.GenerateTab(readable, session).form.enrich.layout.display == "none"


def test_a_front_end_that_cannot_be_seen_is_told_how(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("COGVX_UI", raising=False)
    monkeypatch.setattr(app, "in_notebook", lambda: True)
    app.take_over_notebook()
    assert "run `%env COGVX_UI=1` and then this cell again" in capsys.readouterr().out


def test_headless_there_is_no_panel(monkeypatch):
    monkeypatch.setenv("COGVX_UI", "0")
    monkeypatch.setenv("JPY_SESSION_NAME", "inherited")
    assert app.take_over_notebook("no such model") is None
    monkeypatch.setenv("COGVX_UI", "1")
    with pytest.raises(CogvxError, match="no such model"):
        app.take_over_notebook("no such model")
