"""A sweep as a page and as notebook 05: everything in it, and nothing that others wrote runs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from conftest import CIRCLE, ROOT
from test_notebook import execute, nbval, outputs_of, text_of

from cogvx_nb import text
from cogvx_nb.cli.main import main
from cogvx_nb.errors import CogvxError, OutputError, OutputExists, RequestError, ResultError
from cogvx_nb.reports import display, experiment, plots, sweep_page
from cogvx_nb.results import pictures
from cogvx_nb.sweep import dataframe, driver, folder

MARKUP = f"{CIRCLE} <script>alert(1)</script> \"><img src=x onerror=alert(2)> ' onfocus='alert(3)"
LINES = f"{CIRCLE}\n</bdi></td></style></title><svg onload=alert(4)> \u202e\u05d0\u05d1\u05d2 http://x.y"
NOTEBOOK = ROOT / "notebooks" / "05_experiment.ipynb"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """An outputs folder with two sweeps: videos of hostile prompts; a notebook that fails."""
    folder = tmp_path_factory.mktemp("made")
    parameters = nbformat.v4.new_code_cell("x: int = 1\ntext: str = ''")
    parameters.metadata.tags = ["parameters"]
    fails = "if x == 2:\n    raise ValueError(text)"
    cells = [parameters, nbformat.v4.new_code_cell(fails)]
    mine = nbformat.v4.new_notebook(cells=cells)
    mine.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(mine, folder / "mine.ipynb")
    shown = {"name": "shown", "parameters": {"model": "tiny", "frames": 9, "steps": 2}}
    shown |= {"grid": {"prompt": [MARKUP, LINES], "guidance": [6.0, 6.001]}}
    alone = {"name": "alone", "notebook": str(folder / "mine.ipynb")}
    alone |= {"grid": {"x": [1, 2], "text": [MARKUP, LINES]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGVX_OUTPUTS_DIR", str(folder / "outputs"))
        assert driver.run_sweep(shown).failed == {}
        assert len(driver.run_sweep(alone).failed) == 2
    return folder / "outputs"


@pytest.fixture
def outputs(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, for this process and for those it starts."""
    folder = tmp_path / "outputs"
    shutil.copytree(made, folder)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(folder))
    return folder


def varied(*rows: dict) -> experiment.SweepView:
    """An experiment of which only what varies is known."""
    row = {"state": "waiting", "error": "", "video": "", "alike": 0}
    runs = tuple(experiment.RunView(str(n), one, row) for n, one in enumerate(rows))
    names = tuple(dict.fromkeys(name for one in rows for name in one))
    return experiment.SweepView("e", Path(), "n", names, {}, runs)


# --- what is seen -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_as_it_stands(outputs):
    found = experiment.read_sweep("shown")
    assert str(found) == (
        "shown: 4 runs of 03_generate.ipynb: 4 done, 0 failed, 0 waiting; varies: prompt, guidance"
    )
    assert found.shared == {
        "model": "cogvideox-tiny",
        "frames": 9,
        "steps": 2,
        "output": "video.mp4",
    }
    assert [run.group > 0 for run in found.runs] == [True] * 4
    assert all(run.number("denoise_seconds") > 0 for run in found.runs)
    shutil.rmtree(found.runs[0].folder)
    assert [run.state for run in experiment.read_sweep("shown").runs] == ["waiting"] + ["done"] * 3
    failed = [run for run in experiment.read_sweep("alone").runs if run.state == "failed"]
    assert len(failed) == 2
    assert all("ValueError" in run.error and "Traceback" in run.traceback for run in failed)
    with pytest.raises(ResultError, match="no sweep 'none' here; known: alone, shown"):
        experiment.read_sweep("none")


@pytest.mark.slow
def test_the_latest_sweep_is_picked(outputs, capsys):
    assert experiment.latest_sweep() == "alone"
    os.utime(outputs / "sweeps" / "shown" / folder.RUNS, (2e9, 2e9))
    assert display.pick_sweep().name == "shown"
    assert display.pick_sweep("alone").name == "alone"
    shutil.rmtree(outputs)
    assert experiment.latest_sweep() == ""


