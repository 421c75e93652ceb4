"""The workbench's page, measured in a browser: how soon one can type, how soon it answers.

``python benchmarks/page.py --results 10000`` starts ``cogvx lab`` and Chromium (the test extra has
what it needs) and prints a table; ``--json FILE`` also writes it. Measured with the embedded
checkpoint and a warm kernel: "Run All" until the prompt has the keyboard, in view; a keystroke
until the tokens that it makes are counted; a click on Generate until the next frame that shows it;
messages of the kernel while a video is denoised, and the share of that time in which it sends them;
the longest frame while the gallery is opened and scrolled to its end, and JavaScript's heap before
and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from catalogue import make_results
from playwright.sync_api import Page, sync_playwright

from cogvx_nb.results.catalogue import Catalogue

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"

RUN_ALL = """() => new Promise((done) => {
  for (const old of document.querySelectorAll('.cogvx-page')) old.dataset.old = 1;
  document.activeElement?.blur();
  const start = performance.now();
  const look = () => {
    const page = document.querySelector('.cogvx-page:not([data-old])');
    const box = page?.getBoundingClientRect();
    const seen = box && box.top >= 0 && box.bottom <= innerHeight;
    if (seen && document.activeElement?.name === 'prompt') done(performance.now() - start);
    else requestAnimationFrame(look) };
  window.jupyterapp.commands.execute('notebook:run-all-cells');
  look() })"""

ON_KEY = """() => { window.measured = new Promise((done) => {
  const field = document.querySelector('[name=prompt]');
  const count = document.querySelector('.cogvx-tokens'), before = count.textContent;
  field.addEventListener('keydown', (event) => {
    const look = () => (count.textContent !== before
      ? done(performance.now() - event.timeStamp) : requestAnimationFrame(look));
    look() }, { once: true }) }) }"""

ON_CLICK = """() => { window.measured = new Promise((done) => {
  const bar = document.querySelector('.cogvx-bar');
  bar.addEventListener('pointerdown', (event) => {
    const seen = new MutationObserver(() => {
      seen.disconnect();
      requestAnimationFrame(() => done(performance.now() - event.timeStamp)) });
    seen.observe(bar, { subtree: true, childList: true, attributes: true, characterData: true });
  }, { once: true }) }) }"""

SCROLL = """async (steps) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const scroller = document.querySelector('.cogvx-gallery-scroll');
  let last = performance.now(), longest = 0;
  for (let step = 0; step <= steps; step++) {
    scroller.scrollTop = ((scroller.scrollHeight - scroller.clientHeight) * step) / steps;
    const now = await frame();
    longest = Math.max(longest, now - last);
    last = now }
  return longest }"""

FRAMES = """() => { window.longest = 0; let last = performance.now();
  const look = (now) => { window.longest = Math.max(window.longest, now - last); last = now;
    if (!window.watched) requestAnimationFrame(look) };
  requestAnimationFrame(look) }"""

HEAP = "() => { gc(); return performance.memory.usedJSHeapSize / 2 ** 20 }"

SENT = """
import json, os, time
from pathlib import Path
from ipykernel.comm.comm import BaseComm
sent = []
def publish(self, *given, _send=BaseComm.publish_msg, **more):
    start = time.perf_counter()
    try:
        return _send(self, *given, **more)
    finally:
        sent.append(time.perf_counter() - start)
BaseComm.publish_msg = publish
"""
"""Counts a kernel's messages, and the seconds that each takes."""

TAKE = """
Path(os.environ["COGVX_OUTPUTS_DIR"], ".sent.json").write_text(json.dumps(sent)); sent.clear()
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=int, default=10_000, help="of the gallery")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50, help="of the video whose messages count")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        os.environ["COGVX_OUTPUTS_DIR"] = str(folder / "outputs")
        make_results(folder / "outputs", options.results, sweeps=False)
        Catalogue(folder / "outputs").refresh()  # else the first click would wait for the index
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with jupyter_lab(folder) as address:
            page = chromium.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(address)
            page.wait_for_function(IDLE, timeout=120_000)
            figures = measure(page, folder / "outputs", options)
        chromium.close()
    for what, value in figures.items():
        print(f"{what:58}  {value:10,.1f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """The address of ``cogvx lab`` on a copy of the notebooks."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    places = {"COGVX_HOME": folder, "COGVX_MODELS_DIR": ROOT / "models", "PYTHONPATH": ROOT}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    command = [sys.executable, "-m", "cogvx_nb", "lab", "--no-browser", "--", "--allow-root"]
    command += ["--LabApp.expose_app_in_browser=True"]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(30)


