"""Actions of the page Storyboard: its table, what is wrong in it, and making it."""

from __future__ import annotations

import random
import re
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace

from ..checkpoints.registry import Model
from ..errors import CogvxError, PromptUnknown, RequestError, SpecError
from ..events import MADE, MAKING, TAKEN
from ..planning.fields import INPUTS
from ..planning.request import VideoRequest, make_request
from ..planning.storyboards import MOST_ROWS
from ..planning.transitions import CONTINUE, TRANSITIONS
from ..storyboard import check_rows
from ..text import plain_line
from .actions import Action, NoArguments, Reply
from .board import Board, BoardRow, common_values, with_frames
from .board_paste import pasted_rows
from .desk import Desk
from .jobs import CANCELLED, DONE, FAILED, RUNNING, Job
from .kept_board import read_board, write_board
from .wording import explain_error, use_labels

_DRAWN_SEED = random.SystemRandom().randrange(2**31)
"""The seed of a table that isn't kept yet: the same in each answer."""

_ROW = re.compile(r"row (\d+): (.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Text:
    """What is pasted."""

    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, in a sentence."""

    text: str
    row: int = 0  # its number; 0: of all
    field: str = ""  # that it is about


def show_board(desk: Desk, arguments: NoArguments) -> Future[Reply]:
    """The table as it was left, how it stands with its video, and what is wrong."""
    board = _board(desk)
    shown = {"rows": [asdict(row) for row in board.rows], "seed": board.seed}
    return _checked(desk, board, shown | {"transitions": TRANSITIONS})


def edit_board(desk: Desk, arguments: Board) -> Future[Reply]:
    """Keep the table as it is typed; replies with how it stands, and what is wrong.

    Raises:
        RequestError: if there are too many rows.
    """
    return _checked(desk, _keep(arguments), {})


def _checked(desk: Desk, board: Board, shown: dict[str, object]) -> Future[Reply]:
    model, filled = desk.form.model, desk.form.filled

    def check() -> Reply:
        standing = shown | _standing(desk, board)
        try:
            standing |= _changes(_prepare(model, filled, board)[2])
        except CogvxError as error:
            problem = _problem(error)
            row = board.rows[problem.row - 1] if problem.row else None
            if row and (row.prompt.strip() or row.transition == CONTINUE):
                standing["problem"] = asdict(problem)  # nobody is told off before typing
        return Reply(standing)

    return desk.in_background(check)


def make_board(desk: Desk, arguments: Board) -> Future[Reply]:
    """Queue the storyboard; replies with the id of its job, or with what is wrong in which row.

    Raises:
        RequestError: if there are too many rows.
    """
    board, model, filled = _keep(arguments), desk.form.model, desk.form.filled

    def add() -> Reply:
        try:
            request, rows, requests = _prepare(model, filled, board)
        except CogvxError as error:
            return Reply({"id": "", "problem": asdict(_problem(error))})
        job = desk.session.queue.add(Job(request, board=rows))
        return Reply({"id": job.id} | _standing(desk, board) | _changes(requests))

    return desk.in_background(add)


def read_pasted(desk: Desk, arguments: Text) -> Reply:
    """The rows of a text from a spreadsheet."""
    return Reply([asdict(row) for row in pasted_rows(arguments.text)])


def _board(desk: Desk) -> Board:
    """The table as it was left; at first the form's prompt."""
    seed = desk.form.values["seed"]
    seed = seed if isinstance(seed, int) and seed >= 0 else _DRAWN_SEED
    return read_board() or Board((BoardRow(str(desk.form.values["prompt"])),), seed)


def _keep(board: Board) -> Board:
    if len(board.rows) > MOST_ROWS:
        raise RequestError("rows", len(board.rows), f"a storyboard has at most {MOST_ROWS}")
    write_board(board)
    return board


def _prepare(
    model: Model, filled: dict[str, object], board: Board
) -> tuple[VideoRequest, tuple[BoardRow, ...], tuple[VideoRequest, ...]]:
    """The request of the first row, all rows with their lengths, and the request of each.

    Raises:
        CogvxError: with the number of the row that can't be made.
    """
    if not board.rows:
        raise SpecError("a storyboard needs rows, each with a prompt")
    rows = with_frames(board.rows, filled["frames"])
    own = {"prompt": rows[0].prompt, "frames": rows[0].frames, "seed": board.seed}
    own |= dict.fromkeys(INPUTS, "") | {"enriched_from": ""}
    try:
        request = make_request(model, **filled | own)
    except RequestError as error:
        raise SpecError(f"row 1: {error}") from error
    return request, rows, check_rows(map(asdict, rows), **common_values(request))


def _changes(requests: tuple[VideoRequest, ...]) -> dict[str, object]:
    """How the values of each row are adjusted, and what is to be known of it alone, in a line."""
    common = requests[0].notes
    told = [(*one.adjustments, *(x for x in one.notes if x not in common)) for one in requests]
    lines = ["; ".join(map(str, remarks)) for remarks in told]
    return {"changes": [use_labels(line) for line in lines]}


def _problem(error: CogvxError) -> Problem:
    """An error, in the words of the form where a row's error has a field."""
    problem, cause = _read_problem(str(error)), error.__cause__
    if not problem.row or not isinstance(cause, RequestError):
        return problem
    text = explain_error(cause).text
    if isinstance(cause, PromptUnknown):
        text += "; with “Allow unknown prompts” of the page Make it is made all the same"
    return replace(problem, text=text, field=cause.field)


def _read_problem(text: str) -> Problem:
    text = plain_line(" ".join(text.split()))
    found = _ROW.fullmatch(text)
    return Problem(use_labels(found[2]), int(found[1])) if found else Problem(use_labels(text))


def _standing(desk: Desk, board: Board) -> dict[str, object]:
    """How it stands with the video of a table that was asked for last: of each row that has stayed
    what happened to its piece, in words of all, the video, what went wrong."""
    job = _latest(desk)
    shown = {"states": [""] * len(board.rows), "told": "", "path": "", "problem": None}
    if job is None:
        return shown
    rows = with_frames(board.rows, desk.form.filled["frames"])
    same = job.request.seed == board.seed
    for number, (row, was, state) in enumerate(zip(rows, job.board, job.pieces, strict=False)):
        stopped = state == MAKING and job.over
        shown["states"][number] = state if same and row == was and not stopped else ""
    shown["told"] = _told(job)
    if job.state == DONE:
        shown["path"] = desk.name_of(job.result.path)
    if job.state == FAILED:
        problem = _read_problem(job.error)
        stays = 0 < problem.row <= len(rows) and rows[problem.row - 1] == job.board[problem.row - 1]
        shown["problem"] = asdict(problem) if stays or not problem.row else None
    return shown


def _latest(desk: Desk) -> Job | None:
    queue = desk.session.queue
    jobs = [job for job in (*desk.session.finished, *queue.active, *queue.waiting) if job.board]
    return max(jobs, key=lambda job: job.order, default=None)


def _told(job: Job) -> str:
    """What has happened to the pieces of a job, in a sentence."""
    made = [number for number, state in enumerate(job.pieces, 1) if state == MADE]
    taken = [number for number, state in enumerate(job.pieces, 1) if state == TAKEN]
    parts = [_counted(made, "made")] * bool(made) + [_counted(taken, "taken")] * bool(taken)
    pieces = f"{'; '.join(parts)}." if parts else ""
    at_work = f"Piece {len(made) + len(taken) + 1} of {len(job.board)} is being made. "
    if len(made) + len(taken) == len(job.board):
        at_work = "The pieces are being joined. "
    words = {DONE: "", RUNNING: at_work, FAILED: "It failed. ", CANCELLED: "Cancelled. "}
    return f"{words.get(job.state, 'It waits in the queue. ')}{pieces}".strip()


def _counted(numbers: list[int], what: str) -> str:
    """Such as ``1 piece was taken (1)``, ``2 pieces were made (2, 3)``."""
    were = "piece was" if len(numbers) == 1 else "pieces were"
    return f"{len(numbers)} {were} {what} ({', '.join(map(str, numbers))})"


ACTIONS = {
    "board.show": Action(NoArguments, show_board),
    "board.edit": Action(Board, edit_board),
    "board.paste": Action(Text, read_pasted),
    "queue.storyboard": Action(Board, make_board),
}
"""What the page can ask for about storyboards."""
