"""Answers that reach the workbench's page when another thing is chosen, typed or shown by then."""

from __future__ import annotations

import io
import json

import browser as kit
import numpy as np
import pytest
from browser import notice, view, wait
from conftest import without_tag
from PIL import Image
from test_browser import drop
from test_browser_edits import circle

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROLL = ("a red star", "a blue circle", "a green square", "a grey dot")
"""Prompts of the results on the film roll."""

NEWEST, SECOND, LAST, BROKEN = ROLL

APART = "a white circle that is in the gallery only"


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """The server's folder, with results."""
    folder = tmp_path_factory.mktemp("lab")
    outputs = folder / "outputs"
    for number, prompt in enumerate((*ROLL, APART)):
        sidecar = samples[number % 2].sidecar_json()
        sidecar["request"]["prompt"] = prompt
        path = outputs / "2026-01-01" / f"{prompt}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(without_tag(samples[number % 2].path.read_bytes()))
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    roll = [f"2026-01-01/{prompt}.mp4" for prompt in ROLL]
    (outputs / ".workbench.json").write_text(json.dumps({"format": 1, "roll": roll}))
    return folder


@pytest.fixture(scope="module")
def tab(folder):
    with kit.workbench(folder) as shown:
        yield shown


@pytest.fixture
def page(tab):
    view(tab, "Make")
    yield tab
    tab.held.release()


def taken_in(page) -> None:
    """Until the page has taken in all that has come: an answer that is younger has."""
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestKernelInfo()"
        ".then(() => new Promise((done) => setTimeout(done, 0)))"
    )


def choose(page, prompt: str) -> None:
    """A result of the film roll."""
    page.locator(f".cogvx-card-result [aria-label^='{prompt}, ']").click()
    stage_has(page, prompt)


def stage_has(page, prompt: str) -> None:
    wait(page, f"document.querySelector('.cogvx-title').textContent === {json.dumps(prompt)}")


STRIP = "document.querySelector('.cogvx-strip')"


def test_the_film_strip_is_that_of_the_video(page):
    choose(page, SECOND)
    wait(page, f"{STRIP}.style.visibility === '' && {STRIP}.naturalWidth > 0")
    strip = page.evaluate(f"{STRIP}.src")
    page.held.hold('"action":"media.strip"')
    choose(page, LAST)
    page.held.wait()
    choose(page, SECOND)
    wait(page, f"{STRIP}.style.visibility === ''")
    page.held.release(then="IHDR")
    page.held.wait()  # for the picture
    page.held.release()
    taken_in(page)
    assert page.evaluate(f"{STRIP}.src") == strip


def test_no_other_video_is_under_the_title_of_one_that_cannot_be_read(page, folder):
    choose(page, SECOND)
    kit.plays(page)
    (folder / "outputs" / "2026-01-01" / f"{BROKEN}.mp4").unlink()
    choose(page, BROKEN)
    notice(page, f"{BROKEN}.mp4")
    assert page.locator(".cogvx-video").evaluate("video => video.readyState") == 0


def test_a_result_that_is_chosen_later_stays(page):
    gallery_with(page, "in the gallery only", 1)
    page.held.hold('"action":"result.row"')
    page.locator(".cogvx-gallery-main:visible").first.click()
    page.held.wait()
    choose(page, NEWEST)
    page.held.release(then=APART)
    page.held.wait()
    page.held.release()
    taken_in(page)
    assert page.inner_text(".cogvx-title") == NEWEST


CHOSEN = "document.querySelector('.cogvx-gallery-total').textContent"


def gallery_with(page, words: str, count: int) -> None:
    """The gallery, once it shows so many results that have these words."""
    view(page, "Gallery")
    page.get_by_label("Search results").fill(words)
    results = "1 result" if count == 1 else f"{count} results"
    wait(page, f"{CHOSEN} === '{results}'")
    cards = "[...document.querySelectorAll('.cogvx-gallery-card')].filter(e => e.checkVisibility())"
    wait(page, f"{cards}.length === {count} && {cards}.every((e) => e.innerText)")


def test_results_of_an_earlier_search_are_not_chosen(page):
    gallery_with(page, "circle", 2)
    page.locator(".cogvx-gallery-main:visible").first.focus()
    page.held.hold('"paths": [')
    page.keyboard.press("Control+a")
    page.held.wait()
    gallery_with(page, "star", 1)
    page.held.release()
    taken_in(page)
    assert page.evaluate(CHOSEN) == "1 result", "and none is chosen"
    page.locator(".cogvx-gallery-main:visible").first.focus()
    page.keyboard.press("Control+a")
    wait(page, f"{CHOSEN} === '1 of 1 chosen'")
    page.keyboard.press("Escape")


