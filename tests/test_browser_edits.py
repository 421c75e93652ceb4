"""Edits in the workbench's page while the kernel's answers are under way, in a real Chromium."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
from pathlib import Path

import browser as kit
import pytest
import world
from browser import fill, notice, wait
from conftest import CIRCLE
from PIL import Image
from test_browser import PREVIEWED, drop
from test_page import ODD

from cogvx_nb.results import video
from cogvx_nb.workbench.kept_page import KeptPage, write_page
from cogvx_nb.workflow import generate_video

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


@pytest.fixture
def outputs(folder, lab, monkeypatch) -> Path:
    """An empty outputs folder, this process's too, of which no kernel knows anything."""
    kit.end_kernels(lab)
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(folder / "outputs"))
    return folder / "outputs"


@pytest.fixture
def page(outputs, chromium, lab):
    shown = kit.new_page(chromium)
    shown.held = kit.Held(shown)
    shown.clock.install()
    kit.open_notebook(shown, lab)
    kit.run_all(shown)
    yield shown
    shown.close()


@pytest.fixture
def kept(page, folder):
    return functools.partial(kit.kept_form, page, folder)


def circle() -> bytes:
    data = io.BytesIO()
    frames = world.clip(world.Attributes("green", "circle", "up", "navy"), 13)
    Image.fromarray(frames[0]).save(data, "PNG")
    return data.getvalue()


def test_neither_a_dropped_file_nor_an_edit_undoes_the_other(page, kept):
    fill(page, "a red circle", steps=7)
    page.held.hold('"note": "Image: ')
    drop(page, "circle.png", circle())
    page.held.wait()
    page.locator("[name=prompt]").fill("a red circle moving up")
    form = kept(lambda form: form["prompt"] == "a red circle moving up")
    assert form["image"].startswith("inputs/"), "the edit has left it there"
    page.held.release()
    said = page.locator(".cogvx-notice", has_text="circle.png")
    said.wait_for()
    wait(page, PREVIEWED)
    assert page.locator("[name=prompt]").input_value() == "a red circle moving up"
    assert page.locator(".cogvx-model").input_value() == "cogvideox-tiny-i2v"
    page.locator("[name=steps]").fill("8")
    form = kept(lambda form: form["steps"] == 8)
    assert (form["prompt"], form["image"][:7]) == ("a red circle moving up", "inputs/")
    kit.keep(page, "edits-dropped")
    said.get_by_role("button", name="Undo").click()
    form = kept(lambda form: form["image"] == "")
    assert (form["prompt"], form["steps"]) == ("a red circle moving up", 8), "they were typed later"
    assert form["model"] == "cogvideox-tiny"


def test_a_field_that_the_kernel_changes_after_a_newer_edit_is_sent_again(page, kept, tmp_path):
    page.locator(".cogvx-model").select_option("cogvideox-tiny-i2v")
    page.get_by_role("button", name="Image", exact=True).click()
    mine = str(tmp_path / "mine.png")
    Path(mine).write_bytes(circle())
    page.held.hold('"action":"drop.piece"')
    drop(page, "circle.png", circle())
    page.held.wait()
    page.locator("[name=image]").fill(mine)
    wait(page, PREVIEWED)
    page.held.release(then='"note": "Image: ')
    kept(lambda form: form["image"].startswith("inputs/"))
    page.held.wait()
    page.locator("[name=negative_prompt]").fill("blue")
    form = kept(lambda form: form["negative_prompt"] == "blue" and form["image"] == mine)
    page.held.release()
    notice(page, "circle.png")
    assert page.locator("[name=image]").input_value() == mine, "typed after the file was dropped"
    page.locator("[name=negative_prompt]").fill("green")
    assert kept(lambda form: form["negative_prompt"] == "green")["image"] == form["image"]


