"""A storyboard on the workbench's page in a real Chromium."""

from __future__ import annotations

import json

import browser as kit
import pytest
from browser import SLOW, fill, view, wait

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CIRCLE = "a red circle moving right on a black background"
STAR = "a green star growing on a navy background"


@pytest.fixture
def page(tmp_path):
    """The workbench, with two steps in its form."""
    with kit.jupyter(tmp_path) as url, kit.chromium() as chromium:
        shown = kit.new_page(chromium)
        kit.open_notebook(shown, url)
        kit.run_all(shown)
        fill(shown, CIRCLE, steps=2)
        yield shown


TYPED_FRAMES = """(input, value) => {
  input.value = value;
  input.dispatchEvent(new Event('input'));
  return input.closest('tr').querySelector('.cogvx-board-changed').textContent }"""
"""Types a length; what its row says of adjustments then."""


def told(page, words: str) -> None:
    """Until the storyboard says something."""
    shown = "document.querySelector('.cogvx-board-status')?.textContent"
    wait(page, f"{shown} === {json.dumps(words)}", SLOW)


def paste(page, text: str) -> None:
    """Paste into the element that has the keyboard."""
    page.evaluate(
        """(text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData('text/plain', text);
          document.activeElement.dispatchEvent(
            new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true })) }""",
        text,
    )


def test_a_storyboard_is_typed_made_changed_and_made_again(page):
    view(page, "Storyboard")
    prompts = page.locator(".cogvx-board-prompt")
    prompts.first.wait_for()
    assert prompts.first.input_value() == CIRCLE
    page.get_by_label("Frames of piece 1").fill("5")
    prompts.first.press("Enter")
    page.keyboard.type(STAR)
    page.get_by_label("Frames of piece 2").fill("5")
    page.get_by_label("Transition to piece 2").select_option("fade")

    prompts.nth(1).fill("an elephant dancing in the rain")
    wrong = page.locator(".cogvx-board-row").nth(1).locator(".cogvx-board-problem")
    wrong.wait_for()
    assert "“Allow unknown prompts”" in wrong.inner_text()
    typed = page.locator(".cogvx-board-prompt").nth(1)
    assert typed.get_attribute("aria-invalid") == "true"
    assert typed.get_attribute("aria-errormessage") == wrong.get_attribute("id")
    kit.keep(page, "storyboard-wrong")
    assert kit.violations(page) == []
    prompts.nth(1).fill(STAR)
    prompts.nth(1).press("Control+Enter")
    told(page, "2 pieces were made (1, 2).")

    kit.execute(page, "docmanager:save")
    page.reload()
    page.wait_for_selector(".cogvx-page")
    view(page, "Storyboard")
    told(page, "2 pieces were made (1, 2).")
    assert [one.input_value() for one in prompts.all()] == [CIRCLE, STAR]
    prompts.nth(1).fill(STAR.replace("green", "blue"))
    page.get_by_role("button", name="Make storyboard").click()
    told(page, "1 piece was made (2); 1 piece was taken (1).")
    assert page.locator(".cogvx-board-state").all_inner_texts() == ["taken", "made"]
    assert page.evaluate(kit.OUTSIDE) + page.evaluate(kit.CUT) == []
    kit.keep(page, "storyboard")

    prompts.nth(1).press("Alt+ArrowUp")
    assert prompts.first.input_value() == STAR.replace("green", "blue")
    paste(page, f"{CIRCLE}\t9\tcontinue\n{STAR}\t\tfade")
    wait(page, "document.querySelectorAll('.cogvx-board-row').length === 4")
    page.get_by_role("button", name="Piece 4: remove").click()
    assert page.get_by_label("Frames of piece 2").input_value() == "9"
    changed = "document.querySelectorAll('.cogvx-board-changed')[1].textContent"
    wait(page, f"{changed}.startsWith('frames 9 → 8: ')")
    length = page.get_by_label("Frames of piece 2")
    said = length.evaluate(TYPED_FRAMES, "10")
    assert said.startswith("frames 9 → 8: "), "it isn't said anew at each key"
    wait(page, f"{changed}.startsWith('frames 10 → ')")
    described = page.locator(".cogvx-board-changed").nth(1).get_attribute("id")
    assert described in length.get_attribute("aria-describedby").split()
    prompts.nth(1).fill("")
    assert prompts.nth(1).get_attribute("placeholder").endswith("empty: as in the row before")
    assert not prompts.first.get_attribute("placeholder").endswith("before")
    wait(page, f"{changed}.includes('the prompt is that of row 1')")
    prompts.first.focus()
    paste(page, f"{STAR}\n{CIRCLE}")
    wait(page, "document.querySelectorAll('.cogvx-board-row').length === 5")
    assert [one.input_value() == "" for one in prompts.all()] == [False] * 3 + [True, False]
    page.get_by_role("button", name="Show it").click()
    kit.wait_for_result(page, CIRCLE)
    kit.plays(page)
