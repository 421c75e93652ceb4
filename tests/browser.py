"""What browser tests share: servers, a Chromium, and the workbench's page in it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt-get install chromium", allow_module_level=True)

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

IDLE = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
"""The kernel's word; the page's own indicator says idle before it is connected."""

RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }"
"""Returns nothing: a promise of the run would be lost when the page moves on."""

STEP = (
    "Number(document.querySelector('.cogvx-stage-text')?.textContent.match(/ (\\d+)\\/\\d+/)?.[1]"
    " ?? 0)"
)
"""Steps that the running video has done."""

REST = "document.querySelector('.cogvx-cancel')?.disabled === true"
"""Whether no video is being made."""

SLOW = 120_000
"""Milliseconds within which a video is made on a busy machine."""


@contextlib.contextmanager
def chromium(**options) -> Iterator:
    """A headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, **options)
        yield started
        started.close()


@contextlib.contextmanager
def jupyter(folder: Path, module: str = "jupyterlab") -> Iterator[str]:
    """The address of a Jupyter server on a copy of the notebooks in ``folder``; its token is T."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", dirs_exist_ok=True)
    news = folder / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True, exist_ok=True)
    (news / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--IdentityProvider.token=T"]
    command += ["--LabApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}"]
    places = {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "JUPYTER_RUNTIME_DIR": folder / "run"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment(folder, **places), stdout=log, stderr=log
        )
    with ended(server):
        yield _address_of(folder / "run", server)


def environment(folder: Path, **places: object) -> dict[str, str]:
    """The environment of a server: results go to ``folder/outputs``."""
    changed = {"COGVX_OUTPUTS_DIR": folder / "outputs", "NO_PROXY": "127.0.0.1", **places}
    variables = os.environ | {name: str(value) for name, value in changed.items()}
    variables["PYTHONPATH"] = str(ROOT)
    variables.pop("COGVX_UI", None)
    return variables


@contextlib.contextmanager
def ended(server: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """End a server afterwards."""
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _address_of(runtime: Path, server: subprocess.Popen) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        for found in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):  # written, or named before it listens
                url = json.loads(found.read_text())["url"]
                urllib.request.urlopen(f"{url}api?token=T", timeout=5).close()
                return url
        time.sleep(0.2)
    raise AssertionError("the server did not start")


# --- the page -------------------------------------------------------------------------------------


def new_page(chromium):
    """A page of a Chromium that waits as long as a busy machine may need."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SLOW)
    return page


def open_notebook(page, url: str, name: str = "03_generate.ipynb", workspace: str = "w") -> None:
    """A notebook in JupyterLab, with its kernel."""
    page.goto(f"{url}lab/workspaces/{workspace}/tree/{name}?reset&token=T")
    page.wait_for_function(IDLE, timeout=SLOW)