def test_an_edit_that_is_lost_is_sent_again_with_the_next(page, kept):
    fill(page, "a red circle", steps=7)
    kept(lambda form: (form["prompt"], form["seed"]) == ("a red circle", 1))
    page.held.hold('"action":"form.edit"')
    page.locator("[name=prompt]").fill("a blue circle")
    page.held.wait()
    page.held.lose()
    page.locator("[name=steps]").fill("8")
    assert kept(lambda form: form["prompt"] == "a blue circle")["steps"] == 8
    assert page.locator("[name=prompt]").input_value() == "a blue circle"


@pytest.mark.parametrize(
    ("lost", "count"), [('"action":"form.edit"', 2), ('"reply"', 3)], ids=["message", "answer"]
)
def test_what_is_lost_is_said_and_nothing_waits_for_it(page, kept, lost, count):
    fill(page, "a red circle", steps=7)
    kept(lambda form: (form["prompt"], form["seed"]) == ("a red circle", 1))
    page.held.hold(lost)
    page.locator("[name=prompt]").fill("a blue circle")  # which is read, too
    page.held.wait(count - 1)
    drop(page, "circle.png", circle())
    page.held.wait(count)
    page.held.lose()
    said = page.locator(".cogvx-notice", has_text="lost this").first
    for _ in range(30):
        page.clock.fast_forward(31_000)  # the next pulse, and then as long as an answer may take
        page.wait_for_timeout(1000)
        if said.count():
            break
    said.wait_for()
    kept(lambda form: form["prompt"] == "a blue circle")
    drop(page, "circle.png", circle())
    notice(page, "circle.png")
    wait(page, PREVIEWED)
    assert kept(lambda form: form["image"])["prompt"] == "a blue circle"


def test_an_edit_in_one_view_leaves_those_of_another(page, kept):
    fill(page, "a red circle", steps=7)
    kept(lambda form: form["prompt"] == "a red circle")
    kit.execute(page, "notebook:create-output-view")
    wait(page, "document.querySelectorAll('.cogvx-page').length === 2")
    first, second = page.locator(".cogvx-page").all()
    first.locator("[name=prompt]").fill("a blue circle")
    kept(lambda form: form["prompt"] == "a blue circle")
    shown = "document.querySelectorAll('[name=prompt]')[1].value === 'a blue circle'"
    wait(page, shown)  # else it would make the video of the old prompt
    second.locator(".cogvx-details summary").click()
    second.locator("[name=steps]").fill("9")
    assert kept(lambda form: form["steps"] == 9)["prompt"] == "a blue circle"
    wait(page, "document.querySelectorAll('[name=steps]')[0].value === '9'")
    assert first.locator("[name=prompt]").input_value() == "a blue circle"


CHOSEN = ".cogvx-lengths input:checked"


def reopen(page, outputs: Path, values: dict[str, object]) -> None:
    """The page of a new kernel, whose form was left with other values."""
    page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        ".then(() => 0)"
    )
    path = outputs / ".workbench.json"
    content = json.loads(path.read_text())
    content["form"] |= values
    path.write_text(json.dumps(content))
    kit.run_all(page)


def why(control) -> str:
    """What a control is said to be marked for."""
    return control.page.locator(f"#{control.get_attribute('aria-errormessage')}").inner_text()


def test_what_is_not_edited_goes_back_as_it_came(page, kept, outputs):
    """Though sliders round, lines of text lose their breaks and a LoRA is written in one way."""
    fill(page, "a red circle")
    kept(lambda form: form["prompt"] == "a red circle")
    reopen(page, outputs, ODD)
    page.locator(".cogvx-lora").nth(1).wait_for()
    assert page.locator(CHOSEN).get_attribute("value") == f"{ODD['frames']} {ODD['speed']}"
    kit.more_settings(page)
    page.locator("[name=steps]").fill("3")
    form = kept(lambda form: form["steps"] == 3)
    assert {name: form[name] for name in ODD} == ODD | {"steps": 3}
    weight = page.get_by_label("Weight of one as a number")
    assert weight.input_value() == "0.625"
    weight.fill("0.375")
    assert kept(lambda form: form["lora"] != ODD["lora"])["lora"] == "one:0.375, two:1"