def test_the_two_parameters_that_vary_most_are_shown():
    prompts = [{"prompt": p, "seed": s, "model": m} for p in "abc" for s in range(4) for m in "xy"]
    assert experiment.choose_axes(varied(*prompts)) == ("seed", "prompt")
    assert experiment.choose_axes(varied(*prompts), rows="model") == ("model", "seed")
    assert experiment.choose_axes(varied(*prompts), columns="seed") == ("prompt", "seed")
    square = [{"seed": s, "prompt": p} for p in "ab" for s in range(2)]
    assert experiment.choose_axes(varied(*square)) == ("prompt", "seed"), "texts go down"
    together = [{"prompt": p, "name": p.upper()} for p in "abc"]
    assert experiment.choose_axes(varied(*together)) == ("", ""), "one after another"
    tripled = [one | {"seed": s} for one in together for s in (1, 2)]
    assert experiment.choose_axes(varied(*tripled)) == ("prompt", "seed")
    assert experiment.choose_axes(varied({"x": 1}, {"x": 2})) == ("", "")
    assert experiment.choose_axes(varied({"x": 1}, {"x": 2}), rows="x") == ("x", "")
    assert experiment.choose_axes(varied({})) == ("", "")
    with pytest.raises(RequestError, match="rows = 'y': varies: x"):
        experiment.choose_axes(varied({"x": 1}), rows="y")
    with pytest.raises(RequestError, match="columns = 'x': name another one than for rows"):
        experiment.choose_axes(varied({"x": 1}, {"x": 2}), "x", "x")


@pytest.mark.slow
def test_a_number_and_a_text_are_told_apart(outputs, book):
    grid = {"anything": [1, "1"], "text": ["a", "b"]}
    driver.run_sweep({"name": "kinds", "notebook": book("1"), "grid": grid})
    found = experiment.read_sweep("kinds")
    assert found.values("anything") == ["1", "'1'"]
    assert found.values("text") == ["a", "b"]
    assert experiment.choose_axes(found) != ("", "")


def test_text_stays_text():
    for value in (MARKUP, LINES, "\ud800 \x00 \x1b[31m", "&lt;"):
        shown = text.html_text(value)
        assert re.fullmatch(r"<bdi>[^<>\"']*</bdi>", shown, re.DOTALL)
        assert shown.encode()
        assert not text.CONTROL.search(shown)
    odd = Path("/a/b'\"><x> #?%\udcff.mp4")
    assert text.relative_link(odd, Path("/a/c")) == "../b%27%22%3E%3Cx%3E%20%23%3F%25%FF.mp4"


# --- what is in the page --------------------------------------------------------------------------


def test_labels_that_a_page_cuts_alike_are_numbered():
    prompts = [f"{CIRCLE}, {end}" for end in ("slowly", "fast")]
    assert sweep_page._distinct_labels([*prompts, "red"]) == {
        prompts[0]: f"1: {prompts[0]}",
        prompts[1]: f"2: {prompts[1]}",
        "red": "red",
    }


@pytest.mark.slow
def test_a_page_of_videos(outputs, capsys):
    assert main(["sweep", "report", "shown"]) == 0
    path = outputs / "sweeps" / "shown" / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    page = path.read_text(encoding="utf-8")
    assert page.count("src='data:video/mp4;base64,") == 4
    assert page.count("src='data:image/png;base64,") >= 8
    assert page.count("≈ alike: ") == 4
    assert not re.search(r"(src|href)='(?!data:|#|[0-9a-f]{16}/notebook.ipynb')", page)
    for name in ("Contact sheet", "Plots", "Runs"):
        assert f"<h2 id='{name.lower().replace(' ', '-')}'>{name}</h2>" in page
    assert "Failures" not in page
    assert len(page) < 1_000_000
    assert main(["sweep", "report", "shown"]) == 0, "an earlier page is replaced"


@pytest.mark.slow
def test_a_page_without_any_video(outputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)  # which it takes no OpenCV for
    target = tmp_path / "new" / "page.html"
    assert main(["sweep", "report", "alone", "--output", str(target)]) == 0
    page = target.read_text(encoding="utf-8")
    assert "Contact sheet" not in page
    assert "seconds of the notebook" in page
    assert page.count("<details>") == 2
    assert "Traceback (most recent call last)" in page
    assert len(re.findall(r"href='\.\./outputs/sweeps/alone/failed/\w+/notebook.ipynb'", page)) == 4


