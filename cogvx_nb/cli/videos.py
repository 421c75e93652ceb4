"""``cogvx generate``, ``list``, ``show`` and ``reproduce``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..checkpoints import registry
from ..errors import RequestError
from ..planning.plan import SPEEDS
from ..text import cut_line, pad_cell, plain_line, print_error, terminal_width

PROMPT_PLACES = 40
"""Of a terminal's line for a prompt. The file's name is last, and whole, to be copied."""

HEAD = ("made", "model", "frames", "size", "steps", "seed", "prompt", "file")


def add_list(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx list``."""
    command.add_argument("--search", default="", metavar="WORDS", help="that the prompts hold")
    command.add_argument("--model", default="", help="only those of a model")
    command.add_argument("--frames", type=int, default=0, help="only those of so many frames")
    command.add_argument("--seed", type=int, help="only those of a seed")
    command.add_argument("--limit", type=int, default=20, help="lines at most (default: 20)")
    command.add_argument(
        "--export", metavar="FILE", help="write all that match, as .csv or .parquet, instead"
    )


def list_results(options: argparse.Namespace) -> int:
    """List results, newest first; filter them, or write them to a file."""
    from ..results import export
    from ..results.catalogue import Catalogue

    if options.limit < 1:
        raise RequestError("limit", options.limit, "1 or more")
    if options.export is not None:
        export.resolve_output_path(options.export)
    found = Catalogue()
    found.refresh()
    known = registry.find_checkpoint(options.model)
    model = known.name if known else options.model
    wanted = {"model": model, "frames": options.frames, "seed": options.seed}
    total = found.count(options.search, **wanted)
    if options.export is not None:
        path = export.save_export(found.pages(options.search, **wanted), options.export)
        print(f"results: {total:,}", file=sys.stderr)
        print(path)
        return 0
    entries = found.find(options.search, **wanted, limit=min(options.limit, total))
    if entries:
        print("\n".join(format_table([result_row(entry) for entry in entries])))
    more = "; more by --limit, all by --export" if len(entries) < total else ""
    print(f"results: {len(entries):,} of {total:,}{more}", file=sys.stderr)
    return 0


def result_row(entry) -> tuple[str, ...]:
    """The cells of a result, in the order of ``HEAD``."""
    here, path = Path.cwd(), entry.path
    return (
        entry.made.replace("T", " ")[:16],
        entry.model,
        str(entry.frames),
        f"{entry.height}×{entry.width}",
        str(entry.steps),
        str(entry.seed),
        cut_line(plain_line(entry.prompt), PROMPT_PLACES),
        str(path.relative_to(here) if path.is_relative_to(here) else path),
    )


def format_table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with the cells below each other, and nothing in them that a terminal would obey."""
    cells = [HEAD, *(tuple(map(plain_line, row)) for row in rows)]
    widths = [max(map(terminal_width, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(pad_cell, row, widths)).rstrip() for row in cells]


def generate_video_command(options: argparse.Namespace) -> int:
    """Make a video, from a prompt to an mp4."""
    from ..planning import machine, planner, request
    from ..results import result

    result.check_output(options.output, overwrite=options.overwrite)
    here = machine.probe_machine()
    model, why = planner.find_model(options.model, here, options.frames)
    prompt, typed = _enrich_prompt(options, model.checkpoint)
    wanted = request.make_request(
        model,
        prompt,
        options.negative_prompt,
        options.frames,
        options.steps,
        options.height,
        options.width,
        options.guidance,
        options.seed,
        strict=options.strict,
        allow_unknown=options.allow_unknown,
        allow_untrained_size=options.allow_untrained_size,
        enriched_from=typed,
    )
    if why:
        print_error(f"model: {why}")
    print_error(str(wanted))
    fitted = planner.plan_request(wanted, here, options.speed, options.attention)
    print_error(f"plan: {fitted}")
    for text in fitted.approximations:
        print_error(f"approximate: {text}")
    saved = _make_video(wanted, fitted, options)
    stages = ", ".join(
        f"{stage} {value:.1f} s" for stage, value in saved.settings["seconds"].items()
    )
    print_error(f"{saved.settings['request']['frames']} frames: {stages}")
    print(saved.path)
    return 0


def show_settings(options: argparse.Namespace) -> int:
    """Print a video's settings as JSON."""
    from ..results import result

    print(json.dumps(result.read_result(options.file).settings, ensure_ascii=False, indent=2))
    return 0


def reproduce_video(options: argparse.Namespace) -> int:
    """Make a video again, and say whether its frames are identical."""
    from .. import workflow
    from ..progress import Progress
    from ..results import result

    original = result.read_result(options.file)
    if options.output:
        result.check_output(options.output)

    with Progress() as progress:
        again = workflow.reproduce(original, progress)
    try:
        if options.output:
            print(result.save_result(again.generated, options.output).path)
    finally:
        print(again)
    return 0 if again.identical else 1


def _enrich_prompt(options: argparse.Namespace, checkpoint) -> tuple[str, str]:
    """(the prompt to run, the prompt as typed if a chat model made another of it)."""
    if not options.enrich:
        return options.prompt, ""
    from ..planning import enrich

    print_error("enrich")
    found = enrich.enrich_prompt(options.prompt, checkpoint)
    print_error(f"prompt before: {found.before}\nprompt after ({found.model}): {found.after}")
    return found.after, found.before


def _make_video(wanted, fitted, options: argparse.Namespace):
    from ..pipeline import loader
    from ..pipeline.generate import generate_frames
    from ..progress import Progress
    from ..results import result

    print_error("load")
    loaded = loader.load_pipeline(fitted)
    with Progress() as progress:
        generated = generate_frames(wanted, loaded, progress, fallback=options.fallback)
        return result.save_result(
            generated, options.output, overwrite=options.overwrite, on_event=progress
        )


def add_generate(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx generate``."""
    command.add_argument("--prompt", required=True, help="what the video should show")
    command.add_argument(
        "--enrich", action="store_true", help="let a chat model translate and expand the prompt"
    )
    command.add_argument("--negative-prompt", default="", help="what it should not")
    command.add_argument("--output", help="mp4 to write (default: a new name in outputs/<date>/)")
    command.add_argument("--frames", type=int, default=13, help="13, 25 or 49 (default: 13)")
    command.add_argument("--steps", type=int, default=50, help="denoising steps (default: 50)")
    command.add_argument("--height", type=int, help="pixels (default: the model's native height)")
    command.add_argument("--width", type=int, help="pixels (default: the model's native width)")
    command.add_argument(
        "--guidance", type=float, default=6.0, help="guidance scale (default: 6.0)"
    )
    command.add_argument("--seed", type=int, default=42, help="seed (default: 42)")
    command.add_argument("--model", default="auto", help="a name, a folder or auto (default: auto)")
    command.add_argument(
        "--speed",
        choices=SPEEDS,
        default="exact",
        help="exact, fast or turbo (default: exact)",
    )
    command.add_argument(
        "--attention", default="auto", help="stock, flash4, or a backend of diffusers such as sage"
    )
    command.add_argument("--strict", action="store_true", help="refuse instead of adjusting")
    command.add_argument(
        "--allow-untrained-size", action="store_true", help="accept any multiple of 16 as a size"
    )
    command.add_argument(
        "--allow-unknown", action="store_true", help="accept a prompt that the model can't read"
    )
    command.add_argument(
        "--fallback", choices=["reduce"], help="13 frames and 20 steps where memory runs out"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the output file")
