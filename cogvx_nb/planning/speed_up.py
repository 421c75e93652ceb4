"""What a speed-up is, as a record, and what its predictions are made of. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..checkpoints.registry import Checkpoint
from ..errors import missing_package


@dataclass(frozen=True, slots=True)
class StepCost:
    """What time and memory of a denoising step are predicted from.

    Measured on one H100 80 GB (torch 2.11, diffusers 0.42.1) with the shapes of CogVideoX-5b and
    random weights: the defaults without any speed-up, and what each speed-up changes with it.
    """

    matmul_flops: float = 775e12  # FLOP/s of matrix products in bfloat16
    # FLOP/s within a step, where the GPU is at its power limit; by itself cuDNN reaches 427e12.
    attention_flops: float = 390e12
    elementwise_seconds: float = 1.2e-10  # per layer and hidden-state element, for all else
    activation_copies: float = 13.5  # copies of the hidden states: 2.7 GiB at 49 frames
    mask_bytes: float = 0.0  # of sparse attention, per pair of tokens and head
    streaming: float = 1.12  # step time under group offload over that without, transfers hidden
    parameter_bytes: int | None = None  # of the blocks' linear layers; None for those of the dtype
    compile_seconds: tuple[float, float] = (0.0, 0.0)  # before the first step: cold and warm cache
    idle_guidance: bool = False  # steps in which guidance does nothing compute one clip


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where a plan is to run, as far as speed-ups depend on it."""

    dtype: str  # of the weights
    steps: int
    gpu: str  # its name; empty for the CPU
    capability: tuple[int, int]  # compute capability of the GPU; (0, 0) for the CPU
    compiler: bool  # whether Triton and a C compiler are there
    versions: dict[str, str | None]  # of the installed packages
    checkpoint: Checkpoint | None = None  # whose transformer it is; None where it isn't known


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """Something that makes a video faster."""

    name: str
    field: str  # of ``Plan``, which switches it on
    values: tuple[object, ...]  # values of that field with which it is on
    title: str  # in messages
    label: str  # in a plan's summary: a format string of the field's value, or empty
    exact: bool  # equal to diffusers up to rounding
    # What is missing for a value of the field, as a predicate of the title; empty if nothing.
    lacks: Callable[[Conditions, object], str]
    # The field's value where nothing is missing; empty where the speed-up isn't worth it.
    choose: Callable[[Conditions], object] = lambda conditions: True
    speeds: tuple[str, ...] = ()  # speeds that bring it
    optional: bool = False  # speeds that bring it do without where its package is missing
    by_cost: bool = False  # taken where the video gets faster; at any speed if none brings it
    package: str = ""  # that it needs
    extra: str = ""  # of this project, which installs the package
    placement: str = ""  # field of ``Placement`` that allows it
    requires: str = ""  # what that placement does, in messages
    implies: tuple[str, ...] = ()  # other speed-ups that it is slow without, on a GPU
    needs: tuple[str, ...] = ()  # other speed-ups without which it isn't possible
    note: str = ""  # how its videos differ: a format string of the field's value
    reason: str = ""  # recorded in a plan when it is chosen
    cost: dict[str, object] = field(
        default_factory=dict, hash=False
    )  # changed fields of ``StepCost``

    def missing_package(self, versions: dict[str, str | None]) -> str:
        """The message that its package isn't installed, with the remedy; empty if it is."""
        if not self.package or versions.get(self.package):
            return ""
        return missing_package(self.package, self.extra, self.title)

    def obstacle(self, conditions: Conditions, value: object) -> str:
        """Why a value of the field isn't available, in one line; empty if it is."""
        missing = self.lacks(conditions, value)
        return f"{self.title} {missing}" if missing else self.missing_package(conditions.versions)
