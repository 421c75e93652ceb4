"""LoRAs on the workbench's page in a real Chromium."""

from __future__ import annotations

import browser as kit
import pytest
from browser import SLOW, fill, generate, view, wait
from conftest import ROOT
from test_page_loras import METADATA, save, tensors

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
    with kit.jupyter(tmp_path) as url, kit.chromium() as chromium:
        shown = chromium.new_page(viewport={"width": 1400, "height": 1000})
        kit.open_notebook(shown, url)
        kit.run_all(shown)
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
