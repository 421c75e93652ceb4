"""Which results a command is for."""

from __future__ import annotations

import argparse

from ..checkpoints import registry

FILTERS = ("frames", "seed", "stars", "tag", "where")


def add_filters(command: argparse.ArgumentParser) -> None:
    """The arguments that choose results."""
    command.add_argument(
        "--search",
        default="",
        metavar="WORDS",
        help="words of the prompt, the note or the tags, or lora:NAME",
    )
    command.add_argument("--model", default="", help="only results of this checkpoint")
    command.add_argument(
        "--frames", type=int, default=0, help="only results with this number of frames"
    )
    command.add_argument("--seed", type=int, help="only results with this seed")
    command.add_argument(
        "--stars", type=int, default=0, metavar="N", help="only results of so many stars or more"
    )
    command.add_argument("--tag", default="", help="only results with this tag")
    command.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only results for which it is true, such as 'steps >= 20' or 'device = cuda'; by any "
        "column of 'cogvx list --export' or the weight of a LoRA, 'lora:NAME >= 0.5', and more "
        "than once",
    )


def filter_values(options: argparse.Namespace) -> dict[str, object]:
    """The conditions, as ``Catalogue`` takes them beside the words."""
    known = registry.find_checkpoint(options.model)
    model = known.name if known else options.model
    return {"model": model, **{name: getattr(options, name) for name in FILTERS}}
