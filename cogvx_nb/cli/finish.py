"""``cogvx finish``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import CogvxError, PathError, RequestError
from ..paths import user_path
from ..text import format_duration, plain_line, print_error
from .filters import FILTERS, add_filters, filter_values
from .videos import add_output


def add_finish(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx finish``."""
    command.add_argument(
        "files", nargs="*", metavar="FILE", help="mp4s of this workbench, or folders of them"
    )
    what = command.add_argument_group("what to make")
    what.add_argument("--fps", type=int, metavar="N", help="interpolate to N frames a second")
    what.add_argument(
        "--factor", type=int, metavar="N", help="interpolate to 2, 3 or 4 times as many"
    )
    what.add_argument("--scale", type=int, metavar="N", help="enlarge to 2, 3 or 4 times each side")
    what.add_argument("--interpolation", metavar="NAME", help="how (default: smooth, by ffmpeg)")
    what.add_argument("--upscaler", metavar="NAME", help="how (default: lanczos)")
    add_output(command.add_argument_group("file"))
    add_filters(command.add_argument_group("results, in place of files"))


def finish_videos(options: argparse.Namespace) -> int:
    """Make smoother or larger videos of results, one after another; each can fail alone."""
    from ..finishing.finish import finish_result
    from ..finishing.recipe import Recipe
    from ..progress import Progress

    wanted = {name: getattr(options, name) for name in Recipe.__dataclass_fields__}
    Recipe(**wanted)
    paths = _chosen(options)
    if options.output is not None and len(paths) > 1:
        raise RequestError(
            "output", options.output, f"is one name for {len(paths)} videos: drop it"
        )
    code = 0
    for path in paths:
        try:
            with Progress() as progress:
                made = finish_result(
                    path, options.output, overwrite=options.overwrite, on_event=progress, **wanted
                )
        except CogvxError as error:
            if len(paths) == 1:
                raise
            print_error(plain_line(f"cogvx: {path}: {' '.join(str(error).split())}"))
            code = code or error.exit_code
            continue
        shown, seconds = made.settings.shown, sum(made.settings.seconds.values())
        size = f"{shown.height} × {shown.width}"
        print_error(f"{shown.frames} frames of {size} in {format_duration(seconds)}")
        print(made.path)
    return code


def _chosen(options: argparse.Namespace) -> list[Path]:
    """The mp4s that were named, those in named folders, or the results that match; of folders and
    filters only those that aren't finished themselves.

    Raises:
        PathError: if there are none.
    """
    from ..results.catalogue import Catalogue

    filters = any(getattr(options, name) for name in FILTERS if name != "seed")
    if filters or options.search or options.model or options.seed is not None:
        if options.files:
            raise RequestError("files", options.files[0], "name files or give conditions, not both")
        catalogue = Catalogue()
        catalogue.refresh()
        total = catalogue.count(options.search, **filter_values(options))
        found = catalogue.find(options.search, **filter_values(options), limit=total)
        paths = [entry.path for entry in found if not entry.finished]
    else:
        paths = [path for file in options.files for path in _videos(_named(file))]
    if not paths:
        raise PathError("no video to finish: name one, or choose results, such as by --search")
    return list(dict.fromkeys(paths))


def _named(file: str) -> Path:
    """A file or folder; or a folder of that name in the outputs folder, or a result of it."""
    from ..planning.extension import find_source
    from ..settings import outputs_dir

    path, kept = user_path(file, "video"), outputs_dir() / file
    return (
        kept
        if kept.is_dir() and not path.exists()
        else user_path(find_source(file, "video"), "video")
    )


def _videos(path: Path) -> list[Path]:
    """A file as it is, or the results in a folder, in order of their names."""
    from ..results.stored import find_settings

    if not path.is_dir():
        return [path]
    mp4s = sorted(path.rglob("*.mp4"))
    there = ((mp4, find_settings(mp4)) for mp4 in mp4s if not mp4.name.startswith("."))
    return [mp4 for mp4, settings in there if settings is not None and settings.finished is None]
