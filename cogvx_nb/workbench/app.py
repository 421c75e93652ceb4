"""The workbench of notebook 03: one page on this process's session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import settings
from ..checkpoints.registry import Model
from ..errors import RequestError
from ..live_line import in_notebook
from ..notebooks import cell_errors
from ..notebooks.cell_errors import CellEnded
from ..paths import user_path
from ..planning import model_choice, probe
from ..planning.fields import FIELDS
from ..planning.inputs import given_names
from ..results.side_by_side import MOST
from . import (
    board_actions,
    compare_actions,
    drop_actions,
    finish_actions,
    form_actions,
    gallery_actions,
    grid_actions,
    input_actions,
    lora_actions,
    media_actions,
    prompt_actions,
    queue_actions,
    result_actions,
)
from .actions import Action, NoArguments, Reply
from .desk import Desk
from .page import Page
from .saved_view import SavedView
from .session import current_session

NO_WORKBENCH = (
    "The workbench is not shown: this kernel can't see whether its front end shows widgets. To get "
    'it, run `%env COGVX_UI=1` and then this cell again. "Run all" makes the video below.'
)
"""Where no Jupyter server started the kernel, as in VS Code and under plain papermill."""

ACTIONS = {
    "page.pulse": Action(NoArguments, lambda desk, arguments: Reply()),
    **form_actions.ACTIONS,
    **prompt_actions.ACTIONS,
    **queue_actions.ACTIONS,
    **finish_actions.ACTIONS,
    **board_actions.ACTIONS,
    **media_actions.ACTIONS,
    **drop_actions.ACTIONS,
    **input_actions.ACTIONS,
    **lora_actions.ACTIONS,
    **compare_actions.ACTIONS,
    **gallery_actions.ACTIONS,
    **grid_actions.ACTIONS,
    **result_actions.ACTIONS,
}
"""What the page can ask for."""

_shown: list[Page] = []


def show_workbench(model: str = FIELDS["model"].default, **values: object) -> Page:
    """The workbench's page on this process's session; running and waiting jobs continue.

    One that was shown before is closed.

    Args:
        model: the checkpoint to begin with.
        **values: values of the form, by the names of ``planning.fields.FIELDS``. The form is as it
            was left, but for those that have changed since.

    Raises:
        ModelError: if the checkpoint is missing or incomplete.
        RequestError: for a value that its field doesn't accept.
    """
    checkpoint = _find_model(model, values)
    while _shown:
        _shown.pop().shut()
    session = current_session()
    grid_actions.grids_of(session)  # it writes down what jobs of earlier kernels make for grids
    desk = Desk(checkpoint, session, {"model": model, **values})
    _shown.append(Page(desk, ACTIONS))
    return _shown[0]


def show_alone() -> Page:
    """The workbench's page for a window that shows nothing else: it fills it."""
    page = show_workbench()
    page.opening = {"alone": True}
    return page


def show_gallery() -> Page:
    """The workbench's page, opened on the gallery: everything in ``outputs/``."""
    page = show_workbench()
    page.opening = {"view": "gallery"}
    return page


def show_compare(paths: Sequence[str | Path]) -> Page:
    """The workbench's page, opened on two to six results in step.

    Args:
        paths: mp4 files in the outputs folder.

    Raises:
        RequestError: for another number of them.
        PathError: for a file elsewhere.
    """
    if not 2 <= len(paths) <= MOST:
        raise RequestError("results", len(paths), f"choose two to {MOST} to compare")
    page = show_workbench()
    files = [page.desk.path_of(str(user_path(path, "video"))) for path in paths]
    page.opening = {"view": "compare", "paths": [page.desk.name_of(path) for path in files]}
    return page


def _find_model(name: str, values: dict[str, object]) -> Model:
    frames = FIELDS["frames"].check(values.get("frames", FIELDS["frames"].default))
    given = given_names(values)
    return model_choice.find_model(name, probe.probe_machine, frames, given)[0]


def take_over_notebook(model: str = FIELDS["model"].default, **values: object) -> None:
    """In a live front end, show the workbench and end "run all" here; headless, do nothing.

    Jobs run in a thread; the cells below would block the kernel with another video.

    Args:
        model, **values: see ``show_workbench``.
    """
    if not settings.live_ui():
        if in_notebook() and not settings.ui_chosen():
            print(NO_WORKBENCH)
        return
    from IPython.display import display

    page = show_workbench(model, **values)
    display(page)
    SavedView(page).show()
    cell_errors.install()
    raise WorkbenchShown


class WorkbenchShown(CellEnded):
    """The workbench is shown."""
