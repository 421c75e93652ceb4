"""Notebook 03 as a researcher has it: a real JupyterLab in a real Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, without_tag

from cogvx_nb.results import video

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt-get install chromium", allow_module_level=True)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
"""The kernel's word; the page's own indicator says idle before it is connected."""

STEP = "Number(document.querySelector('.cogvx-stage')?.innerText.match(/step (\\d+)/)?.[1] ?? 0)"
RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
"""Returns nothing: a promise of the run would be lost when the page moves on."""

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The JupyterLab's folder, with its notebooks and ``outputs``."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def two_videos(samples, folder) -> str:
    """Two results that differ in colour and direction; words to search them by."""
    for name, sample in zip(("red right", "blue left"), samples, strict=False):
        colour, direction = name.split()
        sidecar = sample.sidecar_json()
        sidecar["request"]["prompt"] = f"a {colour} circle moving {direction} in step"
        path = folder / "outputs" / "2026-01-01" / f"{colour}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(without_tag(sample.path.read_bytes()))
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return "circle in step"


@pytest.fixture(scope="module")
def lab(folder):
    """The address of a JupyterLab on a copy of the notebooks."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    news = folder / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--IdentityProvider.token=T"]
    command += ["--LabApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}"]
    places = {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "JUPYTER_RUNTIME_DIR": folder / "run"}
    places |= {"COGVX_OUTPUTS_DIR": folder / "outputs", "NO_PROXY": "127.0.0.1"}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    environment.pop("COGVX_UI", None)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield address_of(folder / "run", server)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def address_of(runtime: Path, server: subprocess.Popen) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        for found in runtime.glob("jpserver-*.json"):
            url = json.loads(found.read_text())["url"]
            with contextlib.suppress(OSError):  # named before it listens
                urllib.request.urlopen(f"{url}api?token=T", timeout=5).close()
                return url
        time.sleep(0.2)
    raise AssertionError("JupyterLab did not start")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, lab, tmp_path, request):
    """Notebook 03 with its workbench shown; a picture of it where the test fails."""
    shown = browser.new_page(viewport={"width": 1400, "height": 1700})
    dialogs = []
    shown.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    open_notebook(shown, lab)
    yield shown
    if request.node.failed:
        shown.screenshot(path=tmp_path / "failed.png")
        print(f"the page as it failed: {tmp_path / 'failed.png'}")
    shown.close()
    assert dialogs == []


def open_notebook(page, lab: str) -> None:
    page.goto(f"{lab}lab/workspaces/w/tree/03_generate.ipynb?reset&token=T")
    run_all(page)
    empty_queue(page)


def run_all(page) -> None:
    page.wait_for_function(IDLE, timeout=120_000)
    page.evaluate(RUN_ALL)
    page.wait_for_selector(".cogvx-panel", timeout=60_000)


def empty_queue(page) -> None:
    """A panel at rest: the kernel, and with it the queue, is shared by the tests."""
    for name in ("empty-queue", "cancel"):
        if page.locator(f"button.cogvx-{name}").is_enabled():
            page.locator(f"button.cogvx-{name}").click()
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=60_000)


def fill(page, prompt: str, frames: int = 0, steps: int = 50) -> None:
    page.locator(".cogvx-prompt textarea").fill(prompt)
    page.locator(".cogvx-mode input").nth(frames).check()
    if not page.locator(".cogvx-steps input").is_visible():
        page.locator("button.cogvx-advanced").click()
    page.locator(".cogvx-steps input").fill(str(steps))
    page.locator(".cogvx-steps input").press("Tab")


def generate(page) -> None:
    page.locator("button.cogvx-generate").click()


def wait_for_result(page, prompt: str) -> None:
    page.wait_for_selector(f".cogvx-result:has-text({json.dumps(prompt)})", timeout=120_000)
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=120_000)


def make_two(page) -> None:
    """Two results of two prompts, in few steps."""
    for prompt in ("a red circle moving right", "a blue circle moving left"):
        fill(page, prompt, steps=4)
        generate(page)
        wait_for_result(page, prompt)


def compare(page, search: str = "") -> None:
    """Open the page Compare on the first two results that a search finds."""
    tab(page, "Gallery")
    page.wait_for_selector(".cogvx-card")
    if search:
        page.locator(".cogvx-search input").fill(search)
        page.wait_for_function("document.querySelectorAll('.cogvx-card').length == 2")
    for number in range(2):
        page.locator(".cogvx-card").nth(number).get_by_label("compare").check()
    page.locator("button.cogvx-compare").click()


