"""The workbench's table for storyboards, without a browser."""

from __future__ import annotations

import pytest
from conftest import CIRCLE, wait_for
from test_page import HOSTILE, Shown

from cogvx_nb.errors import RequestError
from cogvx_nb.events import MADE, MAKING, TAKEN, PieceReached, StageStarted
from cogvx_nb.live_line import bar_line
from cogvx_nb.piece_times import JOINING, PieceTimes
from cogvx_nb.planning.storyboards import MOST_ROWS
from cogvx_nb.results import result
from cogvx_nb.workbench import kept_board
from cogvx_nb.workbench.board import BoardRow
from cogvx_nb.workbench.board_paste import pasted_rows
from cogvx_nb.workbench.kept_job import read_kept_job
from cogvx_nb.workbench.kept_queue import restore_job
from cogvx_nb.workbench.session import Session

STAR = "a green star growing on a navy background"


def row(prompt: str, transition: str = "cut", frames: int | None = 5) -> dict:
    return {"prompt": prompt, "frames": frames, "transition": transition}


def table(*rows: dict, seed: int = 7) -> dict:
    return {"rows": list(rows), "seed": seed}


@pytest.fixture
def shown(tiny, outputs):
    page = Shown(tiny, {"steps": 2, "prompt": CIRCLE})
    yield page
    page.close()


def make(shown: Shown, *rows: dict) -> dict:
    """Make a table; how it stands then."""
    assert shown.ask("queue.storyboard", table(*rows))["data"]["id"]
    shown.wait()
    return shown.ask("board.show")["data"]


def test_the_table_outlives_page_and_kernel(shown, tiny):
    first = shown.ask("board.show")["data"]
    assert first["rows"] == [row(CIRCLE, frames=None)], "the form's prompt"
    assert list(first["transitions"]) == ["cut", "continue", "fade"]
    assert shown.ask("board.edit", table(row(CIRCLE), row("")))["data"]["problem"] is None
    other = Shown(tiny, {})
    kept = other.ask("board.show")["data"]
    other.close()
    assert (kept["rows"], kept["seed"]) == ([row(CIRCLE), row("")], 7)
    kept_board.board_path().write_text('{"rows": [{"prompt": 3}], "seed": -1}')
    assert shown.ask("board.show")["data"]["rows"] == first["rows"], "a damaged file"


def test_what_is_wrong_is_said_at_its_row(shown):
    def problem(*rows: dict) -> tuple:
        edited = shown.ask("board.edit", table(*rows))["data"]["problem"]
        made = shown.ask("queue.storyboard", table(*rows))["data"]
        assert made["id"] == ""
        assert edited in (None, made["problem"])
        assert made["problem"]["text"].isprintable()
        return made["problem"]["row"], made["problem"]["text"]

    assert problem()[0] == 0
    assert problem(row("")) == (1, "Prompt is empty; describe what the video should show")
    number, text = problem(row(CIRCLE), row(STAR, "wipe"))
    assert (number, text[:22]) == (2, "Transition wipe: use o")
    assert problem(row(CIRCLE), row(STAR, frames=-4))[0] == 2
    number, text = problem(row(CIRCLE), row(HOSTILE))
    assert number == 2
    assert "“Allow unknown prompts”" in text
    many = shown.ask("board.edit", table(*[row(CIRCLE)] * (MOST_ROWS + 1)))["error"]["text"]
    assert "at most 200" in many
    assert not shown.session.queue.waiting


def test_a_row_that_goes_on_needs_no_prompt(shown):
    rows = row(CIRCLE, frames=9), row(" ", "continue", frames=4)
    told = f"the prompt is that of row 1, which it goes on from: {CIRCLE}"
    edited = shown.ask("board.edit", table(*rows))["data"]
    assert (edited["problem"], edited["changes"]) == (None, ["", told])
    assert make(shown, *rows)["states"] == [MADE, MADE]
    spelled = make(shown, rows[0], row(CIRCLE, "continue", frames=4))
    assert spelled["told"] == "2 pieces were taken (1, 2)."
    bad = shown.ask("board.edit", table(rows[0], rows[1] | {"frames": -4}))["data"]["problem"]
    assert (bad["row"], bad["field"]) == (2, "frames"), "though no prompt is typed"
    cut = shown.ask("queue.storyboard", table(rows[0], row("")))["data"]["problem"]
    assert (cut["row"], cut["text"][:15]) == (2, "Prompt is empty")


