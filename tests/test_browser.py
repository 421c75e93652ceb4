"""Notebook 03 as a researcher has it: a real JupyterLab in a real Chromium."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from pathlib import Path

import browser as kit
import numpy as np
import psutil
import pytest
import world
from browser import SLOW, fill, generate, notice, plays, view, wait
from conftest import without_tag
from PIL import Image

from cogvx_nb.results import video

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The JupyterLab's folder, with its notebooks and ``outputs``."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def lab(folder):
    with kit.jupyter(folder) as url:
        yield url


@pytest.fixture(scope="module")
def chromium():
    with kit.chromium() as started:
        yield started


class Tab:
    """The tab that the tests share; one that a failed test leaves is replaced."""

    def __init__(self, chromium, lab: str) -> None:
        self._chromium, self._lab = chromium, lab
        self.page, self.dialogs = None, []

    def open(self) -> None:
        self.close()
        self.page = kit.new_page(self._chromium)
        self.page.on("dialog", lambda asked: (self.dialogs.append(asked.message), asked.dismiss()))
        kit.open_notebook(self.page, self._lab)
        kit.run_all(self.page)

    def close(self) -> None:
        if self.page:
            self.page.close()
        self.page = None


@pytest.fixture(scope="module")
def tab(chromium, lab):
    shared = Tab(chromium, lab)
    yield shared
    shared.close()
    assert shared.dialogs == [], "hostile text, or a question of the browser's"


@pytest.fixture
def page(tab, tmp_path, request):
    """The workbench at rest; a picture of it where the test fails."""
    if tab.page is None:
        tab.open()
    shown = tab.page
    kit.at_rest(shown)
    view(shown, "Make")
    yield shown
    if request.node.failed:
        shown.screenshot(path=tmp_path / "failed.png")
        print(f"the page as it failed: {tmp_path / 'failed.png'}")
        tab.close()


def test_run_all_ends_with_the_page_in_view_and_the_keyboard_in_the_prompt(page):
    wait(page, "document.activeElement?.name === 'prompt'")
    box = "document.querySelector('.cogvx-page').getBoundingClientRect()"
    wait(page, f"{box}.top >= 0 && {box}.bottom <= 1000")
    assert page.locator(".cogvx-generate").is_visible()
    assert "small demonstration model" in page.inner_text(".cogvx-demo")
    assert page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0, "no pink"
    assert not page.get_by_text("result.settings.seconds").is_visible(), "the steps are folded"
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a blue star")
    assert page.locator("[name=prompt]").input_value() == "a blue star"
    kit.keep(page, "1-first-sight")


MEAN_COLOUR = """async () => {
  const video = document.querySelector('.cogvx-video');
  video.pause();
  await new Promise(seeked => { video.onseeked = seeked; video.currentTime = 0 });
  const canvas = document.createElement('canvas').getContext('2d');
  [canvas.canvas.width, canvas.canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.drawImage(video, 0, 0);
  const data = canvas.getImageData(0, 0, video.videoWidth, video.videoHeight).data;
  return [0, 1, 2].map(c => [...data].filter((_, i) => i % 4 == c).reduce((a, b) => a + b)
                            / (data.length / 4)) }"""
"""Of the result's first frame as the browser draws it, after stopping there: red, green, blue."""


def newest(folder: Path) -> Path:
    found = [path for path in (folder / "outputs").rglob("*.mp4") if "2026-01-01" not in str(path)]
    return max(found, key=lambda path: path.stat().st_mtime)


OBSERVE_PREVIEWS = """() => {
  const preview = document.querySelector('.cogvx-preview');
  window.previews = new Set();
  new MutationObserver(() => window.previews.add(preview.src))
    .observe(preview, { attributeFilter: ['src'] }) }"""
"""Collects the addresses of pictures of the running video: the next may come before one looks."""

STAGE_SAID = r"""/^\d+ % · denoising \d+\/50 · \d+ (s|min) left/.test(
  document.querySelector('.cogvx-stage-text')?.textContent) && /^\d+ % · /.test(document.title)"""
"""Whether the page and its title say how far the video is."""


def test_from_a_prompt_to_a_playing_video(page, folder):
    fill(page, "a green star growing on a navy background", frames=49, steps=50)
    page.evaluate(OBSERVE_PREVIEWS)
    page.keyboard.press("Control+Enter")
    wait(page, STAGE_SAID, SLOW)
    kit.keep(page, "2-running")
    wait(page, "[...window.previews].filter((src) => src.startsWith('blob:')).length > 1", SLOW)
    kit.wait_for_result(page, "a green star growing on a navy background")
    wait(page, "document.querySelector('.cogvx-video').duration > 6")
    plays(page)
    wait(page, "document.querySelector('.cogvx-strip').naturalWidth > 0")
    kit.keep(page, "3-done")
    shown, made = page.evaluate(MEAN_COLOUR), video.decode_video(newest(folder))[0]
    assert np.abs(np.array(shown) - made.mean(axis=(0, 1))).max() < 3, "the colours are right"
    assert "denoise" in page.inner_text(".cogvx-lines")
    assert not re.match(r"\d+ %", page.title())


def cells(page) -> int:
    return page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")


def waiting(count: int) -> str:
    return f"document.querySelectorAll('.cogvx-card-waiting').length === {count}"


def test_keys_stay_in_the_page(page):
    fill(page, "a red circle moving right", frames=49, steps=400, seed=3)
    before, source = cells(page), page.inner_text(".jp-Notebook")[:200]
    for place in (".cogvx-screen", ".cogvx-bar", ".cogvx-roll"):
        page.locator(place).click(position={"x": 2, "y": 2})
        for key in ("x", "b", "a", "d", "d", "0", "0", "z", "y", "Shift+M"):
            page.keyboard.press(key)
    assert (cells(page), page.inner_text(".jp-Notebook")[:200]) == (before, source)
    page.keyboard.press("/")
    wait(page, "document.activeElement?.name === 'prompt'")
    page.keyboard.press("Shift+Enter")
    page.wait_for_selector("li.cogvx-card-running")
    page.locator("[name=seed]").fill("4")
    page.keyboard.press("Shift+Enter")
    wait(page, waiting(1))
    kit.wait_for_step(page)
    assert re.match(r"1 waiting · ≈ \d+ (s|min|h)", page.inner_text(".cogvx-queue-text"))
    page.keyboard.press("Escape")
    wait(page, waiting(0))
    assert page.locator("[name=prompt]").input_value() == "a red circle moving right"
    assert cells(page) == before
    assert page.evaluate(kit.IDLE), "Ctrl+Enter and Shift+Enter have run no cell"


def test_the_film_roll_is_walked(page):
    for colour in ("red", "blue"):
        fill(page, f"a {colour} circle moving up", seed=5)
        generate(page)
        kit.wait_for_result(page, f"a {colour} circle moving up")
    page.locator(".cogvx-title").click()
    title = "document.querySelector('.cogvx-title').textContent"
    page.keyboard.press("ArrowRight")
    wait(page, f"{title} === 'a red circle moving up'")
    page.keyboard.press("ArrowLeft")
    wait(page, f"{title} === 'a blue circle moving up'")
    plays(page)
    page.locator(".cogvx-title").click()
    page.keyboard.press("Space")
    wait(page, "document.querySelector('.cogvx-video').paused")
    page.keyboard.press("Space")
    wait(page, "!document.querySelector('.cogvx-video').paused")
    page.keyboard.press("f")
    page.wait_for_selector(".cogvx-star[aria-pressed=true]")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open] :text('walk the film roll')")
    kit.keep(page, "4-keys")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.locator(".cogvx-card-result button").nth(1).hover()
    wait(page, "document.querySelectorAll('.cogvx-card-result img')[1].src.startsWith('blob:')")