def tab(page, title: str) -> None:
    page.locator(".cogvx-tabs").get_by_text(title, exact=True).click()


def plays(page, inside: str) -> None:
    """Wait until a video there has moved on."""
    page.wait_for_function(f"document.querySelector('{inside} video')?.currentTime > 0.1")


MEAN_COLOUR = """async () => {
  const video = document.querySelector('.cogvx-result video');
  video.pause();
  await new Promise(seeked => { video.onseeked = seeked; video.currentTime = 0 });
  const canvas = document.createElement('canvas').getContext('2d');
  [canvas.canvas.width, canvas.canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.drawImage(video, 0, 0);
  const data = canvas.getImageData(0, 0, video.videoWidth, video.videoHeight).data;
  return [0, 1, 2].map(c => [...data].filter((_, i) => i % 4 == c).reduce((a, b) => a + b)
                            / (data.length / 4)) }"""
"""Of the result's first frame as the browser draws it, after stopping there: red, green, blue."""


def path_in(page) -> str:
    """The file that the result names."""
    return re.search(r"^/.*\.mp4$", page.inner_text(".cogvx-result"), re.MULTILINE)[0]


def keep(page, name: str) -> None:
    """A picture of the page, where they are asked for."""
    if folder := os.environ.get("COGVX_SCREENSHOTS"):
        page.locator(".cogvx-workbench").screenshot(path=Path(folder) / f"{name}.png")


def test_from_a_prompt_to_a_playing_video(page):
    assert page.locator(".cogvx-tokens").inner_text() == "9 of 63 tokens"
    assert "quick · 13 frames" in page.inner_text(".cogvx-mode")
    assert len(re.findall(r"about \d+ s, [\d.]+ GiB", page.inner_text(".cogvx-predictions"))) == 3
    keep(page, "1-idle")
    fill(page, "a green star growing on a navy background", frames=2)
    page.wait_for_function(
        "document.querySelector('.cogvx-tokens').innerText.startsWith('8 of 63')", timeout=10_000
    )
    generate(page)
    page.wait_for_function(f"{STEP} > 3", timeout=120_000)
    first = page.locator("img.cogvx-preview").get_attribute("src")
    page.wait_for_function(f"{STEP} > 30", timeout=120_000)
    keep(page, "2-half-time")
    assert page.locator("img.cogvx-preview").get_attribute("src") != first
    wait_for_result(page, "a green star growing on a navy background")
    page.wait_for_function("document.querySelector('.cogvx-result video')?.duration > 6")
    plays(page, ".cogvx-result")
    keep(page, "3-done")
    shown, made = page.evaluate(MEAN_COLOUR), video.decode_video(Path(path_in(page)))[0]
    assert np.abs(np.array(shown) - made.mean(axis=(0, 1))).max() < 3, "the colours are right"
    assert "denoise" in page.locator(".cogvx-result").inner_text()
    assert page.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0, "no pink"


def test_cancel_ends_the_running_one_and_the_rest_goes_on(page):
    fill(page, "a red circle moving right", frames=2)
    for _ in range(3):
        generate(page)
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    waiting = "(document.querySelector('.cogvx-queue').innerText.match(/waiting/g) ?? []).length"
    page.wait_for_function(f"{waiting} == 2", timeout=20_000)
    page.locator("button.cogvx-cancel").click()
    page.wait_for_function(f"{waiting} == 1", timeout=20_000)
    page.locator("button.cogvx-empty-queue").click()
    page.wait_for_function(
        f"{STEP} > 0", timeout=60_000
    )  # between two jobs there is none to cancel
    page.locator("button.cogvx-cancel").click()
    empty = "document.querySelector('.cogvx-queue').innerText.trim() == ''"
    page.wait_for_function(empty, timeout=20_000)
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=20_000)


def test_a_reload_loses_nothing(page):
    fill(page, "a blue square moving left", frames=2)
    generate(page)
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save').then(() => 0)")
    page.reload()
    page.wait_for_function(IDLE, timeout=120_000)
    if not page.locator(".cogvx-panel").count():
        run_all(page)
    wait_for_result(page, "a blue square moving left")
    plays(page, ".cogvx-result")


