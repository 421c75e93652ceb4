"""Notebook 03 as a researcher has it: a real JupyterLab in a real Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt-get install chromium", allow_module_level=True)

IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
"""The kernel's word; the page's own indicator says idle before it is connected."""

STEP = "Number(document.querySelector('.cogvx-stage')?.innerText.match(/step (\\d+)/)?.[1] ?? 0)"
RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
"""Returns nothing: a promise of the run would be lost when the page moves on."""

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
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
        server.wait(30)


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
def page(browser, lab, tmp_path):
    """Notebook 03 with its panel shown."""
    shown = browser.new_page(viewport={"width": 1400, "height": 1700})
    dialogs = []
    shown.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    shown.goto(f"{lab}lab/workspaces/w/tree/03_generate.ipynb?reset&token=T")
    run_all(shown)
    yield shown
    shown.screenshot(path=tmp_path / "end.png")
    assert dialogs == []
    shown.close()


def run_all(page) -> None:
    page.wait_for_function(IDLE, timeout=120_000)
    page.evaluate(RUN_ALL)
    page.wait_for_selector(".cogvx-panel", timeout=60_000)
    empty_queue(page)


def empty_queue(page) -> None:
    """A panel at rest: the kernel, and with it the queue, is shared by the tests."""
    if page.locator("button.cogvx-empty-queue").is_enabled():
        page.locator("button.cogvx-empty-queue").click()
    if page.locator("button.cogvx-cancel").is_enabled():
        page.locator("button.cogvx-cancel").click()
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=60_000)


def fill(page, prompt: str, frames: int = 0) -> None:
    page.locator(".cogvx-prompt textarea").fill(prompt)
    page.locator(".cogvx-mode button").nth(frames).click()


def test_from_a_prompt_to_a_playing_video(page):
    assert page.locator(".cogvx-tokens").inner_text() == "10 of 64 tokens"
    fill(page, "a green star growing on a navy background", frames=2)
    page.wait_for_function(
        "document.querySelector('.cogvx-tokens').innerText.startsWith('9 of 64')", timeout=10_000
    )
    page.locator("button.cogvx-generate").click()
    page.wait_for_function(f"{STEP} > 3", timeout=120_000)
    first = page.locator("img.cogvx-preview").get_attribute("src")
    page.wait_for_function(f"{STEP} > 30", timeout=120_000)
    assert page.locator("img.cogvx-preview").get_attribute("src") != first
    page.wait_for_selector(".cogvx-result video", timeout=120_000)
    page.wait_for_function("document.querySelector('.cogvx-result video').duration > 6")
    page.wait_for_function("document.querySelector('.cogvx-result video').currentTime > 0.1")
    assert "denoise" in page.locator(".cogvx-result").inner_text()


def test_cancel_ends_the_running_one_and_the_rest_goes_on(page):
    fill(page, "a red circle moving right", frames=2)
    for _ in range(3):
        page.locator("button.cogvx-generate").click()
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    assert page.locator(".cogvx-queue").inner_text().count("waiting") == 2
    page.locator("button.cogvx-cancel").click()
    page.wait_for_function(
        "(document.querySelector('.cogvx-queue').innerText.match(/waiting/g) ?? []).length == 1",
        timeout=20_000,
    )
    page.locator("button.cogvx-empty-queue").click()
    page.locator("button.cogvx-cancel").click()
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=20_000)
    assert page.locator(".cogvx-queue").inner_text() == ""


def test_showing_the_panel_again_finds_the_running_job(page):
    fill(page, "a blue square moving left", frames=2)
    page.locator("button.cogvx-generate").click()
    page.wait_for_function(f"{STEP} > 2", timeout=120_000)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    page.wait_for_function(IDLE, timeout=120_000)
    if not page.locator(".cogvx-panel").count():
        page.evaluate(RUN_ALL)
    page.wait_for_selector(".cogvx-panel", timeout=60_000)
    page.wait_for_selector(".cogvx-result:has-text('a blue square moving left')", timeout=120_000)
    page.wait_for_selector(".cogvx-result video", timeout=20_000)


def test_a_hostile_prompt_is_text(page):
    known = "a red circle moving right on a black background, " * 3
    fill(page, f'{known}<script>alert(1)</script> "><img src=x onerror=alert(2)>')
    page.locator("button.cogvx-generate").click()
    page.wait_for_selector(".cogvx-result:has-text('<script>alert(1)')", timeout=120_000)
    page.wait_for_selector("button.cogvx-cancel:disabled", timeout=120_000)
    assert not page.locator(".cogvx-panel script").count()
    assert not page.locator(".cogvx-panel img[src=x]").count()


@pytest.mark.parametrize("width", [1400, 700])
def test_the_panel_fits_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 1200})
    page.wait_for_timeout(500)
    wide = "e => e.scrollWidth > e.clientWidth + 2"
    assert not page.locator(".cogvx-panel").evaluate(wide)