def test_a_queue_of_four(page):
    fill(page, "a red square moving down", frames=49, steps=300, seed=10)
    page.get_by_label("Videos", exact=True).fill("4")
    generate(page)
    wait(page, waiting(3))
    page.get_by_label("Videos", exact=True).fill("1")
    kit.wait_for_step(page)
    kit.keep(page, "5-queue")

    def seeds() -> list[str]:
        titles = page.locator(".cogvx-card-waiting .cogvx-card-text").evaluate_all(
            "cards => cards.map(card => card.title)"
        )
        return [re.search(r"seed (\d+)", title)[1] for title in titles]

    assert seeds() == ["11", "12", "13"], "in the order in which they will run"
    cards = page.locator(".cogvx-card-waiting")
    cards.nth(1).get_by_role("button", name="earlier").click()
    wait(page, "document.querySelector('.cogvx-card-waiting p').title.includes('seed 12')")
    assert seeds() == ["12", "11", "13"]
    cards.nth(2).get_by_role("button", name="make it next").click()
    wait(page, "document.querySelector('.cogvx-card-waiting p').title.includes('seed 13')")
    assert seeds() == ["13", "12", "11"]
    cards.nth(1).get_by_role("button", name="take it out").click()
    wait(page, waiting(2))
    assert seeds() == ["13", "11"]
    page.locator(".cogvx-cancel").click()
    wait(page, waiting(1))
    page.wait_for_selector(".cogvx-card-ended:has-text('cancelled')")