def end_kernels(url: str) -> None:
    """End the kernels of a server; it answers once they have ended."""

    def ask(path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"{url}api/{path}?token=T", method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    for session in json.loads(ask("sessions")):
        ask(f"sessions/{session['id']}", "DELETE")


def run_all(page) -> None:
    """Run the cells, up to the workbench."""
    page.wait_for_function(IDLE, timeout=SLOW)
    page.evaluate("document.querySelectorAll('.cogvx-page').forEach((e) => (e.dataset.old = 1))")
    page.evaluate(RUN_ALL)
    page.wait_for_selector(".cogvx-page:not([data-old])", timeout=SLOW)
    wait(page, "!document.querySelector('.cogvx-page[data-old]')")


def execute(page, command: str) -> None:
    """A command of JupyterLab, waited for."""
    page.evaluate(f"window.jupyterapp.commands.execute('{command}').then(() => 0)")


def wait(page, condition: str, timeout: float = 60_000) -> None:
    """Until a JavaScript expression is true."""
    page.wait_for_function(condition, timeout=timeout)


def at_rest(page) -> None:
    """Empty the queue, and end what runs: kernel and queue are shared by the tests."""
    for _ in range(20):
        if not page.locator(".cogvx-card-waiting, .cogvx-card-running").count():
            break
        for card in page.locator(".cogvx-card-waiting [title^='take it out']").all():
            with contextlib.suppress(sync_api.Error):  # it began meanwhile
                card.click(timeout=1000)
        if page.locator(".cogvx-cancel").is_enabled():
            with contextlib.suppress(sync_api.Error):  # it ended meanwhile
                page.locator(".cogvx-cancel").click(timeout=1000)
        with contextlib.suppress(sync_api.TimeoutError):  # a card that was not clicked stays
            left = "document.querySelector('li:is(.cogvx-card-waiting, .cogvx-card-running)')"
            wait(page, f"!{left}", timeout=5000)
    wait(page, REST)


def view(page, name: str) -> None:
    """One of Make, Grid, Gallery and Compare."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.get_attribute("aria-selected") != "true":
        tab.click()
    page.wait_for_selector(f".cogvx-panel-{name.lower()}", state="visible")


def fill(page, prompt: str, *, frames: int = 13, steps: int = 4, seed: int = 1) -> None:
    """Type a request."""
    page.locator("[name=prompt]").fill(prompt)
    page.locator(f".cogvx-lengths input[value='{frames} exact']").check()
    more_settings(page)
    page.locator("[name=steps]").fill(str(steps))
    page.get_by_role("checkbox", name="Random").uncheck()
    page.locator("[name=seed]").fill(str(seed))
    page.locator("[name=prompt]").focus()


def more_settings(page) -> None:
    """Unfold the rest of the form."""
    if page.locator(".cogvx-details").get_attribute("open") is None:
        page.locator(".cogvx-details summary").click()


def generate(page) -> None:
    page.locator(".cogvx-generate").click()


def wait_for_step(page, step: int = 1) -> None:
    """Until the running video has done so many steps."""
    wait(page, f"{STEP} >= {step}", SLOW)


def wait_for_result(page, prompt: str) -> None:
    """Until the stage shows a video of this prompt, and nothing runs."""
    shown = "document.querySelector('.cogvx-title').textContent"
    wait(page, f"{shown} === {json.dumps(prompt)} && {REST}", SLOW)
    playing = json.dumps(f"Video: {prompt}")  # until then the element holds the one before
    shown = f"document.querySelector('.cogvx-video:not([hidden])')?.ariaLabel === {playing}"
    wait(page, shown, SLOW)


def plays(page, video: str = ".cogvx-video") -> None:
    """Until a video has moved on."""
    wait(page, f"document.querySelector('{video}')?.currentTime > 0.1")


def notice(page, words: str) -> None:
    """Until the page says something, and dismiss it."""
    box = page.locator(".cogvx-notice", has_text=words).last
    box.wait_for(timeout=60_000)
    box.get_by_role("button", name="Dismiss").click()


def keep(page, name: str) -> None:
    """A picture of the page, where they are asked for."""
    if folder := os.environ.get("COGVX_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def kept_form(page, folder: Path, check: Callable[[dict], bool]) -> dict:
    """The kernel's form, as the server of ``folder`` keeps it on disk, once it passes a check."""
    path, form = folder / "outputs" / ".workbench.json", {}
    for _ in range(1200):
        form = json.loads(path.read_text())["form"] if path.exists() else {}
        if form and check(form):
            return form
        page.wait_for_timeout(100)
    raise AssertionError(form)


class Held:
    """Messages between a page and its kernel that are held back until they are released."""

    def __init__(self, page) -> None:
        self._words, self._kept, self._page = b"", [], page
        page.route_web_socket(re.compile("/channels"), self._connect)

    def _connect(self, socket) -> None:
        server = socket.connect_to_server()
        socket.on_message(functools.partial(self._hear, server.send))
        server.on_message(functools.partial(self._hear, socket.send))

    def _hear(self, send: Callable[[str | bytes], None], message: str | bytes) -> None:
        content = message.encode() if isinstance(message, str) else message
        if self._words and self._words in content:
            self._kept.append((send, message))
        else:
            send(message)

    def hold(self, words: str) -> None:
        """Hold back what has these words."""
        self._words = words.encode()

    @property
    def count(self) -> int:
        """How many are held back."""
        return len(self._kept)

    def wait(self, count: int = 1) -> None:
        """Until so many are held back."""
        for _ in range(600):
            if self.count >= count:
                return
            self._page.wait_for_timeout(100)
        raise AssertionError(f"{self.count} with {self._words} came")

    def lose(self) -> None:
        """Let what was held back never come, and everything else pass."""
        self._words, self._kept = b"", []

    def release(self, then: str = "", newest_first: bool = False) -> None:
        """Let everything pass, but from now on what has the words ``then``."""
        self._words, kept, self._kept = then.encode(), self._kept, []
        for send, message in reversed(kept) if newest_first else kept:
            send(message)


@contextlib.contextmanager
def workbench(folder: Path) -> Iterator:
    """Notebook 03's page in a JupyterLab of its own; its messages can be ``held``."""
    with jupyter(folder) as url, chromium() as started:
        page = new_page(started)
        page.held = Held(page)
        open_notebook(page, url)
        run_all(page)
        yield page


# --- what a page must be --------------------------------------------------------------------------


@functools.cache
def _axe() -> str:
    place = importlib.util.find_spec("axe_playwright_python")
    assert place, "pip install axe-playwright-python, which brings axe-core"
    return (Path(place.origin).parent / "axe.min.js").read_text("utf-8")


AXE_RUN = """async () => {
  const found = await axe.run('.cogvx-page', { resultTypes: ['violations'] });
  return found.violations.flatMap(({ id, help, nodes }) => nodes.map(
    ({ html, failureSummary }) => `${id}: ${help}: ${html.slice(0, 200)} ${failureSummary}`)) }"""


def violations(page) -> list[str]:
    """What axe-core finds wrong in the page."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_axe())
    return page.evaluate(AXE_RUN)


OUTSIDE = """() => {
  const root = document.querySelector('.cogvx-page'), edge = root.getBoundingClientRect();
  const clipped = (e) => {
    for (e = e.parentElement; e && e !== root; e = e.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) return true;
    return false };
  const outside = (e) => {
    const box = e.getBoundingClientRect();
    return box.right > edge.right + 1 || box.left < edge.left - 1 };
  return [...root.querySelectorAll('*')]
    .filter((e) => e.checkVisibility() && e.clientWidth && !clipped(e) && outside(e))
    .map((e) => e.outerHTML.slice(0, 160)) }"""
"""Elements that stand out of the page at its sides."""

CUT = """() => [...document.querySelectorAll('.cogvx-page :is(button, label, legend, th)')]
  .filter((e) => e.checkVisibility() && e.textContent.trim() && !e.closest('.cogvx-popup, li'))
  .filter((e) => getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth + 1)
  .map((e) => `${e.className}: ${e.textContent.slice(0, 60)} ${e.scrollWidth} > ${e.clientWidth}`)
"""
"""Labels that don't fit their boxes; cards and menus show the beginning of a prompt on purpose."""
