"""The views Grid and Storyboard where answers come late, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import browser as kit
import pytest
from browser import SLOW, fill, view, wait
from conftest import CIRCLE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STATUS = "document.querySelector('.cogvx-grid-status').textContent"
FACTS = "document.querySelector('.cogvx-grid-facts').textContent"
EARLIER = "document.querySelectorAll('.cogvx-grid-earlier-title').length"
CHIPS = "document.querySelectorAll('.cogvx-grid-chip').length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def shared(folder):
    with kit.workbench(folder) as shown:
        yield shown


@pytest.fixture
def page(shared):
    """The view Grid, at rest; its videos have two steps."""
    shared.held.release()
    kit.at_rest(shared)
    view(shared, "Make")
    fill(shared, CIRCLE, steps=2)
    view(shared, "Grid")
    return shared


def vary(page, seeds: str) -> None:
    page.locator(".cogvx-grid-values").first.fill(seeds)


def plan(page, seeds: str, count: int) -> None:
    """Vary the seed, and wait for the plan: what was sent before has come by then."""
    vary(page, seeds)
    wait(page, f"{STATUS}.startsWith('{count} videos') && {CHIPS} === {count}")


def make(page) -> None:
    page.get_by_role("button", name="Make grid").click()


def wait_for_grid(page, count: int) -> None:
    wait(page, f"{FACTS}.includes(' {count} of {count} made')", SLOW)


def test_a_grid_fills_in_behind_another_tab_of_jupyterlab(page):
    plan(page, "1-2", 2)
    make(page)
    wait(page, f"{FACTS}.includes(' of 2 made')")
    kit.execute(page, "launcher:create")
    try:
        assert not page.locator(".cogvx-page").is_visible()
        wait_for_grid(page, 2)
    finally:
        page.evaluate("window.jupyterapp.shell.currentWidget.close()")
    page.locator(".cogvx-page").wait_for()


def test_a_late_plan_shows_no_older_values_and_makes_no_second_grid(page):
    plan(page, "1-2", 2)
    page.held.hold('"labels"')
    vary(page, "1-4")
    page.held.wait()
    vary(page, "1-3")
    page.held.release(then='"action":"grid.plan"')  # the plan of four comes before three are asked
    page.held.wait()
    assert page.evaluate(CHIPS) == 2
    page.held.release()
    wait(page, f"{CHIPS} === 3")

    made = page.evaluate(EARLIER)
    page.held.hold('"labels"')
    vary(page, "2-4")
    page.held.wait()
    page.held.hold('"action":"grid.make"')
    make(page)
    page.held.release(then='"cells"')  # the plan of before the click, and then the question
    page.held.wait()
    assert "into the queue" in page.evaluate(STATUS)
    page.evaluate("document.querySelector('.cogvx-grid-plan button').click()")
    page.held.release()
    wait_for_grid(page, 3)
    plan(page, "1-2", 2)
    assert page.get_by_role("button", name="Make grid").is_enabled()
    assert page.evaluate(EARLIER) == made + 1


@pytest.fixture
def grids(page):
    """The page with a grid of two videos and a later one of three, which earlier tests leave."""
    for count in (2, 3):
        if page.evaluate(EARLIER) < count - 1:
            plan(page, f"1-{count}", count)
            make(page)
            wait_for_grid(page, count)
            wait(page, f"{EARLIER} === {count - 1}")
    return page


def test_the_grid_that_is_asked_for_last_is_shown(grids):
    page = grids
    page.locator(".cogvx-grid-earlier").evaluate("earlier => { earlier.open = true }")
    three, two = page.locator(".cogvx-grid-earlier-title").all()
    page.held.hold('"cells"')
    three.click()
    page.held.wait()
    page.held.hold("")
    two.click()
    wait_for_grid(page, 2)
    page.held.release()
    plan(page, "5-7", 3)
    assert " 2 of 2 made" in page.evaluate(FACTS)


def test_a_cell_rests_where_its_clip_comes_late(grids):
    page = grids
    cell = "document.querySelector('.cogvx-grid-cell img')"
    wait(page, f"{cell}.naturalWidth > 0")
    poster = page.evaluate(f"{cell}.src")
    page.held.hold("RIFF")  # of the clip
    page.locator(".cogvx-grid-cell").first.hover()
    page.held.wait()
    page.mouse.move(0, 0)
    page.held.release()
    plan(page, "5-8", 4)
    assert page.evaluate(f"{cell}.src") == poster


def test_a_grid_that_cannot_be_cancelled_says_how_far_it_is(page, folder):
    view(page, "Make")
    fill(page, CIRCLE, frames=49, steps=400)
    view(page, "Grid")
    plan(page, "1-2", 2)
    make(page)
    cancel = page.get_by_role("button", name="Cancel grid")
    wait(page, f"{FACTS}.includes(' 0 of 2 made')")
    page.held.hold('"action":"grid.cancel"')
    cancel.click()
    page.held.wait()
    assert page.evaluate(FACTS) == "cancelling…"
    newest = max(
        (folder / "outputs" / "grids").glob("*.json"), key=lambda path: path.stat().st_mtime
    )
    newest.unlink()
    page.held.release()
    kit.notice(page, "there is no grid")
    wait(page, f"{FACTS}.includes(' 0 of 2 made')")
    assert cancel.is_enabled()


def wait_for_board(page, folder: Path, words: str) -> None:
    """Until the kernel has kept a table with these words."""
    path = folder / "outputs" / ".storyboard.json"
    for _ in range(600):
        if path.exists() and words in path.read_text():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{words} is not in the table")


def test_a_storyboard_is_that_of_the_tab_in_which_it_was_typed_last(page, folder):
    view(page, "Storyboard")
    page.locator(".cogvx-board-prompt").first.wait_for()
    kit.execute(page, "notebook:create-output-view")
    wait(page, "document.querySelectorAll('.cogvx-page').length === 2")
    first, second = page.locator(".cogvx-page").all()
    second.get_by_role("tab", name="Storyboard").click()
    prompts = [one.locator(".cogvx-board-prompt") for one in (first, second)]
    prompts[1].first.fill("a green star")
    prompts[1].first.press("Enter")
    page.keyboard.type("a blue star")
    second.locator(".cogvx-board-seed").fill("77")
    wait_for_board(page, folder, '"seed": 77')
    prompts[0].first.focus()
    wait(page, "document.querySelector('.cogvx-board-seed').value === '77'")
    assert [one.input_value() for one in prompts[0].all()] == ["a green star", "a blue star"]
    page.keyboard.press("End")
    page.keyboard.type(" growing")
    wait_for_board(page, folder, "a green star growing")
    prompts[1].nth(1).focus()
    typed = "document.querySelectorAll('.cogvx-page')[1].querySelector('.cogvx-board-prompt').value"
    wait(page, f"{typed} === 'a green star growing'")
    assert prompts[1].nth(1).input_value() == "a blue star"