def test_the_same_with_another_seed_leaves_the_form_and_load_can_be_undone(page):
    fill(page, "a yellow circle moving left", seed=20)
    generate(page)
    kit.wait_for_result(page, "a yellow circle moving left")
    fill(page, "an important long prompt", steps=6, seed=21)
    page.get_by_role("button", name="Another seed", exact=True).click()
    typed = page.locator("[name=prompt]")
    assert typed.input_value() == "an important long prompt"
    seed = page.locator(".cogvx-seed-of-result")
    wait(
        page,
        "!['20', undefined].includes(document.querySelector('.cogvx-seed-of-result')?.textContent)",
        SLOW,
    )
    wait(page, kit.REST, SLOW)
    assert re.fullmatch(r"\d{3,10}", seed.inner_text()), "the seed is there in full"
    seed.click()
    assert page.locator("[name=seed]").input_value() == seed.inner_text()
    page.get_by_role("button", name="Load", exact=True).click()
    wait(page, "document.querySelector('[name=prompt]').value === 'a yellow circle moving left'")
    assert page.locator("[name=steps]").input_value() == "4"
    page.get_by_role("button", name="Undo").click()
    wait(page, "document.querySelector('[name=prompt]').value === 'an important long prompt'")
    assert page.locator("[name=steps]").input_value() == "6"


def test_a_video_that_is_there_already_is_shown(page):
    fill(page, "a blue square moving up", seed=30)
    generate(page)
    kit.wait_for_result(page, "a blue square moving up")
    count = page.locator(".cogvx-card-result").count()
    generate(page)
    notice(page, "You have this video already")
    assert page.locator(".cogvx-card-result").count() == count
    page.get_by_role("button", name="Check", exact=True).click()
    page.wait_for_selector(".cogvx-card-ended:has-text('identical: all 13 frames')", timeout=SLOW)


def test_what_the_model_reads(page):
    fill(page, "a red circel moving right")
    page.wait_for_selector(".cogvx-token-unknown:has-text('circel')")
    page.wait_for_selector(".cogvx-notes:has-text('circel')")
    kit.keep(page, "6-unknown")
    page.get_by_role("button", name="circel → circle").first.click()
    assert page.locator("[name=prompt]").input_value() == "a red circle moving right"
    wait(page, "document.querySelector('.cogvx-notes').textContent === ''")
    page.keyboard.press("ControlOrMeta+z")
    assert page.locator("[name=prompt]").input_value() == "a red circel moving right"
    page.locator("[name=prompt]").fill("a red circle moving right")
    page.locator(".cogvx-word-group", has_text="Colours").click()
    page.locator(".cogvx-words").get_by_role("button", name="green").click()
    wait(page, "document.querySelector('[name=prompt]').value === 'a green circle moving right'")


def test_messages_are_sentences_and_go_when_what_they_say_is_mended(page):
    fill(page, "my dog chases your cat")
    generate(page)
    page.wait_for_selector(".cogvx-problem:not(:empty)")
    kit.keep(page, "7-refused")
    problem = page.inner_text(".cogvx-problem")
    assert "cogvideox-tiny" in problem
    assert not re.search(r" = |allow_|--", problem), problem
    page.get_by_role("button", name="Generate anyway").click()
    kit.wait_for_result(page, "my dog chases your cat")
    assert page.inner_text(".cogvx-problem") == ""
    kit.more_settings(page)
    page.get_by_label("Allow unknown prompts").evaluate("box => box.click()")
    page.locator("[name=prompt]").fill("")
    generate(page)
    page.wait_for_selector(".cogvx-problem:not(:empty)")
    said = page.inner_text(".cogvx-problem")
    assert "prompt" in said.lower()
    assert not re.search(r"= ''|allow_|--", said), said


