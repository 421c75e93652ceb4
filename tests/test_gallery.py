"""The gallery without a browser: pages, filters, settings back, again, trash and undo."""

from __future__ import annotations

import io

import ipywidgets as widgets
import pytest
from conftest import CIRCLE, everything
from PIL import Image

from cogvx_nb.results import result
from cogvx_nb.workbench import app, gallery_tab, jobs
from cogvx_nb.workbench.session import Session

XSS = f'{CIRCLE}, {CIRCLE}, {CIRCLE} <script>alert(1)</script> "><img src=x onerror=alert(2)>'


@pytest.fixture
def session(outputs):
    fresh = Session()
    yield fresh
    assert fresh.queue.wait(60)


@pytest.fixture
def video(place):
    return result.read_result(place())


@pytest.fixture
def many(video, place):
    """Thirty results, the newest with the highest number."""
    for number in range(29):
        date, prompt = f"2031-01-01T00:{number:02}:00+00:00", f"a blue star number {number}"
        place(f"2031-01-01/x{number}", date, seed=number, prompt=prompt)


def texts(shown: widgets.Widget) -> str:
    return " ".join(
        widget.value for widget in everything(shown) if isinstance(widget, widgets.HTML)
    )


def click(shown: widgets.Widget, tooltip: str, number: int = 0) -> None:
    buttons = [
        widget
        for widget in everything(shown)
        if isinstance(widget, widgets.Button) and tooltip in (widget.tooltip, widget.description)
    ]
    buttons[number].click()


def test_pages_newest_first(many, session):
    shown = gallery_tab.Gallery(session)
    assert len(shown.cards.children) == 12
    assert shown.count.value == "1–12 of 30"
    assert "number 28" in texts(shown.cards.children[0])
    assert shown.newer.disabled
    shown.older.click()
    shown.older.click()
    assert shown.count.value == "25–30 of 30"
    assert shown.older.disabled
    assert CIRCLE in texts(shown.cards.children[-1])
    shown.newer.click()
    assert shown.count.value == "13–24 of 30"


def test_search_and_filters(many, session):
    shown = gallery_tab.Gallery(session)
    shown.older.click()
    shown.text.value = "RED circle"
    assert shown.count.value == "1–1 of 1"
    shown.text.value = "star"
    assert shown.count.value == "1–12 of 29"
    shown.seed.value = "7"
    assert shown.count.value == "1–1 of 1"
    assert "seed 7" in texts(shown.cards)
    shown.text.value, shown.seed.value = "nothing such", ""
    assert shown.count.value == "none"
    assert shown.cards.children == ()
    shown.text.value = ""
    shown.frames.value = 13
    shown.model.value = "cogvideox-tiny"
    assert shown.count.value == "1–12 of 30"


def test_posters_show_the_video(video, session, outputs):
    shown = gallery_tab.Gallery(session)
    (poster,) = [widget for widget in everything(shown.cards) if isinstance(widget, widgets.Image)]
    picture = Image.open(io.BytesIO(bytes(poster.value))).convert("RGB")
    assert picture.size == (240, 160)
    assert len(list((outputs / ".posters").iterdir())) == 1
    video.path.write_bytes(b"no video any more")
    assert gallery_tab.Gallery(session).cards.children, "the poster is kept"


def test_play_load_and_again(video, session):
    loaded = []
    shown = gallery_tab.Gallery(session, load=loaded.append)
    click(shown, "play it")
    (player,) = [
        widget for widget in everything(shown.details) if isinstance(widget, widgets.Video)
    ]
    assert bytes(player.value) == video.path.read_bytes()
    click(shown, "load its settings")
    assert loaded == [result.read_result(video.path).settings]
    click(shown, "make it again, and compare")
    assert session.queue.wait(60)
    (job,) = session.finished
    assert (job.state, job.result.path) == (jobs.DONE, video.path)
    assert job.notes[0].startswith("identical: all 13 frames of")
    assert len(list(video.path.parent.glob("*.mp4"))) == 1, "only compared"


def test_the_trash_gives_back(video, session, outputs):
    shown, before = gallery_tab.Gallery(session), video.sidecar.read_bytes()
    assert shown.undo.layout.display == "none"
    click(shown, "move it to the trash")
    assert shown.count.value == "none"
    assert not video.path.exists()
    assert not video.sidecar.exists()
    assert [path.name for path in (outputs / "trash").rglob("*.mp4")] == [video.path.name]
    click(shown, "Undo")
    assert shown.count.value == "1–1 of 1"
    assert video.sidecar.read_bytes() == before
    assert shown.undo.layout.display == "none"


def test_what_is_gone_is_said(video, session):
    shown = gallery_tab.Gallery(session, load=lambda settings: None)
    video.path.unlink()
    for action in ("play it", "load its settings", "make it again, and compare"):
        click(shown, action)
        assert "there is no file" in shown.message.value
    click(shown, "move it to the trash")
    assert str(video.path) in shown.message.value


def test_from_the_gallery_to_form_and_comparison(many, session, tiny):
    bench = app.Workbench(tiny, session)
    bench.tabs.index = app.GALLERY
    shown = bench.gallery
    assert shown.comparison.disabled
    for number in range(2):
        boxes = [
            widget for widget in everything(shown.cards) if isinstance(widget, widgets.Checkbox)
        ]
        boxes[number].value = True
    assert not shown.comparison.disabled
    shown.comparison.click()
    assert bench.tabs.index == app.COMPARE
    assert [widget for widget in everything(bench.compare) if isinstance(widget, widgets.Video)]
    click(shown, "load its settings", 3)
    assert bench.tabs.index == app.MAKE
    assert bench.panel.form.values["prompt"] == "a blue star number 25"
    assert bench.panel.form.values["seed"] == 25
    bench.shut()


def test_text_of_users_is_inert(place, session):
    place("2026-01-01/<img src=x onerror=alert(3)>", prompt=XSS)
    shown = gallery_tab.Gallery(session)
    click(shown, "play it")
    assert "&lt;script&gt;" in texts(shown)
    for widget in everything(shown):
        if isinstance(widget, widgets.HTML):
            assert "<script" not in widget.value
            assert "<img" not in widget.value
