"""LoRAs on the workbench's page in a real Chromium."""

from __future__ import annotations

import browser as kit
import pytest
from browser import SLOW, fill, generate, view, wait
from conftest import ROOT
from test_page_loras import METADATA, save, tensors

from cogvx_nb.checkpoints import registry

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "a red circle moving right on a black background"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The workbench with a library of its own."""
    models = tmp_path / "models"
    models.mkdir()
    for folder in (ROOT / "models").iterdir():
        if folder.is_dir() and folder.name != "loras":
            (models / folder.name).symlink_to(folder)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(models))
    with kit.workbench(tmp_path) as shown:
        yield shown


def drop(page, name: str, content: bytes) -> None:
    """A file dropped on the page."""
    page.evaluate(
        """([name, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name));
          document.querySelector('.cogvx-form').dispatchEvent(
            new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })) }""",
        [name, list(content)],
    )


def test_a_lora_is_dropped_weighed_used_and_varied_in_a_grid(page, tmp_path):
    drop(page, "outline.safetensors", save(tensors(), METADATA))
    page.wait_for_selector(".cogvx-lora")
    assert (tmp_path / "models" / "loras" / "outline.safetensors").is_file()
    assert "rank 4" in page.inner_text(".cogvx-lora-facts")
    fill(page, PROMPT, steps=2)
    slider = page.get_by_role("slider", name="Weight of outline", exact=True)
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert page.locator(".cogvx-lora-weight").input_value() == "0.5"
    page.get_by_role("button", name="thin").click()
    assert page.locator("[name=prompt]").input_value() == f"{PROMPT}, thin"
    page.locator("[name=prompt]").fill(PROMPT)
    assert kit.violations(page) == []
    generate(page)
    kit.wait_for_result(page, PROMPT)
    assert "outline 0.5" in page.inner_text(".cogvx-facts")
    view(page, "Grid")
    page.locator(".cogvx-grid-side select option[value='lora weight']").first.wait_for(
        state="attached"
    )
    page.locator(".cogvx-grid-side select").first.select_option("lora weight")
    page.locator(".cogvx-grid-values").first.fill("0.5, 1")
    page.get_by_text("2 videos", exact=False).first.wait_for()
    page.get_by_role("button", name="Make grid").click()
    wait(page, "document.querySelectorAll('.cogvx-grid-cell .cogvx-thumb[src]').length === 2", SLOW)
    assert "outline 0.5" in page.inner_text(".cogvx-grid-table thead")
    assert kit.violations(page) == []
    kit.keep(page, "loras-grid")


def weight(page, name: str):
    return page.get_by_label(f"Weight of {name} as a number")


def test_edits_of_the_list_outlive_an_answer_under_way(page, tmp_path):
    library = tmp_path / "models" / "loras"
    drop(page, "first.safetensors", save(tensors()))
    page.wait_for_selector(".cogvx-lora")
    large = next(known for known in registry.CHECKPOINTS if known.name == "CogVideoX-2b")
    (library / "second.safetensors").write_bytes(save(tensors(large)))
    page.held.hold('"rows": ')
    page.locator(".cogvx-loras").get_by_title("Add a LoRA").click()
    page.locator(".cogvx-loras .cogvx-popup-row", has_text="second").click()
    page.held.wait()
    weight(page, "first").fill("0.5")
    page.held.release()
    weight(page, "second").wait_for()
    assert weight(page, "first").input_value() == "0.5", "edited while one was added"
    page.held.hold('"rows": ')
    page.locator(".cogvx-model").select_option("cogvideox-tiny-i2v")
    page.held.wait()
    page.get_by_role("button", name="without first").click()
    weight(page, "second").fill("0.3")
    page.held.release()
    page.locator(".cogvx-lora-problem", has_text="fit cogvideox-tiny-i2v").wait_for()
    assert page.locator(".cogvx-lora-name").all_inner_texts() == ["second"], "one was removed"
    assert weight(page, "second").input_value() == "0.3", "edited while it was read"
    kit.kept_form(page, tmp_path, lambda form: ":0.3" in form["lora"])
    page.held.hold('"lora": {')
    drop(page, "third.safetensors", save(tensors(seed=3)))
    page.held.wait()
    weight(page, "second").fill("-0.5")
    kit.kept_form(page, tmp_path, lambda form: ":-0.5" in form["lora"])
    page.held.release()
    weight(page, "third").wait_for()
    assert weight(page, "second").input_value() == "-0.5", "edited while one was dropped"
    form = kit.kept_form(page, tmp_path, lambda form: "third" in form["lora"])
    assert ":-0.5, third#" in form["lora"]


def test_a_weight_that_cannot_be_used_says_why(page, tmp_path):
    drop(page, "outline.safetensors", save(tensors(), METADATA))
    page.wait_for_selector(".cogvx-lora")
    for control, bad, good, words in (
        (weight(page, "outline"), "99", "0.5", "between -10 and 10: 1 stays"),
        (page.get_by_label("Alpha of outline"), "0", "2", "a number above 0"),
    ):
        control.fill(bad)
        assert control.get_attribute("aria-invalid") == "true"
        why = page.locator(f"#{control.get_attribute('aria-errormessage')}")
        assert words in why.inner_text()
        kit.keep(page, f"loras-{bad}")
        assert kit.violations(page) == []
        control.fill(good)
        assert control.get_attribute("aria-invalid") is None
        assert why.is_hidden()
    form = kit.kept_form(page, tmp_path, lambda form: "alpha=2" in form["lora"])
    assert ":0.5@alpha=2" in form["lora"]