def test_what_is_adjusted_is_said_at_its_row(shown):
    rows = row(CIRCLE, frames=13), row(STAR, "continue", frames=13)
    changes = shown.ask("board.edit", table(*rows))["data"]["changes"]
    assert changes[0] == ""
    assert changes[1].startswith("frames 13 → 16: cogvideox-tiny goes on by 4, 8")
    shown.session.queue.pause()
    assert shown.ask("queue.storyboard", table(*rows))["data"]["changes"] == changes


def test_made_pieces_are_kept_and_taken(shown, outputs):
    def stop(job, event) -> None:
        if event == PieceReached(2, 2, MAKING):
            shown.session.queue.cancel(job)

    stop_listening = shown.session.listen(stop)
    cancelled = make(shown, row(CIRCLE), row(STAR, "fade"))
    stop_listening()
    assert cancelled["told"] == "Cancelled. 1 piece was made (1)."
    assert cancelled["states"] == [MADE, ""]
    assert len(list(outputs.rglob("*.mp4"))) == 1
    shown.ask("queue.retry", {"id": shown.page.ended[0]["id"]})
    shown.wait()
    again = shown.ask("board.show")["data"]
    assert again["states"] == [TAKEN, MADE]
    assert again["told"] == "1 piece was made (2); 1 piece was taken (1)."
    assert [entry["path"] for entry in shown.page.roll] == [again["path"]], "the whole"
    assert len(result.read_result(outputs / again["path"]).settings.pieces) == 2
    blue = STAR.replace("green", "blue")
    edited = shown.ask("board.edit", table(row(CIRCLE), row(blue, "fade")))["data"]
    assert edited["states"] == [TAKEN, ""], "of a changed row nothing is known"
    shown.ask("queue.reproduce", {"path": again["path"]})
    shown.wait()
    wait_for(lambda: shown.page.ended and shown.page.ended[0]["again"])
    assert "identical" in shown.page.ended[0]["notes"][-1]
    known = shown.submit(prompt=CIRCLE, frames=5)["data"]["known"]
    assert known not in ("", again["path"]), "its first piece"


def test_a_storyboard_in_the_queue_outlives_the_kernel(shown, outputs):
    shown.ask("queue.pause", {"on": True})
    shown.ask("queue.storyboard", table(row(CIRCLE, frames=None), row(STAR, "continue", 4)))
    assert shown.ask("board.show")["data"]["told"] == "It waits in the queue."
    (waiting,) = shown.page.jobs["waiting"]
    assert waiting["pieces"] == 2
    assert waiting["seconds"] > 0
    kept = read_kept_job(next((outputs / ".queue").glob("*-*.json")))
    assert str(kept).startswith(f"storyboard of 2: {CIRCLE}")
    job = restore_job(kept)
    length = shown.page.desk.form.filled["frames"]
    assert job.board == (BoardRow(CIRCLE, length), BoardRow(STAR, 4, "continue"))
    assert job.request.seed == 7
    assert Session().queue.waiting == ()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a, b\r\n\n c\n", [BoardRow("a, b"), BoardRow("c")]),
        ("a\t5\tfade\nb\t\tCut", [BoardRow("a", 5, "fade"), BoardRow("b")]),
        ('Prompt,transition,frames,x\n"a, b",continue,9,?\n', [BoardRow("a, b", 9, "continue")]),
        ("a\n\t4\tcontinue", [BoardRow("a"), BoardRow("", 4, "continue")]),
        ("frames;prompt\n9;a\n;b", [BoardRow("a", 9), BoardRow("b")]),
        ("", []),
    ],
)
def test_pasted_text_becomes_rows(text, rows):
    assert list(pasted_rows(text)) == rows


@pytest.mark.parametrize("text", ["a\tmany\nb", "a\n" * 201, "a" * 2**21, "a\t" + '"' * 2**18])
def test_pasted_text_that_is_no_table_is_refused(text):
    with pytest.raises(RequestError) as caught:
        pasted_rows(text)
    assert len(str(caught.value)) < 300


def test_progress_is_of_all_pieces():
    times = PieceTimes()
    pieces = 1 - JOINING
    times.record(PieceReached(1, 4, TAKEN))
    assert times.share == 0.25 * pieces
    times.record(PieceReached(2, 4, MAKING))
    times.record(StageStarted("write"))
    assert 0.25 * pieces <= times.share <= 0.5 * pieces
    times.record(PieceReached(2, 4, MADE))
    assert (times.share, times.states) == (0.5 * pieces, (TAKEN, MADE, "", ""))
    for number in (3, 4):
        times.record(PieceReached(number, 4, TAKEN))
    times.record(StageStarted("write"))
    assert times.share == pieces
    assert "98%" in bar_line("write", times.share, None), "while they are joined"
