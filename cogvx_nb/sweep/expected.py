"""The video that a run is to make, compared with the one in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import ResultError
from ..results.records import Sidecar
from ..results.stored import stored_settings


@dataclass(frozen=True, slots=True)
class ExpectedVideo:
    """What the settings of a run's video must say."""

    request: dict[str, object]  # the settings that decide the frames, see ``VideoRequest.settings``
    sha256: dict[str, str]  # of the checkpoint's files
    enriched_from: str = ""  # the prompt as typed, where a chat model rewrites it
    # By field, those with wildcards that the seed makes a text of.
    templates: Mapping[str, str] = field(default_factory=dict)
    drawn: Sequence[str] = ()  # names of the seeds that each run draws itself
    may_reduce: bool = False  # whether frames and steps may be fewer, after memory ran out

    def check_file(self, path: Path) -> None:
        """Raise ResultError unless an mp4 has the expected settings, and a sidecar."""
        if not path.is_file():
            raise ResultError(f"no video: the notebook made no {path.name}")
        settings, _ = stored_settings(path)
        if not path.with_suffix(".json").is_file():
            raise ResultError(f"{path.name} has no sidecar")
        self.check(settings)

    def check(self, sidecar: Sidecar) -> None:
        """Raise ResultError unless settings are the expected ones."""
        recorded, expected = asdict(sidecar.request), dict(self.request)
        own = list(self.drawn)
        own += ["prompt"] if self.enriched_from else []
        own += self.templates if "seed" in self.drawn else []
        expected |= {name: recorded[name] for name in own}
        if self.may_reduce:
            reduced = {change.field: change.used for change in sidecar.adjustments}
            expected |= {name: reduced[name] for name in ("frames", "steps") if name in reduced}
        typed, wanted = sidecar.enriched_from, self.enriched_from
        if "seed" in self.drawn and "prompt" in self.templates:  # the text of a seed of its own
            typed, wanted = bool(typed), bool(wanted)
        if (recorded, typed, sidecar.templates) != (expected, wanted, self.templates):
            raise ResultError("its video shows something else than was asked for")
        if sidecar.checkpoint.sha256 != self.sha256:
            raise ResultError("its video was made with another checkpoint than was asked for")