def test_earlier_prompts_and_styles(page):
    fill(page, "a red star moving down", seed=35)
    generate(page)
    kit.wait_for_result(page, "a red star moving down")
    fill(page, "a blue circle moving left")
    page.keyboard.press("Alt+ArrowUp")
    wait(page, "document.querySelector('[name=prompt]').value === 'a red star moving down'")
    page.keyboard.press("Alt+ArrowDown")
    wait(page, "document.querySelector('[name=prompt]').value === 'a blue circle moving left'")
    page.get_by_role("button", name="History").click()
    page.get_by_label("Search earlier prompts").fill("star down")
    row = page.locator(".cogvx-popup-row", has_text="a red star moving down").first
    kit.keep(page, "7-history")
    row.get_by_role("button").first.click()
    wait(page, "document.querySelector('[name=prompt]').value === 'a red star moving down'")
    page.get_by_role("button", name="Styles").click()
    page.get_by_role("button", name="Save a style…").click()
    page.get_by_label("Name", exact=True).fill("black")
    page.get_by_label("Prompt: {prompt} is where").fill("{prompt} on a black background")
    page.get_by_role("button", name="Save", exact=True).click()
    notice(page, "is saved")
    page.get_by_role("button", name="Styles").click()
    page.locator(".cogvx-popup-row button", has_text="black").first.click()
    wait(
        page,
        "document.querySelector('[name=prompt]').value"
        " === 'a red star moving down on a black background'",
    )


def roll(page) -> list[str]:
    """The names of the results on the film roll."""
    return page.locator(".cogvx-card-result button").evaluate_all(
        "buttons => buttons.map((button) => button.getAttribute('aria-label'))"
    )


def test_a_reload_and_a_second_tab_show_the_same(page, chromium, lab):
    fill(page, "a blue square moving left", frames=49, steps=1000, seed=40)
    generate(page)
    kit.wait_for_step(page, 2)
    kit.execute(page, "docmanager:save")
    other = kit.new_page(chromium)
    kit.open_notebook(other, lab, workspace="v")
    page.reload()
    for shown in (other, page):
        shown.wait_for_selector("li.cogvx-card-running:has-text('blue square')", timeout=SLOW)
        kit.wait_for_step(shown, 3)
        assert shown.locator("[name=prompt]").input_value() == "a blue square moving left"
        assert shown.locator("[name=seed]").input_value() == "40"
    assert roll(other) == roll(page) != []
    other.locator(".cogvx-cancel").click()
    other.wait_for_selector(".cogvx-cancel:disabled", timeout=SLOW)
    other.close()
    wait(page, kit.REST)


def test_form_and_film_roll_outlive_the_kernel(page, folder):
    if not roll(page):
        fill(page, "a green circle moving up")
        generate(page)
        kit.wait_for_result(page, "a green circle moving up")
    before = roll(page)
    written = {"prompt": "a red square, written before the restart", "steps": 9, "seed": 50}
    fill(page, frames=25, **written)
    kit.kept_form(page, folder, lambda form: form | written | {"frames": 25} == form)
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        ".then(() => 0)"
    )
    kit.run_all(page)
    typed = page.locator("[name=prompt]")
    assert typed.input_value() == written["prompt"]
    assert page.locator("[name=steps]").input_value() == "9"
    assert page.locator(".cogvx-lengths input:checked").get_attribute("value") == "25 exact"
    page.wait_for_selector(".cogvx-card-result")
    assert roll(page) == before


def kernel_process(page) -> psutil.Process:
    kernel = page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
    (found,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if any(kernel in part for part in process.info["cmdline"] or ())
    )
    return found


def kill_kernel(page) -> None:
    """End the notebook's kernel as the system does where memory runs out."""
    kernel_process(page).kill()
    page.locator(".jp-Dialog button.jp-mod-accept").click(timeout=60_000)


def test_the_queue_outlives_a_killed_kernel(page):
    fill(page, "a green square moving right", frames=49, steps=500, seed=60)
    page.get_by_label("Videos", exact=True).fill("4")
    generate(page)
    page.get_by_label("Videos", exact=True).fill("1")
    kit.wait_for_step(page, 2)
    wait(page, waiting(3))
    kill_kernel(page)
    kit.run_all(page)
    left = page.locator(".cogvx-card-left")
    left.wait_for(timeout=SLOW)
    assert "4 jobs left unfinished" in left.inner_text()
    listed = left.locator("p").get_attribute("title")
    assert listed.count("waiting: a green square moving right · 49 frames") == 3
    assert listed.count("was running: a green square moving right · 49 frames") == 1
    assert page.evaluate(kit.REST), "nothing starts unasked"
    kit.keep(page, "8-unfinished")
    left.get_by_role("button", name="Run these").click()
    kit.wait_for_step(page, 1)
    wait(page, waiting(3))
    assert left.count() == 0