def measure(page: Page, outputs: Path, options: argparse.Namespace) -> dict[str, float]:
    page.evaluate(RUN_ALL)  # a cold kernel
    runs = []
    for _ in range(options.repeats):
        page.wait_for_function(IDLE, timeout=120_000)
        runs.append(page.evaluate(RUN_ALL))
    keys = [time_key(page) for _ in range(4 * options.repeats)]
    set_form(page, "a red circle moving right", 13, 1)
    clicks = []
    for seed in range(options.repeats):
        page.locator("[name=seed]").fill(str(seed))
        page.evaluate(ON_CLICK)
        page.locator(".cogvx-generate").click()
        clicks.append(page.evaluate("window.measured"))
        page.wait_for_selector(".cogvx-cancel:enabled", timeout=120_000)
        page.wait_for_selector(".cogvx-cancel:disabled", timeout=120_000)
    return {
        "Run All to the prompt, ms, median": statistics.median(runs),
        "Run All to the prompt, ms, longest": max(runs),
        "keystroke to tokens, ms, median": statistics.median(keys),
        "keystroke to tokens, ms, longest": max(keys),
        "click to the first sign, ms, median": statistics.median(clicks),
        "click to the first sign, ms, longest": max(clicks),
        **count_messages(page, outputs, options.steps),
        **scroll_gallery(page, options.results),
    }


def set_form(page: Page, prompt: str, frames: int, steps: int) -> None:
    page.locator("[name=prompt]").fill(prompt)
    page.locator(f".cogvx-lengths input[value='{frames} exact']").check()
    if page.locator(".cogvx-details").get_attribute("open") is None:
        page.locator(".cogvx-details summary").click()
    page.locator("[name=steps]").fill(str(steps))
    page.get_by_role("checkbox", name="Random").uncheck()


def time_key(page: Page) -> float:
    """Milliseconds from a key that makes a word to its count."""
    page.locator("[name=prompt]").press("End")
    page.keyboard.type(" ")
    page.wait_for_timeout(300)
    page.evaluate(ON_KEY)
    page.keyboard.type("a")
    return page.evaluate("window.measured")


def count_messages(page: Page, outputs: Path, steps: int) -> dict[str, float]:
    """Messages of the kernel from the second step of a video to its last but one."""
    in_kernel(page, SENT)
    set_form(page, "a blue star moving up", 49, steps)
    page.locator(".cogvx-generate").click()
    at_step = "document.querySelector('.cogvx-stage-text').textContent.match(/ (\\d+)\\/\\d+/)?.[1]"
    page.wait_for_function(f"Number({at_step} ?? 0) >= 2", timeout=300_000)
    in_kernel(page, "sent.clear()")
    start = time.perf_counter()
    page.wait_for_function(f"Number({at_step} ?? {steps}) >= {steps} - 1", timeout=600_000)
    in_kernel(page, TAKE)
    seconds = time.perf_counter() - start
    sent = json.loads((outputs / ".sent.json").read_text())
    page.wait_for_selector(".cogvx-cancel:disabled", timeout=300_000)
    return {
        "messages a second while denoising": len(sent) / seconds,
        "their share of the time, %": 100 * sum(sent) / seconds,
    }


def in_kernel(page: Page, code: str) -> None:
    kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    page.evaluate(f"(code) => {kernel}.requestExecute({{ code }}).done.then(() => 0)", code)


def scroll_gallery(page: Page, count: int) -> dict[str, float]:
    before = page.evaluate(HEAP)
    page.evaluate(FRAMES)
    start = time.perf_counter()
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".cogvx-gallery-picture[src^=blob]", timeout=120_000)
    opened = 1000 * (time.perf_counter() - start)
    opening = page.evaluate("() => { window.watched = true; return window.longest }")
    first = page.evaluate(SCROLL, 600)
    page.wait_for_timeout(2000)
    after = page.evaluate(HEAP)
    second = page.evaluate(SCROLL, 600)
    page.wait_for_timeout(2000)
    return {
        f"gallery of {count:,} opened with a picture, ms": opened,
        "longest frame while it opens, ms": opening,
        "longest frame of a scroll to its end, ms": first,
        "longest frame of a second scroll, ms": second,
        "heap before, MiB": before,
        "heap after the first scroll, MiB": after,
        "heap after the second scroll, MiB": page.evaluate(HEAP),
    }


if __name__ == "__main__":
    main()
