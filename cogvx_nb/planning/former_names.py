"""Plans in sidecars and benchmark files of any version, in today's names. No torch."""

from __future__ import annotations

from .placements import FORMER_PLACEMENTS
from .plan import SWITCHED_OFF
from .speedups import FORMER_ATTENTIONS
from .step_cache import STEPS


def rename_step_cache(choices: dict) -> dict:
    """A plan in a sidecar with the kind of step cache, which was true or false while there was one
    kind."""
    used = choices.get("step_cache")
    return choices | {"step_cache": STEPS if used else ""} if isinstance(used, bool) else choices


def rename_choices(choices: dict) -> dict:
    """The plan in a sidecar or benchmark row of any version, in today's names."""
    renamed = dict(choices)
    if "reuse" in renamed:
        renamed["step_cache"] = renamed.pop("reuse")
    renamed = rename_step_cache(renamed)
    for name, former in (("placement", FORMER_PLACEMENTS), ("attention", FORMER_ATTENTIONS)):
        value = renamed.get(name)
        if isinstance(value, str):
            renamed[name] = former.get(value, value)
    return renamed


def upgrade_choices(choices: dict) -> dict:
    """The same, complete: what it doesn't mention is off, since the file is older than that."""
    complete = SWITCHED_OFF | rename_choices(choices)
    return complete | {"peers": tuple(map(str, complete["peers"] or ()))}