def test_a_silent_kernel_is_said_and_the_page_goes_on(page):
    kernel = kernel_process(page)
    kernel.suspend()
    try:
        fill(page, "a blue circle moving down", seed=70)
        banner = page.locator(".cogvx-banner")
        banner.wait_for(timeout=30_000)
        assert "The kernel doesn't answer" in banner.inner_text()
        kit.keep(page, "9-silent")
    finally:
        kernel.resume()
    banner.wait_for(state="hidden", timeout=30_000)
    generate(page)
    kit.wait_for_result(page, "a blue circle moving down")


def test_hostile_text_is_text_everywhere(page):
    hostile = '<script>alert(1)</script> "><img src=x onerror=alert(2)> \u202eno'
    fill(page, "a red circle moving right on a black background, " * 3 + hostile, seed=80, steps=3)
    generate(page)
    page.wait_for_selector(".cogvx-title:has-text('<script>alert(1)')", timeout=SLOW)
    page.get_by_label("Add a tag").fill("<img src=x onerror=alert(3)>")
    page.get_by_label("Add a tag").press("Enter")
    page.get_by_label("Note on this video").fill("<img src=x onerror=alert(4)>")
    page.get_by_label("Note on this video").press("Tab")
    page.wait_for_selector(".cogvx-tags :text('alert(3)')")
    for name in ("Gallery", "Compare", "Grid", "Make"):
        view(page, name)
    page.get_by_role("button", name="History").click()
    page.wait_for_selector(".cogvx-popup-row:has-text('<script>alert(1)')")
    page.keyboard.press("Escape")
    assert not page.locator(".cogvx-page script").count()
    assert not page.locator(".cogvx-page img[src=x]").count()


DROP = """([name, data, size]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const file = size ? new File([new Uint8Array(size)], name) : new File([bytes], name);
  const carried = new DataTransfer();
  carried.items.add(file);
  const root = document.querySelector('.cogvx-page');
  const properties = { dataTransfer: carried, bubbles: true, cancelable: true };
  for (const kind of ['dragenter', 'dragover', 'drop'])
    root.dispatchEvent(new DragEvent(kind, properties)) }"""


def drop(page, name: str, data: bytes, size: int = 0) -> None:
    page.evaluate(DROP, [name, base64.b64encode(data).decode(), size])


def test_dropped_files_fill_the_form(page, samples):
    made = samples[1]  # a blue circle moving left, seed 7
    for name, data in {
        "mine.mp4": made.path.read_bytes(),
        "mine.json": made.sidecar.read_bytes(),
    }.items():
        fill(page, "something else", seed=90)
        drop(page, name, data)
        wait(page, "document.querySelector('[name=prompt]').value === 'a blue circle moving left'")
        assert page.locator("[name=seed]").input_value() == "7"
        page.locator(".cogvx-notice").get_by_role("button", name="Undo").last.click()
        wait(page, "document.querySelector('[name=prompt]').value === 'something else'")
    drop(page, "film.mp4", b"", 110_000_000)
    notice(page, "film.mp4 has 110 MB: drop files of up to 100")
    drop(page, "broken.mp4", made.path.read_bytes()[:300])
    notice(page, "broken.mp4")
    drop(page, "notes.json", b'{"a": 1}')
    notice(page, "notes.json")
    assert page.locator("[name=prompt]").input_value() == "something else"
    wait(page, "!document.querySelector('.cogvx-dropping')")


FRAME = """async (place) => {
  const video = document.querySelector('.cogvx-video');
  video.pause();
  await new Promise(seeked => { video.onseeked = seeked; video.currentTime = place });
  const canvas = document.createElement('canvas').getContext('2d');
  [canvas.canvas.width, canvas.canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.drawImage(video, 0, 0);
  const data = canvas.getImageData(0, 0, video.videoWidth, video.videoHeight).data;
  return [...data].filter((_, i) => i % 4 < 3) }"""
"""Of the result, as the browser draws it at a time in seconds: red, green, blue of each pixel."""

PICTURE = """() => {
  const picture = document.querySelector('.cogvx-input-picture:not([hidden])');
  const canvas = document.createElement('canvas').getContext('2d');
  [canvas.canvas.width, canvas.canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  canvas.drawImage(picture, 0, 0);
  const data = canvas.getImageData(0, 0, picture.naturalWidth, picture.naturalHeight).data;
  return [...data].filter((_, i) => i % 4 < 3) }"""

