"""Which clips of guidance a step cache computes at each denoising step. Pure arithmetic.

A schedule has a number for each step: 2 if both clips are computed, that of the prompt and that of
the negative prompt; 1 if the first alone is; 0 if neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from . import guidance

STEPS, HALVES, DENSE, GUARDED = "steps", "halves", "dense", "guarded"
"""Kinds of step cache: the former one, of whole steps, which older videos were made with; one that
keeps the two clips apart; that one with more steps, for hard prompts; and the choice between these
two while a video is made, which its plan then records."""

APART = (HALVES, DENSE, GUARDED)
"""Those that keep the two clips apart."""

WARMUP_SHARE = 0.24
"""Share of the steps, the first ones, that are all computed: they decide a clip's layout."""

INTERVAL = 4
"""After those, one of so many steps is computed."""

LEAST_GUIDANCE = 0.1
"""g - 1 from which on the negative prompt is computed in the first steps. The velocity is
p + (g - 1) (p - n): below, n does next to nothing."""

STALENESS = 0.005
"""Later n is computed where this is exceeded by how old p - n is, in shares of all steps, times the
mean of g - 1 until the next computed step, weighted by the share of the steps that is left.

Chosen with the above on the embedded checkpoint (``docs/benchmarks.md``, Step cache)."""


HARD_CHANGE = 1.8
"""Relative change (L1) of the clean latents, as if over all steps, from which on a prompt is hard:
between the last of the first steps and the next computed one. Of 12 prompts on the embedded
checkpoint 7 are (``docs/benchmarks.md``, Step cache)."""

DENSE_INTERVALS = 3
"""For hard prompts so many of the intervals after the first steps are halved, by both clips."""


def whole_steps(scales: Sequence[float]) -> list[int]:
    """The schedule of ``STEPS``: that of ``TaylorSeerCacheConfig`` of diffusers 0.42.

    Args:
        scales: of guidance, at each step that is done.
    """
    first = warmup_steps(len(scales))
    return [2 * (n < first or (n - first - 1) % INTERVAL == 0) for n in range(len(scales))]


def guided_halves(scales: Sequence[float]) -> list[int]:
    """The schedule of ``HALVES``; the same steps, the negative prompt in fewer of them."""
    computed = [step for step, count in enumerate(whole_steps(scales)) if count]
    first, total, schedule, last = warmup_steps(len(scales)), len(scales), [0] * len(scales), None
    for step, following in zip(computed, [*computed[1:], total], strict=True):
        if step < first:
            both = scales[step] - 1 >= LEAST_GUIDANCE
        else:
            acting = sum((scales[n] - 1) * (1 - n / total) for n in range(step, following)) / total
            both = acting > 0 and (last is None or (step - last) / total * acting > STALENESS)
        schedule[step], last = 1 + both, step if both else last
    return schedule


def dense_halves(scales: Sequence[float]) -> list[int]:
    """The schedule of ``DENSE``: that of ``HALVES``, with both clips between its next steps too."""
    begin = guard_step(len(scales)) + INTERVAL // 2
    added = range(begin, begin + DENSE_INTERVALS * INTERVAL, INTERVAL)
    return [2 if n in added else count for n, count in enumerate(guided_halves(scales))]


def acting(scales: Sequence[float], dtype: str) -> list[int]:
    """The schedule without a step cache where steps in which guidance does nothing compute the
    prompt alone: equal up to rounding to that of both.

    Args:
        dtype: of the transformer's velocities; see ``IDLE_GUIDANCE``, 0 for others.
    """
    return [1 if scale - 1 <= IDLE_GUIDANCE.get(dtype, 0.0) else 2 for scale in scales]


def warmup_steps(steps: int) -> int:
    """How many of so many steps are computed before the cache is first read."""
    return max(1, round(WARMUP_SHARE * steps))


def guard_step(steps: int) -> int:
    """The step, from 0, after which it is known whether a prompt is hard."""
    return warmup_steps(steps) + 1


SCHEDULES: dict[str, Callable[[Sequence[float]], list[int]]] = {
    "": lambda scales: [2] * len(scales),
    STEPS: whole_steps,
    HALVES: guided_halves,
    DENSE: dense_halves,
    GUARDED: guided_halves,
}
"""By kind of step cache; empty for none. That of ``GUARDED`` is as it begins."""

IDLE_GUIDANCE = {"bfloat16": 2**-9, "float16": 2**-12, "float32": 1e-5}
"""g - 1 up to which guidance does nothing, by precision. The velocity is p + (g - 1) (p - n), and
p - n is shorter than p: in half precision what is left out is below half of a unit in the last
place of p. In float32, on the embedded checkpoint, it is as far as computing p alone instead of
beside n (``docs/benchmarks.md``, Numerical error)."""


def schedule_for(
    kind: str, scales: Sequence[float], idle_dtype: str = "", changed: Collection[int] = ()
) -> list[int]:
    """What each step computes.

    Args:
        kind: one of ``SCHEDULES``. Caches decide by themselves when to leave guidance out.
        scales: of guidance, at each step that is done.
        idle_dtype: precision of the velocities where idle guidance is left out; else empty.
        changed: steps with another prompt than the one before, which compute all, as does the first
            with guidance after some without.
    """
    off = [scale == guidance.OFF for scale in scales]
    acting_scales = [max(scale, 1.0) for scale in scales]
    plain = idle_dtype and not kind
    counts = acting(acting_scales, idle_dtype) if plain else SCHEDULES[kind](acting_scales)
    fresh = {*changed, *(n for n in range(1, len(off)) if off[n - 1] and not off[n])}
    counts = [2 if step in fresh else count for step, count in enumerate(counts)]
    if kind == STEPS:  # it keeps both clips together
        return counts
    return [min(count, 1) if alone else count for count, alone in zip(counts, off, strict=True)]


def shares(
    kind: str, scales: Sequence[float], *, guided: bool, idle_dtype: str = ""
) -> list[float]:
    """Share of a whole step that each one computes, 0 … 1.

    Args:
        kind, scales, idle_dtype: as for ``schedule_for``.
        guided: whether there is any guidance.
    """
    schedule = schedule_for(kind, scales, idle_dtype)
    return [count / 2 if guided else float(count > 0) for count in schedule]