def test_a_loaded_result_is_made_as_it_was(outputs, chromium, lab, tmp_path):
    """Of a strength between the slider's steps, and of as many new frames as no clip has."""
    clip = tmp_path / "clip.mp4"
    frames = world.clip(world.Attributes("green", "circle", "up", "navy"), 13)
    video.encode_video(frames, clip, 8, "")
    usual = {"steps": 2, "seed": 5}
    changed = generate_video(
        CIRCLE, **usual, model="cogvideox-tiny", video=str(clip), strength=0.625
    )
    longer = generate_video(
        CIRCLE, **usual, model="cogvideox-tiny-i2v", extend=str(clip), frames=60
    )
    made = [one.path.relative_to(outputs).as_posix() for one in (changed, longer)]
    write_page(KeptPage(roll=tuple(made)))
    with contextlib.closing(kit.new_page(chromium)) as page:
        kit.open_notebook(page, lab)
        kit.run_all(page)
        make_again(page, 0, "0.625")
        make_again(page, 1, "60 frames")
        form = kit.kept_form(page, outputs.parent, lambda form: form["frames"] == 60)
        reopen(page, outputs, form | {"model": "cogvideox-tiny"})
        make_again(page, 1, "60 frames")  # of what is loaded only the model is another


def make_again(page, place: int, shown: str) -> None:
    """A result of the film roll, loaded and asked for: it is known, for nothing has changed."""
    page.locator(".cogvx-card-result").nth(place).click()
    page.get_by_role("button", name="Load", exact=True).click()
    page.locator(f".cogvx-form :is(output, th):visible:has-text('{shown}')").wait_for()
    notice(page, "Its settings are in the form")
    kit.generate(page)
    notice(page, "You have this video already")
    kit.keep(page, f"edits-made-again-{place}")


def test_a_refusal_stays_until_what_it_says_is_mended(page):
    fill(page, "a red circle moving up")
    page.wait_for_timeout(500)
    page.held.hold('"problem": null')
    page.locator("[name=steps]").fill("7")
    page.held.wait()
    page.locator("[name=prompt]").fill("")
    kit.generate(page)
    problem = page.locator(".cogvx-problem:not(:empty)")
    problem.wait_for()
    refusal = problem.inner_text()
    page.held.release()  # the answer to the edit before
    page.wait_for_timeout(1000)
    assert problem.inner_text() == refusal
    page.held.hold('"reply"')
    page.clock.fast_forward(21_000)  # the next pulse, whose answer doesn't come
    page.locator(".cogvx-banner").wait_for()
    page.held.release(then='"action":"form.edit"')  # where a silence ends, the form is checked
    page.held.wait()
    page.held.release()
    page.wait_for_timeout(1000)
    assert problem.inner_text() == refusal
    page.locator("[name=prompt]").fill("a red circle moving up")
    wait(page, "document.querySelector('.cogvx-problem').textContent === ''")


COSTS = "document.querySelector('.cogvx-lengths').textContent"


def costs(page, steps: int, before: str) -> str:
    """The predicted costs of other steps, once they are shown."""
    page.locator("[name=steps]").fill(str(steps))
    wait(page, f"{COSTS} !== {json.dumps(before)}")
    return page.evaluate(COSTS)