PREVIEWED = "document.querySelector('.cogvx-input-picture:not([hidden])')?.naturalWidth > 0"


def decibel(shown: list[int], expected: np.ndarray) -> float:
    """How close pixels that the browser draws are to those of a frame (PSNR)."""
    error = np.reshape(shown, expected.shape).astype(float) - expected
    return 10 * np.log10(255**2 / (error**2).mean())


def test_a_dropped_picture_begins_the_video_and_its_last_frame_the_next(page, folder):
    frames = world.clip(world.Attributes("green", "circle", "up", "navy"), 13)
    data = io.BytesIO()
    Image.fromarray(frames[0]).save(data, "PNG")
    page.locator(".cogvx-model").select_option("cogvideox-tiny")
    fill(page, "a green circle moving up on a navy background", steps=20, seed=120)
    try:
        drop(page, "my circle.png", data.getvalue())
        notice(page, "cogvideox-tiny-i2v is chosen")
        wait(page, PREVIEWED)
        assert page.locator(".cogvx-input-name:visible").inner_text() == "my circle.png"
        assert decibel(page.evaluate(PICTURE), frames[0]) > 30
        kit.keep(page, "image")
        found = [*kit.violations(page), *page.evaluate(kit.OUTSIDE), *page.evaluate(kit.CUT)]
        assert found == []
        generate(page)
        kit.wait_for_result(page, "a green circle moving up on a navy background")
        wait(page, "document.querySelector('.cogvx-video').duration > 1")
        assert decibel(page.evaluate(FRAME, 0), frames[0]) > 25
        wait(page, "document.querySelector('.cogvx-from-picture')?.naturalWidth > 0")
        assert "my circle.png" in page.inner_text(".cogvx-from")
        page.get_by_role("button", name="Start from", exact=True).click()
        page.get_by_role("button", name="Use last frame").click()
        notice(page, "last frame of")
        last = video.decode_video(newest(folder))[-1]
        wait(
            page,
            f"{PREVIEWED} && document.querySelector('.cogvx-input-name').textContent"
            ".startsWith('last frame of')",
        )
        wait(page, "document.querySelector('.cogvx-input-picture').complete")
        assert decibel(page.evaluate(PICTURE), last) > 30
        page.locator(".cogvx-model").select_option("cogvideox-tiny")
        page.get_by_role("button", name="Use cogvideox-tiny-i2v").click()
        wait(page, "document.querySelector('.cogvx-problem').textContent === ''")
        assert page.locator(".cogvx-model").input_value() == "cogvideox-tiny-i2v"
    finally:
        for remove in page.locator(".cogvx-input-remove:visible").all():
            remove.click()
        page.locator(".cogvx-model").select_option("cogvideox-tiny")


@pytest.fixture(scope="module")
def two_videos(samples, folder) -> str:
    """Two results that differ in colour and direction; words to search them by."""
    return put_two(samples, folder, "in step")


def put_two(samples, folder: Path, words: str) -> str:
    """The same with some words at the end of their prompts."""
    for name, sample in zip(("red right", "blue left"), samples, strict=False):
        colour, direction = name.split()
        sidecar = sample.sidecar_json()
        sidecar["request"]["prompt"] = f"a {colour} circle moving {direction} {words}"
        path = folder / "outputs" / "2026-01-01" / f"{colour} {words}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(without_tag(sample.path.read_bytes()))
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return f"circle {words}"


def search(page, words: str, count: int) -> None:
    """Results of the gallery by words."""
    view(page, "Gallery")
    page.get_by_label("Search results").fill(words)
    cards = "[...document.querySelectorAll('.cogvx-gallery-card')].filter(e => e.checkVisibility())"
    wait(page, f"{cards}.length === {count}")


def test_the_gallery_finds_marks_and_moves_away(page, two_videos):
    search(page, two_videos, 2)
    first = page.locator(".cogvx-gallery-card", has_text="blue circle").first
    wait(page, "document.querySelector('.cogvx-gallery-picture').src.startsWith('blob:')")
    kit.keep(page, "gallery")
    first.get_by_role("checkbox").check()
    page.get_by_role("button", name="Stars and tags").click()
    page.get_by_label("Tags, with commas between them").fill("keeper, <b>")
    page.get_by_role("button", name="Add tags").click()
    page.keyboard.press("Escape")
    search(page, "keeper", 1)
    search(page, two_videos, 2)
    first.get_by_role("checkbox").check()
    page.get_by_role("button", name="To the trash").click()
    search(page, two_videos, 1)
    page.locator(".cogvx-notice").get_by_role("button", name="Undo").last.click()
    search(page, two_videos, 2)
    page.locator(".cogvx-gallery-card", has_text="red circle").first.locator(
        ".cogvx-gallery-main"
    ).click()
    wait(page, "document.querySelector('.cogvx-title').textContent.includes('red circle')")
    plays(page)