def test_the_gallery_outlives_the_kernel(page):
    make_two(page)
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    run_all(page)
    assert page.locator(".cogvx-result video").count() == 0, "another kernel"
    tab(page, "Gallery")
    page.wait_for_selector(".cogvx-card img.cogvx-poster")
    first = page.locator(".cogvx-card").first
    assert "a blue circle moving left" in first.inner_text()
    before = page.locator(".cogvx-count").inner_text()
    keep(page, "4-gallery")

    page.locator(".cogvx-search input").fill("red right")
    page.wait_for_function("!document.querySelector('.cogvx-cards').innerText.includes('blue')")
    page.locator(".cogvx-search input").fill("")
    page.wait_for_function("document.querySelector('.cogvx-cards').innerText.includes('blue')")
    first.locator("button.cogvx-play-it").click()
    plays(page, ".cogvx-details")

    first.locator("button.cogvx-move-it-to-the-trash").click()
    page.wait_for_function(f"document.querySelector('.cogvx-count').innerText != '{before}'")
    page.locator("button.cogvx-undo").click()
    page.wait_for_function(f"document.querySelector('.cogvx-count').innerText == '{before}'")

    first.locator("button.cogvx-make-it-again").click()
    tab(page, "Make")
    page.wait_for_selector(".cogvx-result:has-text('identical: all 13 frames')", timeout=120_000)
    tab(page, "Gallery")
    page.locator(".cogvx-card").first.locator("button.cogvx-load-its-settings").click()
    page.wait_for_selector(".cogvx-prompt textarea", state="visible")
    assert page.locator(".cogvx-prompt textarea").input_value() == "a blue circle moving left"
    assert page.locator(".cogvx-steps input").input_value() == "4"


def kill_kernel(page) -> None:
    """End the notebook's kernel as the system does where memory runs out."""
    kernel = page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
    for process in psutil.process_iter(["cmdline"]):
        if any(kernel in part for part in process.info["cmdline"] or ()):
            process.kill()
    page.locator(".jp-Dialog button.jp-mod-accept").click(timeout=60_000)


def test_a_queue_of_five_outlives_a_killed_kernel(page):
    fill(page, "a red circle moving right", steps=2)
    generate(page)
    page.wait_for_selector(".cogvx-queue:has-text('red')")  # what is typed within 0.5 s counts
    fill(page, "a blue square moving left", frames=2, steps=500)
    for _ in range(4):
        generate(page)
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    kill_kernel(page)
    run_all(page)
    page.wait_for_selector(".cogvx-unfinished:has-text('4 jobs left unfinished')", timeout=180_000)
    left = page.inner_text(".cogvx-unfinished")
    assert left.count("waiting: a blue square moving left · 49 frames") == 3
    assert left.count("was running: a blue square moving left · 49 frames") == 1
    assert page.inner_text(".cogvx-queue").strip() == "", "nothing starts unasked"
    keep(page, "8-unfinished")
    page.locator("button.cogvx-run-these").click()
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    queue = page.inner_text(".cogvx-queue")
    assert (queue.count("running"), queue.count("waiting")) == (1, 3)
    assert page.inner_text(".cogvx-unfinished").strip() == ""
    keep(page, "9-resumed")
    empty_queue(page)


def test_two_are_compared_in_step(page, two_videos):
    compare(page, two_videos)
    plays(page, ".cogvx-compare")
    keep(page, "5-compare")
    page.wait_for_selector(".cogvx-differences mark")
    marked = page.locator(".cogvx-differences mark").all_inner_texts()
    assert {"red", "blue", "right", "left"} <= set(marked)


def test_a_grid_fills_in(page):
    fill(page, "a red circle moving right on a black background", steps=10)
    tab(page, "Grid")
    page.locator(".cogvx-across select").select_option("prompt words")
    page.locator(".cogvx-values-across input").fill("red, green")
    page.locator(".cogvx-down select").select_option("seed")
    page.locator(".cogvx-values-down input").fill("1-2")
    page.locator("button.cogvx-make-grid").click()
    page.wait_for_function(
        "document.querySelector('.cogvx-cell img') &&"
        " document.querySelector('.cogvx-sheet').innerText.includes('waiting')",
        timeout=120_000,
    )
    page.wait_for_function(
        "document.querySelectorAll('.cogvx-cell img').length == 4", timeout=120_000
    )
    plays(page, ".cogvx-saved")
    assert ".png" in page.locator(".cogvx-saved").inner_text()
    keep(page, "6-grid")