def test_a_late_answer_is_about_what_is_typed_now(page, kept):
    fill(page, "a red circle moving up", steps=20)
    wait(page, f"/≈.*≈/.test({COSTS})")
    before = page.evaluate(COSTS)
    long = costs(page, 800, before)
    page.held.hold('"distance"')  # the costs of 400 steps
    page.locator("[name=steps]").fill("400")
    page.held.wait()
    page.clock.fast_forward(5000)  # a pulse is sent
    assert page.locator(".cogvx-banner").is_hidden(), "what takes long isn't a silent kernel"
    page.locator("[name=steps]").fill("800")
    page.held.wait(2)
    page.held.release(newest_first=True)
    page.wait_for_timeout(1000)
    assert page.evaluate(COSTS) == long, "of 800 steps"
    page.held.hold('"error": {')
    page.locator("[name=prompt]").fill("")
    kit.generate(page)
    page.held.wait()
    page.locator("[name=prompt]").fill("a red circle moving up")
    kept(lambda form: form["prompt"] == "a red circle moving up")
    page.held.release()
    notice(page, "Prompt")
    assert page.inner_text(".cogvx-problem") == "", "it has been mended meanwhile"
    page.locator("[name=steps]").fill("1000")
    page.keyboard.press("Control+Enter")
    wait(page, f"{COSTS} !== {json.dumps(long)}")  # though its check came after "Generate"
    kit.at_rest(page)


def test_a_prompt_is_read_once_though_the_kernel_is_slow(page):
    page.held.hold('"spans"')
    for text in ("a red", "a red circle"):
        page.locator("[name=prompt]").fill(text)
        page.clock.fast_forward(5000)
    page.locator("[name=prompt]").fill("a red circle moving")
    page.held.wait(3)
    page.held.release()
    page.wait_for_selector(".cogvx-tokens:has-text('4 of')")
    page.wait_for_timeout(1000)
    page.held.hold('"action":"prompt.read"')
    page.wait_for_timeout(1000)
    assert page.held.count == 0


def test_another_view_s_edit_is_shown_where_what_was_asked_fails(page, kept):
    fill(page, "a red circle", steps=7)
    kept(lambda form: form["prompt"] == "a red circle")
    kit.execute(page, "notebook:create-output-view")
    wait(page, "document.querySelectorAll('.cogvx-page').length === 2")
    page.held.hold('"error": {')
    drop(page, "broken.png", b"no picture")
    page.held.wait()
    page.locator("[name=prompt]").nth(1).fill("a blue circle")
    kept(lambda form: form["prompt"] == "a blue circle")
    page.held.release()
    notice(page, "broken.png")
    wait(page, "document.querySelector('[name=prompt]').value === 'a blue circle'")


def test_what_an_error_is_about_is_marked(page, kept, outputs):
    """Groups of controls and check boxes too."""
    fill(page, "a red circle", steps=7)
    kept(lambda form: form["prompt"] == "a red circle")
    reopen(page, outputs, {"frames": 34, "strict": True, "lora": "nowhere:0.5"})
    kit.more_settings(page)

    def marked(control, words: str) -> None:
        control.and_(page.locator("[aria-invalid=true]")).wait_for()
        assert page.locator(".cogvx-form [aria-invalid]:not(.cogvx-lora-weight)").count() == 1
        assert why(control).startswith(words)
        kit.keep(page, f"edits-marked-{words[:6]}")
        assert kit.violations(page) == []

    marked(page.locator(".cogvx-loras"), "LoRA nowhere is no file")
    weight = page.get_by_label("Weight of nowhere as a number")
    weight.fill("11")
    assert "its weight" in why(weight).lower()
    weight.fill("0.5")
    assert "is no file" in why(weight), "as before"
    page.get_by_role("button", name="without nowhere").click()
    marked(page.get_by_role("radiogroup", name="Length and speed"), "Length 34: ")
    strict = page.get_by_role("checkbox", name="Strict")
    strict.evaluate(
        "box => Object.defineProperty(box, 'checked', { get: () => 'yes', configurable: true })"
    )
    strict.dispatch_event("change")
    marked(strict, "Strict yes must be true or false")
    strict.evaluate("box => { delete box.checked; box.checked = false }")
    strict.dispatch_event("change")
    wait(page, "!document.querySelector('.cogvx-form [aria-invalid]')")