def compare_two(page, words: str) -> None:
    """Compare the two results that have these words."""
    search(page, words, 2)
    compare = page.locator(".cogvx-gallery-actions").get_by_role("button", name="Compare")
    for _ in range(10):  # a search that ends late draws the cards again, and chooses none
        with contextlib.suppress(kit.sync_api.Error):
            for card in page.locator(".cogvx-gallery-card").all()[:2]:
                card.get_by_role("checkbox").check(timeout=3000)
            compare.click(timeout=3000)
            break
    page.wait_for_selector(".cogvx-compare-screen canvas", timeout=SLOW)


def test_two_are_compared_in_step(page, two_videos):
    compare_two(page, two_videos)
    frame = page.locator(".cogvx-compare-scrub")
    page.locator(".cogvx-compare-player").get_by_role("button", name="Play").or_(
        page.locator(".cogvx-compare-player").get_by_role("button", name="Pause")
    ).first.wait_for()
    frame.fill("3")
    page.get_by_role("button", name="One frame on (.)").click()
    assert frame.input_value() == "4"
    kit.keep(page, "compare")
    table = page.locator(".cogvx-compare-table")
    assert {"red", "blue"} <= set(re.findall(r"\w+", table.inner_text()))
    for mode in page.locator(".cogvx-compare-mode").all():
        mode.click()
        page.wait_for_selector(".cogvx-compare-screen canvas")


def test_each_of_two_that_are_compared_can_be_finished(page, samples, folder):
    words = put_two(samples, folder, "as a pair")
    search(page, "none has these words", 0)  # else the two of another search could be chosen
    compare_two(page, words)
    page.get_by_label("Side by side").check()
    pair = "[...document.querySelectorAll('.cogvx-compare-screen figure')]"
    wait(page, f"{pair}.filter((e) => /as a pair.*Finish…/s.test(e.innerText)).length === 2")
    cards = page.locator(".cogvx-card-result").count()
    kit.keep(page, "compare-finish")
    page.get_by_title("finish B: ").click()
    box = page.get_by_role("dialog")
    assert box.get_by_role("heading").inner_text() == "Finish this video"
    box.get_by_label("Size").select_option("2")
    box.get_by_role("button", name="Finish", exact=True).click()
    chosen = page.locator(".cogvx-compare-prompt").nth(1).inner_text()
    wait(page, f"document.querySelectorAll('.cogvx-card-result').length === {cards + 1}", SLOW)
    search(page, words, 3)
    page.locator(".cogvx-gallery-main[title*='finished: ']").first.click()
    wait(page, "document.querySelector('.cogvx-facts').innerText.includes('lanczos ×2')")
    assert page.inner_text(".cogvx-title") == chosen


def test_a_grid_fills_in(page):
    fill(page, "a red circle moving right on a black background", steps=4, seed=100)
    view(page, "Grid")
    across, down = page.locator(".cogvx-grid-side").all()[:2]
    across.get_by_label("vary").select_option("prompt words")
    across.locator(".cogvx-grid-values").fill("red, green")
    down.get_by_label("vary").select_option("seed")
    down.locator(".cogvx-grid-values").fill("1-2")
    wait(page, "document.querySelector('.cogvx-grid-status').textContent.includes('4 videos')")
    page.get_by_role("button", name="Make grid").click()
    wait(page, "document.querySelectorAll('.cogvx-grid-cell img:not([hidden])').length === 4", SLOW)
    kit.keep(page, "grid")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_fits_and_can_be_read(page, two_videos, theme, samples):
    compare_two(page, two_videos)
    view(page, "Make")
    page.get_by_role("button", name="Clip", exact=True).click()
    clip = page.locator("[name=video]")
    clip.fill(str(samples[0].path))
    wait(page, PREVIEWED)
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")
    wrong = {}
    for width in (1400, 900, 500):
        if width == 500:
            page.evaluate("window.jupyterapp.shell.collapseLeft()")
        page.set_viewport_size({"width": width, "height": 1000})
        for name in ("Make", "Grid", "Storyboard", "Gallery", "Compare"):
            view(page, name)
            wait(page, "document.getAnimations().every(a => a.playState !== 'running')")
            kit.keep(page, f"{name.lower()}-{width}-{theme.split()[1].lower()}")
            found = [*kit.violations(page), *page.evaluate(kit.OUTSIDE), *page.evaluate(kit.CUT)]
            if found:
                wrong[name, width] = found
    view(page, "Make")
    page.get_by_role("button", name="without clip").click()
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.evaluate("window.jupyterapp.shell.expandLeft()")
    page.evaluate(
        "window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
    )
    page.wait_for_selector("body[data-jp-theme-name='JupyterLab Light']", state="attached")
    assert wrong == {}