@pytest.mark.slow
def test_what_has_no_room_is_linked(outputs, monkeypatch):
    found = experiment.read_sweep("shown")
    videos = [run.video for run in found.shown]
    all_of_them = pictures.embed_clips(videos, 10**6).values()
    assert all(one.still.startswith("data:image/webp;base64,") for one in all_of_them)
    assert all(one.moving.startswith("data:video/mp4;base64,") for one in all_of_them)
    stills = sum(len(one.still) for one in all_of_them)
    room = stills + len(next(iter(all_of_them)).moving)
    few = pictures.embed_clips(videos, room)
    assert [bool(few[path].moving) for path in videos] == [True] + [False] * 3
    assert all(one.still for one in few.values())
    assert pictures.embed_clips(videos, room - 1)[videos[0]].moving == ""
    assert pictures.embed_clips(videos, stills - 1)[videos[-1]].still == ""
    shown = sweep_page.contact_sheet(found, most_bytes=0, folder=found.root / "pages")
    links = re.findall(r"<a href='\.\./(\w{16})/video\.mp4'>the video</a>", shown)
    assert links == [run.id for run in found.runs]
    assert "<a " not in sweep_page.contact_sheet(found, most_bytes=0), "in a notebook"
    monkeypatch.setattr(sweep_page, "MOST_PLAYING", 3)
    waiting = sweep_page.contact_sheet(found, most_bytes=10**6)
    assert waiting.count(" preload='none' poster='data:image/webp;base64,") == 4
    assert "autoplay" not in waiting
    videos[0].write_bytes(b"no video")
    assert pictures.embed_clips(videos[:1], 10**6) == {videos[0]: pictures.EmbeddedClip()}


@pytest.mark.slow
def test_plots_of_numbers_and_of_texts(outputs):
    found = experiment.read_sweep("shown")
    axes = plots.sweep_figure(found, "guidance", "sharpness").axes[0]
    assert [*axes.get_xticks()] == [6.0, 6.001]
    axes = plots.sweep_figure(found, "prompt", "seconds").axes[0]
    assert [*axes.get_xticks()] == [1, 2]
    assert len(axes.lines[0].get_xdata()) == 4
    assert axes.get_ylim()[1] > max(axes.lines[0].get_ydata()), "no point is cut off"
    assert axes.lines[1].get_linestyle() == "None", "texts have no order"
    seeds = [replace(run, varied={"seed": n}) for n, run in enumerate(found.runs)]
    axes = plots.sweep_figure(replace(found, runs=tuple(seeds)), "seed", "seconds").axes[0]
    assert axes.lines[1].get_linestyle() == "None", "nor have seeds"
    rows = [replace(run, row=run.row | {"seconds": 1.0}) for run in found.runs]
    made = plots.sweep_plots(replace(found, runs=tuple(rows)))
    assert "The same in all runs: seconds of the notebook: 1;" in made
    assert plots.sweep_plots(varied({"x": 1}, {"x": 2})) == ""
    unlike = [{"text": "a", "x": 1}, {"text": "", "x": 1}]
    runs = [
        replace(run, row=run.row | {"seconds": n}) for n, run in enumerate(varied(*unlike).runs)
    ]
    listed = plots.sweep_plots(replace(varied(*unlike), runs=tuple(runs)))
    assert "<li><bdi>a</bdi></li><li><bdi>–</bdi></li>" in listed
    assert "0 done, 0 failed, 1 waiting; varies: nothing" in sweep_page.sweep_page(varied({}))
    large = [{"x": 2**70}, {"x": 1}]
    runs = [replace(r, row=r.row | {"seconds": n}) for n, r in enumerate(varied(*large).runs)]
    assert "against <bdi>x" in plots.sweep_plots(replace(varied(*large), runs=tuple(runs)))


@pytest.mark.slow
def test_a_file_of_another_kind_is_never_replaced(outputs, tmp_path, capsys):
    other = tmp_path / "other.html"
    other.write_text("<p>mine</p>")
    assert main(["sweep", "report", "alone", "--output", str(other)]) == 1
    assert "exists and is not a page of a sweep: choose another name" in capsys.readouterr().err
    assert other.read_text() == "<p>mine</p>"
    root = outputs / "sweeps" / "alone"
    with pytest.raises(OutputExists):
        sweep_page.resolve_output_path(other, root)
    with pytest.raises(OutputError, match=r"'page.txt' must end in \.html"):
        sweep_page.resolve_output_path("page.txt", root)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        sweep_page.resolve_output_path(tmp_path / "folder.html", root)
    with pytest.raises(OutputError, match="can't be written"):
        sweep_page.write_sweep_page(experiment.read_sweep("alone"), other / "page.html")


