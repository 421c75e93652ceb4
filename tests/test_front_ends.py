"""The workbench in other front ends than JupyterLab's: Voilà, Notebook 7, a saved notebook."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import browser as kit
import nbformat
import psutil
import pytest
from browser import SLOW, fill, plays, wait
from conftest import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SENTENCE = "The workbench was here. Run this cell to open it again"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("front-ends")


@pytest.fixture(scope="module")
def chromium():
    with kit.chromium() as started:
        yield started


@pytest.fixture
def page(chromium, tmp_path, request):
    shown = kit.new_page(chromium)
    yield shown
    if request.node.failed:
        shown.screenshot(path=tmp_path / "failed.png")
        print(f"the page as it failed: {tmp_path / 'failed.png'}")
    shown.close()


def make_one(page, prompt: str) -> None:
    """Type, Ctrl+Enter, and see it play."""
    wait(page, "document.activeElement?.name === 'prompt'", SLOW)
    fill(page, prompt)
    page.keyboard.press("Control+Enter")
    kit.wait_for_result(page, prompt)
    plays(page)


def command(folder: Path, *arguments: str):
    """A started command, and the address that it prints."""
    started = subprocess.Popen(
        [sys.executable, "-m", "cogvx_nb", *arguments],
        env=kit.environment(folder, JUPYTER_RUNTIME_DIR=folder / "run"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("a"),
        text=True,
    )
    return started, started.stdout.readline().strip()


def test_cogvx_app_shows_the_page_alone_and_ends_with_its_kernels(page, folder):
    server, address = command(folder, "app", "--no-browser")
    with kit.ended(server):
        page.goto(address.partition("?")[0])
        assert "login" in page.url, "nobody comes in without the token"
        page.goto(address)
        page.wait_for_selector(".cogvx-page", timeout=SLOW)
        box = page.locator(".cogvx-page").bounding_box()
        assert box == {"x": 0, "y": 0, "width": 1400, "height": 1000}
        make_one(page, "a green star growing")
        kit.keep(page, "voila")
        kernels = psutil.Process(server.pid).children(recursive=True)
        assert any("ipykernel" in " ".join(process.cmdline()) for process in kernels)
        server.send_signal(signal.SIGINT)
        assert server.wait(90) == 0
        assert psutil.wait_procs(kernels, timeout=60)[1] == []


def test_cogvx_lab_opens_the_notebook_and_ends_with_its_kernels(page, folder):
    passed_on = ["--allow-root", "--LabApp.expose_app_in_browser=True"]
    server, address = command(folder, "lab", "--no-browser", "--", *passed_on)
    with kit.ended(server):
        assert "/lab/tree/notebooks/03_generate.ipynb?token=" in address
        page.goto(address)
        page.wait_for_selector(".jp-MarkdownCell h1:visible", timeout=SLOW)
        wait(page, kit.IDLE, SLOW)
        kernels = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGINT)
        assert server.wait(90) == 0
        assert kernels
        assert psutil.wait_procs(kernels, timeout=60)[1] == []


def has_connected(page, url: str) -> bool:
    """Whether the page has reached its kernel; what is run before that is dropped."""
    kernels = page.request.get(f"{url}api/kernels?token=T").json()
    return any(one["connections"] and one["execution_state"] == "idle" for one in kernels)


def test_notebook_7_shows_the_same_page(page, folder):
    with kit.jupyter(folder, "notebook") as url:
        page.goto(f"{url}notebooks/03_generate.ipynb?token=T")
        page.wait_for_selector(".jp-MarkdownCell h1:visible", timeout=SLOW)
        wait_for(lambda: has_connected(page, url))
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_selector(".cogvx-page", timeout=SLOW)
        make_one(page, "a red square shrinking")
        kit.keep(page, "notebook7")


@pytest.fixture(scope="module")
def saved(folder, chromium) -> nbformat.NotebookNode:
    """Notebook 03 as JupyterLab saves it with a workbench that has made a video."""
    with kit.jupyter(folder) as url:
        page = kit.new_page(chromium)
        kit.open_notebook(page, url)
        kit.run_all(page)
        make_one(page, "a blue circle moving left")
        page.wait_for_selector(".cogvx-saved img[title*='blue circle']", state="attached")
        assert not page.locator(".cogvx-saved").is_visible(), "the page itself is there"
        kit.execute(page, "docmanager:save")
        page.close()
        notebook = nbformat.read(folder / "notebooks" / "03_generate.ipynb", as_version=4)
    assert notebook.cells[3].outputs
    return notebook


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "untrusted"])
def test_a_saved_notebook_without_its_kernel(page, saved, folder, trusted):
    notebook = copy.deepcopy(saved)
    if not trusted:  # a notebook of someone else's: its outputs have no signature of this user's
        notebook.cells[3].outputs[-1]["data"]["text/plain"] = "changed"
    with kit.jupyter(folder) as url:
        nbformat.write(notebook, folder / "notebooks" / f"saved-{trusted}.ipynb")
        kit.open_notebook(page, url, f"saved-{trusted}.ipynb")
        page.get_by_text(SENTENCE).wait_for(timeout=SLOW)
        page.get_by_text(SENTENCE).scroll_into_view_if_needed()
        kit.keep(page, f"saved-{trusted}")
        widget = page.get_by_text(re.compile("(Loading|Error displaying) widget|object at"))
        assert not any(shown.is_visible() for shown in widget.all())
        wait(page, "document.querySelector('.jp-OutputArea img[title*=\"blue circle\"]')")


def test_a_saved_notebook_as_html(page, saved, tmp_path):
    nbformat.write(saved, tmp_path / "03_generate.ipynb")
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", tmp_path / "03_generate.ipynb"],
        check=True,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
    )
    page.goto((tmp_path / "03_generate.html").as_uri(), wait_until="domcontentloaded")
    page.get_by_text(SENTENCE).scroll_into_view_if_needed()
    assert page.locator("img[title*='blue circle']").is_visible()
    assert not page.get_by_text(re.compile("Error|object at")).count()
    kit.keep(page, "export")