NAME = """() => { const e = document.activeElement;
  return (e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.title
          || (e.tagName == 'VIDEO' ? 'video' : '')).trim() }"""
"""Of the control with the focus; the browser names a video's controls itself."""


def reach(page, name: str) -> list[str]:
    """Go on with the Tab key until there; the names of all on the way, each of which has one."""
    reached = []
    while name not in reached:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAME))
        assert reached[-1], page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert page.evaluate("Boolean(document.activeElement.closest('.cogvx-page'))"), reached
        assert len(reached) < 60, reached
    return reached


def focus_on_make(page) -> None:
    """The focus is on Make's tab and stays there; a menu that closes late takes it once."""
    tab = page.get_by_role("tab", name="Make")
    for _ in range(20):
        tab.focus()
        page.wait_for_timeout(300)
        if tab.evaluate("tab => tab === document.activeElement"):
            return
    raise AssertionError(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))


def test_by_keyboard_alone(page):
    wait(page, kit.REST)
    focus_on_make(page)
    assert {"Generate"} <= set(reach(page, "Prompt"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a yellow star moving up")
    assert {"Negative prompt"} <= set(reach(page, "More settings"))
    if page.locator(".cogvx-details").get_attribute("open") is None:
        page.keyboard.press("Enter")
    reach(page, "Steps")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("300")
    page.keyboard.press("Control+Enter")
    kit.wait_for_step(page, 1)
    page.keyboard.press("Escape")
    wait(page, kit.REST)
    page.get_by_role("tab", name="Make").focus()
    for name in ("Grid", "Storyboard", "Gallery"):
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(f".cogvx-panel-{name.lower()}", state="visible")
    assert page.evaluate(NAME) == "Gallery"
    reach(page, "Search results")


def test_reduced_motion(page):
    fill(page, "a red circle moving left", seed=110)
    page.emulate_media(reduced_motion="reduce")
    generate(page)
    kit.wait_for_result(page, "a red circle moving left")
    wait(page, "document.querySelector('.cogvx-strip').naturalWidth > 0")
    assert page.evaluate("document.querySelector('.cogvx-video').paused")
    assert page.evaluate(
        "document.querySelector('.cogvx-page').getAnimations({ subtree: true }).length === 0"
    )
    page.emulate_media(reduced_motion="no-preference")


def test_a_result_is_finished_and_exported(page, folder):
    cards = page.locator(".cogvx-card-result").count()
    page.get_by_role("button", name="Finish…").click()
    box = page.get_by_role("dialog")
    assert box.get_by_role("button", name="Finish", exact=True).is_disabled()
    box.get_by_label("Frames a second", exact=True).select_option("3")
    box.get_by_label("Size").select_option("2")
    kit.keep(page, "finish")
    box.get_by_role("button", name="Finish", exact=True).click()
    wait(page, f"document.querySelectorAll('.cogvx-card-result').length === {cards + 1}", SLOW)
    page.locator(".cogvx-card-result .cogvx-card-main").first.click()
    wait(page, "document.querySelector('.cogvx-facts').innerText.includes('lanczos ×2')")
    wait(page, "document.querySelector('.cogvx-video').videoWidth === 288")
    page.get_by_role("button", name="Share").click()
    box.get_by_label("fps").fill("12")
    with page.expect_download(timeout=SLOW) as loaded:
        box.get_by_role("button", name="GIF, 256 colours").click()
    with Image.open(loaded.value.path()) as picture:
        assert (picture.format, picture.size) == ("GIF", (288, 192))
        assert picture.n_frames == (newest_count(folder) + 1) // 2


def newest_count(folder: Path) -> int:
    return len(video.decode_video(newest(folder)))
