"""Times of CogVideoX on other machines: published ones, and those that were measured for this."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import dataclass

from . import record
from .record import FULL_STEPS, describe_setup, full_video_seconds

REFERENCES = tuple(f"reference_h100{of}.json" for of in ("", "_exact", "_turbo", "_seed", "_cudnn"))
"""Benchmarks of this workbench on one H100, as ``bench_file`` writes them; all but the last with
FlashAttention 4. Rows of ``exact`` from before compiled blocks rounded as eager ones are left out,
but for the last file's."""


@dataclass(frozen=True, slots=True)
class PublishedTime:
    """How long a video takes somewhere.

    Attributes:
        gpu: or another device.
        frames: of the video.
        low, high: seconds of a video of 50 steps, the same where no range is given; None where
            only a step is known.
        step_seconds: None where it isn't known.
        how: model and configuration.
        source: who says so.
    """

    gpu: str
    frames: int
    low: float | None
    high: float | None
    step_seconds: float | None
    how: str
    source: str


def measured_references(report: dict, source: str) -> list[PublishedTime]:
    """The rows of a benchmark; videos of fewer steps are reckoned to 50, and say so."""
    here, found = device_of(report), []
    for row in report["rows"]:
        if row["error"]:
            continue
        whole, step = full_video_seconds(row), row["step_seconds"]["median"]
        how = f"{row['model']}, {describe_setup(row)}"
        if row["steps"] != FULL_STEPS:
            how += f", from {row['steps']} steps"
        found.append(PublishedTime(here, row["frames"], whole, whole, step, how, source))
    return found


def published_times(reports: Sequence[dict] = ()) -> list[PublishedTime]:
    """The references that ship with the package, but for those among ``reports``, and what others
    published of CogVideoX-5b."""
    made, found = [report["made"] for report in reports], []
    for shipped in references():
        if shipped["made"] not in made:
            found += measured_references(shipped, "measured with this workbench")
    known = published_references()
    for row in known["rows"]:
        seconds, step = row.get("seconds"), row.get("seconds_per_step")
        how = f"CogVideoX-5b, {row['config']}"
        found.append(
            PublishedTime(row["gpu"], row["frames"], seconds, seconds, step, how, row["source"])
        )
    minutes = dict(known["seed_table_minutes"])
    source = minutes.pop("source")
    for gpu, by_frames in minutes.items():
        for frames, (low, high) in by_frames.items():
            how = "CogVideoX-5b, estimated"
            found.append(
                PublishedTime(gpu, int(frames), 60.0 * low, 60.0 * high, None, how, source)
            )
    return found


def device_of(report: dict) -> str:
    """What a benchmark ran on, in a few words."""
    here = report["machine"]
    gpus = ", ".join(gpu["name"] for gpu in here["gpus"])
    return gpus or f"no GPU, {here['threads']} threads"


def published_references() -> dict:
    """Figures of others, with sources, as they ship with the package."""
    return json.loads(_read_data("published_timings.json").read_text(encoding="utf-8"))


def references() -> list[dict]:
    """The benchmarks that ship with the package.

    Raises:
        ResultError: if one is none.
    """
    return [record.read_report(_read_data(name)) for name in REFERENCES]


def _read_data(name: str):
    return importlib.resources.files("cogvx_nb").joinpath(f"data/{name}")