def test_filters_wait_until_it_is_known_what_can_be_filtered(page):
    page.reload()
    page.held.hold('"columns": [')
    kit.run_all(page)
    view(page, "Gallery")
    page.held.wait()
    filters = page.get_by_role("button", name="Filters")
    assert filters.is_disabled()
    page.held.release()
    filters.click()
    page.get_by_label("Setting").wait_for()
    assert page.get_by_label("Setting").input_value() == "steps"


def prompt(page):
    return page.locator("[name=prompt]")


def prompt_has(page, *words: str) -> None:
    text = "document.querySelector('[name=prompt]').value"
    wait(page, f"{json.dumps(words)}.every((word) => {text}.includes(word))")


def test_a_clicked_word_undoes_no_other_edit(page):
    prompt(page).fill("a circle on a navy background")
    page.held.hold('"action":"prompt.choose"')
    page.locator(".cogvx-word-group", has_text="colour").first.click()
    page.get_by_role("button", name="yellow", exact=True).click()
    page.held.wait()
    prompt(page).fill("a circle moving right on a navy background")
    page.held.release()
    prompt_has(page, "yellow", "moving right")
    page.held.hold('"action":"prompt.choose"')
    page.get_by_role("button", name="red", exact=True).click()
    page.held.wait()
    page.locator(".cogvx-word-group", has_text="shape").first.click()
    page.get_by_role("button", name="star", exact=True).click()
    page.held.release()
    prompt_has(page, "red", "star", "moving right")


def test_a_style_undoes_no_edit(page):
    styles = page.get_by_role("button", name="Styles")
    prompt(page).fill("a red star")
    styles.click()
    page.get_by_role("button", name="Save a style…").click()
    page.get_by_label("Name").fill("evening")
    page.get_by_label("Prompt: ").fill("{prompt}, in the evening")
    page.get_by_role("button", name="Save", exact=True).click()
    notice(page, "“evening” is saved")
    page.held.hold('"action":"styles.apply"')
    styles.click()
    page.locator(".cogvx-popup-row", has_text="evening").locator("button").first.click()
    page.held.wait()
    prompt(page).fill("a blue star")
    page.held.release()
    notice(page, "edited meanwhile")
    assert prompt(page).input_value() == "a blue star"


def test_a_chosen_lora_leaves_the_keyboard_where_it_is(page):
    prompt(page).fill("a sta")
    page.held.hold('"action":"lora.add"')
    page.locator(".cogvx-loras").get_by_title("Add a LoRA").click()
    page.locator(".cogvx-loras .cogvx-popup-row", has_text="shadow").click()
    page.held.wait()
    prompt(page).click()
    page.keyboard.press("End")
    page.held.release()
    page.locator(".cogvx-lora").wait_for()
    page.keyboard.type("r")
    assert prompt(page).input_value() == "a star"
    page.get_by_role("button", name="without shadow").click()
    page.locator(".cogvx-lora").wait_for(state="detached")


def test_a_second_dropped_file_waits_for_the_first(page):
    noise = np.random.default_rng(1).integers(0, 256, (640, 640, 3), "uint8")
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "PNG")
    page.held.hold('"offset":1048576')
    drop(page, "first.png", data.getvalue())
    page.held.wait()
    drop(page, "second.png", circle())
    page.wait_for_timeout(1000)  # what is sent too early would have come by then
    page.held.release()
    notice(page, "Image: first.png")
    notice(page, "Image: second.png")
    page.get_by_title("without image").click()


def test_a_video_that_goes_to_the_trash_leaves_the_stage(page):
    left = page.locator(".cogvx-card-result")
    choose(page, LAST)
    gallery_with(page, "square", 1)
    page.locator(".cogvx-gallery-main:visible").first.focus()
    page.keyboard.press("Control+a")
    wait(page, f"{CHOSEN} === '1 of 1 chosen'")
    page.get_by_role("button", name="To the trash").click()
    notice(page, "It is in the trash")
    view(page, "Make")
    for prompt in (NEWEST, SECOND):
        stage_has(page, prompt)
        page.locator(".cogvx-trash").click()
        left.locator(f"[aria-label^='{prompt}, ']").wait_for(state="detached")
    if left.count():  # unless an earlier test has ended it
        stage_has(page, BROKEN)
        page.locator(".cogvx-trash").click()
    page.locator(".cogvx-empty").wait_for()
    assert page.locator(".cogvx-trash").count() == 0