def test_a_second_tab_shows_the_same(page, browser, lab):
    fill(page, "a green circle moving up", frames=2)
    generate(page)
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    other = browser.new_page(viewport={"width": 1400, "height": 1700})
    other.goto(f"{lab}lab/workspaces/v/tree/03_generate.ipynb?token=T")
    run_all(other)
    other.wait_for_function(f"{STEP} > 2", timeout=120_000)
    assert "a green circle moving up" in other.locator(".cogvx-queue").inner_text()
    other.wait_for_function(f"{STEP} > 25", timeout=120_000)
    keep(other, "7-second-tab")
    empty_queue(other)
    other.close()


def test_hostile_text_is_text_everywhere(page, two_videos):
    hostile = '<script>alert(1)</script> "><img src=x onerror=alert(2)> \u202eno'
    fill(page, "a red circle moving right on a black background, " * 3 + hostile, steps=3)
    generate(page)
    wait_for_result(page, "<script>alert(1)")
    compare(page)
    page.wait_for_selector(".cogvx-differences:has-text('<script>alert(1)')")
    tab(page, "Grid")
    page.locator(".cogvx-across select").select_option("prompt words")
    page.locator(".cogvx-values-across input").fill("red, <img src=x onerror=alert(3)>")
    page.locator(".cogvx-down select").select_option("none")
    page.locator("button.cogvx-make-grid").click()
    page.wait_for_function("document.querySelectorAll('.cogvx-cell img').length == 2")
    assert not page.locator(".cogvx-workbench script").count()
    assert not page.locator(".cogvx-workbench img[src=x]").count()


CONTRAST = r"""() => {
  const light = c => { const v = c.map(x => x / 255)
      .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
  const parts = text => text.match(/[\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.5) return c }
    return [255, 255, 255] };
  const bad = [];
  for (const e of document.querySelectorAll('.cogvx-workbench *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!(own || e.matches('input, textarea, select')) || !e.checkVisibility()) continue;
    if (e.disabled || e.closest(':disabled')) continue;
    const a = light(parts(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${ratio.toFixed(1)} ${e.textContent}`);
  }
  return bad }"""
"""Texts with less contrast to their ground than WCAG 2 asks for."""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_fits_and_can_be_read(page, two_videos, theme):
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})"
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")
    fill(page, "a red circle moving right", steps=4)
    generate(page)
    wait_for_result(page, "a red circle moving right")
    compare(page, two_videos)
    plays(page, ".cogvx-compare")
    for width in (1400, 700):
        page.set_viewport_size({"width": width, "height": 1700})
        page.wait_for_timeout(1000)
        for title in ("Make", "Grid", "Gallery", "Compare"):
            tab(page, title)
            page.wait_for_timeout(300)
            keep(page, f"{title.lower()}-{width}-{theme.split()[1].lower()}")
            assert page.evaluate(CONTRAST) == [], (title, width)
            wide = page.locator(".cogvx-workbench")
            assert wide.evaluate("e => e.scrollWidth <= e.clientWidth + 2"), (title, width)
            assert wide.bounding_box()["width"] <= width


NAME = """() => { const e = document.activeElement;
  return (e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.title
          || (e.tagName == 'VIDEO' ? 'video' : '')).trim() }"""
"""Of the control with the focus; the browser names a video's controls itself."""


def test_by_keyboard(page):
    page.locator(".cogvx-tabs button").first.focus()
    reach(page, "Prompt")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a yellow star moving up")
    assert {"New seed", "Keep seed", "Seed"} <= set(reach(page, "Advanced"))
    page.keyboard.press("Enter")
    page.wait_for_selector(".cogvx-steps input", state="visible")
    reach(page, "Steps")
    page.keyboard.type("200")
    reach(page, "Generate")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    assert "yellow star" in page.inner_text(".cogvx-queue")
    reach(page, "Cancel")
    page.keyboard.press("Enter")
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=20_000)
    page.locator(".cogvx-tabs button").first.focus()
    reach(page, "Gallery")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cogvx-gallery")
    assert {"Search", "Model", "Frames"} <= set(reach(page, "Seed"))


def reach(page, name: str) -> list[str]:
    """Go on with the Tab key until there; the names of all on the way, each of which has one."""
    reached = []
    while name not in reached:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAME))
        assert reached[-1], page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert len(reached) < 30, reached
    return reached