@pytest.mark.slow
def test_a_page_is_written_whole_or_not_at_all(outputs, small_disk):
    disk = small_disk(64)
    path = disk / "page.html"
    found = experiment.read_sweep("shown")
    with pytest.raises(OutputError, match="is full: make room"):
        sweep_page.write_sweep_page(found, path)
    assert [*disk.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["report", "none"], 1, "no sweep 'none' here; known: alone, shown"),
        (["report", "../x"], 2, "'../x' is no name of a sweep"),
        (["report", "shown", "--rows", "size"], 2, "rows = 'size': varies: prompt, guidance"),
    ],
    ids=str,
)
def test_what_can_not_be_reported_is_said_in_a_line(outputs, capsys, flags, code, words):
    assert main(["sweep", *flags]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.slow
def test_without_opencv_videos_can_not_be_measured(outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (outputs / "sweeps" / "shown" / dataframe.MEASURED).unlink(missing_ok=True)
    with pytest.raises(CogvxError, match=r'pip install -e "\.\[measure\]"'):
        experiment.read_sweep("shown")


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        shown = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield shown
        shown.close()


def opened(browser, path: Path, width: int = 1400):
    """(the page, what it did that it shouldn't have)."""
    page, told = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: told.append(message.text))
    page.on("request", lambda one: told.append(one.url) if one.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    return page, told


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("policy", [True, False], ids=["policy", "no policy"])
def test_hostile_text_does_nothing(outputs, browser, policy):
    for name in ("shown", "alone"):
        path = sweep_page.write_sweep_page(experiment.read_sweep(name))
        content = path.read_text(encoding="utf-8")
        (meta,) = re.findall('<meta http-equiv="Content-Security-Policy"[^>]*>', content)
        assert "default-src 'none'; img-src data:; media-src data:" in meta
        if not policy:  # escaping is enough without it
            path.write_text(content.replace(meta, ""), encoding="utf-8")
        page, told = opened(browser, path)
        for element in page.query_selector_all("details"):
            element.evaluate("element => { element.open = true }")
        page.wait_for_timeout(200)
        assert told == []
        nodes = "document.querySelectorAll('script, svg, iframe, [onerror], [onfocus], [onload]')"
        assert page.evaluate(f"{nodes}.length") == 0
        inside = "[...document.querySelectorAll('bdi')].map(one => one.childElementCount)"
        assert set(page.evaluate(inside)) == {0}
        words = page.inner_text("body")
        assert "<script>alert(1)</script>" in words
        assert "<svg onload=alert(4)>" in words
        assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
        page.close()


@pytest.mark.browser
@pytest.mark.slow
def test_videos_play_and_the_page_fits(outputs, browser):
    path = sweep_page.write_sweep_page(experiment.read_sweep("shown"))
    for width in (1400, 700):
        page, told = opened(browser, path, width)
        playing = "[...document.querySelectorAll('video')].every(v => v.currentTime > 0)"
        while not page.evaluate(playing):  # its own waiting is what the policy forbids
            page.wait_for_timeout(50)
        seconds = page.evaluate("[...document.querySelectorAll('video')].map(v => v.duration)")
        assert min(seconds) > 1
        assert page.locator("video").count() == 4
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert told == []
        page.close()


# --- notebook 05 ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_05_under_papermill(outputs, tmp_path):
    flags = ["-r", "sweep", "shown", "-r", "rows", "guidance"]
    notebook, path = execute(tmp_path, *flags, path=NOTEBOOK)
    assert path.stat().st_size < 2_000_000
    assert "widgets" not in notebook.metadata
    assert not outputs_of(notebook, "application/vnd.jupyter.widget-view+json")
    assert "4 done, 0 failed, 0 waiting" in text_of(notebook)
    shown = "".join(outputs_of(notebook, "text/html"))
    assert shown.count("data:video/mp4") == 5, "each, and two in step"
    assert "guidance ↓" in shown or "guidance</bdi> ↓" in shown
    assert "<script" not in shown
    assert "<img src=x" not in shown
    assert (outputs / "sweeps" / "shown" / "report.html").is_file()
    done = nbval(path)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
def test_05_of_a_notebook_without_videos(outputs, tmp_path):
    notebook, _ = execute(tmp_path, "-r", "sweep", "alone", path=NOTEBOOK)
    shown = "".join(outputs_of(notebook, "text/html"))
    for words in ("This sweep has no videos.", "There are no two videos", "Traceback"):
        assert words in shown


@pytest.mark.slow
def test_05_shows_a_newcomer_something(tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "new"))
    few = {
        "parameters": {"model": "tiny", "frames": 9, "steps": 1},
        "grid": {"guidance": [1.0, 6.0]},
    }
    monkeypatch.setattr(display, "FIRST_SWEEP", display.FIRST_SWEEP | few)
    assert [run.state for run in display.pick_sweep().runs] == ["done"] * 2
    assert display.pick_sweep().name == "first-look"


@pytest.mark.slow
def test_two_runs_in_step(outputs):
    found = experiment.read_sweep("shown")
    first, second, third = (run.id for run in found.runs[:3])
    assert "<mark" in display.show_in_step(found).data
    chosen = display.show_in_step(found, right=first).data
    assert "6.001" in chosen, "the first that is free beside it"
    assert "data:video/mp4" in display.show_in_step(found, third, second).data
    with pytest.raises(RequestError, match=f"left = 'x': videos: {first}"):
        display.show_in_step(found, left="x")
