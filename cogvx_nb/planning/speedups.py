"""Speed-ups as records: when a plan can have one, and what it costs. No torch.

How each takes effect on a pipeline is in ``pipeline.optimization.APPLY``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import missing_package
from .step_cache import HALVES, STEPS

AUTO, SDPA, FLASH4 = "auto", "sdpa", "flash4"
"""Attentions that aren't backends of diffusers: the fastest exact one, the pipeline's default
(``scaled_dot_product_attention``), and FlashAttention 4."""

SPARSE = "sparse_attention"
"""Name of the speed-up that leaves out a part of the attention."""

FORMER_ATTENTIONS = {"stock": SDPA}
"""Names in older sidecars and benchmark files, still accepted."""

OWN_BLOCK: dict[str, bool] | None = None
"""Compiled blocks are those of ``pipeline.block``, by these options of its ``compile_block``; None
for diffusers' own. They are equal up to rounding."""

FLASH4_GPUS = (9, 10)
"""Major compute capabilities that FlashAttention 4 is written for, as torch has them
(``torch.nn.attention._fa4``): data-centre Hopper and Blackwell."""

SPEEDS = {
    "exact": "equal to diffusers up to rounding",
    "fast": "8-bit quantization of the matrix products",
    "turbo": "8-bit quantization, a step cache and sparse attention: approximate",
}

MIN_CACHED_STEPS = 20
"""Denoising steps from which on a step cache is used: with 6 the video is another one."""


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
    step_cache: str = ""  # which steps and clips are computed, see ``step_cache.SCHEDULES``
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


def _flash4_lacks(conditions: Conditions, value: object) -> str:
    if conditions.capability >= (8, 0) and conditions.dtype != "float32":
        return ""
    return "needs a GPU of compute capability 8.0 or newer, and half precision"


def _flash4_choice(conditions: Conditions) -> str:
    return FLASH4 if conditions.capability[0] in FLASH4_GPUS else ""


def _compiled_lacks(conditions: Conditions, value: object) -> str:
    if conditions.compiler and conditions.capability >= (7, 0):
        return ""
    return "needs a GPU of compute capability 7.0 or newer, Triton and a C compiler, such as gcc"


def _quantized_lacks(conditions: Conditions, value: object) -> str:
    if not conditions.gpu:
        return "pays off on a GPU only"
    if conditions.dtype == "float32" or conditions.capability < (8, 0):
        capability = ".".join(map(str, conditions.capability))
        return (
            f"needs compute capability 8.0 and half precision, not {capability}, {conditions.dtype}"
        )
    if not conditions.compiler:
        return "needs Triton and a C compiler, such as gcc"
    kind = _quantized_choice(conditions)
    return "" if value in ("", kind) else f"is {kind} on {conditions.gpu}, not {value}"


def _quantized_choice(conditions: Conditions) -> str:
    float8 = conditions.dtype == "bfloat16" and conditions.capability >= (8, 9)
    return "fp8" if float8 else "int8"


def _compact_weights_lacks(conditions: Conditions, value: object) -> str:
    return "" if conditions.gpu else "pay off on a GPU only"


def _sparse_attention_lacks(conditions: Conditions, value: object) -> str:
    if conditions.capability[0] in FLASH4_GPUS and conditions.dtype != "float32":
        return ""
    return "needs a GPU of compute capability 9.0 or 10.0, and half precision"


def _step_cache_lacks(conditions: Conditions, value: object) -> str:
    if conditions.steps >= MIN_CACHED_STEPS:
        return ""
    return f"needs {MIN_CACHED_STEPS} steps or more: {conditions.steps} are too few"


_ROWS = (
    SpeedUp(
        name="flash4",
        field="attention",
        values=(FLASH4,),
        title="FlashAttention 4",
        label="{}",
        exact=True,
        lacks=_flash4_lacks,
        choose=_flash4_choice,
        speeds=tuple(SPEEDS),
        package="flash-attn-4",
        extra="flash",
        reason="FlashAttention 4, exact",
        cost={"attention_flops": 498e12},  # by itself 549e12
    ),
    SpeedUp(
        name="compiled",
        field="compiled",
        values=(True,),
        title="compiling the blocks",
        label="compiled",
        exact=True,
        lacks=_compiled_lacks,
        by_cost=True,
        placement="compiles",
        cost={
            "elementwise_seconds": 3.0e-11,
            "activation_copies": 7.0,  # 1.4 GiB at 49 frames
            "streaming": 1.06,
            "compile_seconds": (16.0, 4.0),  # 7 to 20 s, and 2 to 4 s
        },
    ),
    SpeedUp(
        name="quantized",
        field="quantized",
        values=("fp8", "int8"),
        title="8-bit quantization",
        label="{}",
        exact=False,
        lacks=_quantized_lacks,
        choose=_quantized_choice,
        speeds=("fast", "turbo"),
        package="torchao",
        extra="fast",
        placement="quantizes",
        requires="weights that are kept in GPU memory or RAM",
        implies=("compiled",),
        note="8-bit quantization ({}) of the matrix products",
        cost={
            "matmul_flops": 1400e12,
            "elementwise_seconds": 3.0e-11,
            "parameter_bytes": 1,
        },
    ),
    SpeedUp(
        name="compact_weights",
        field="quantized",
        values=("int8_weights",),
        title="8-bit weights",
        label="{}",
        exact=False,
        lacks=_compact_weights_lacks,
        speeds=("fast", "turbo"),
        by_cost=True,
        package="torchao",
        extra="fast",
        placement="quantizes",
        requires="weights that are kept in GPU memory or RAM",
        note="8-bit weights, multiplied in 16 bits",
        # Not measured. Reckoned: a step reads and writes the weights (5 bytes each) and the output
        # of each product (4) once more, 0.07 s on an H100 besides 0.44 s of products.
        cost={"matmul_flops": 670e12, "parameter_bytes": 1},
    ),
    SpeedUp(
        name="idle_guidance",
        field="idle_guidance",
        values=(True,),
        title="leaving out guidance that does nothing",
        label="",
        exact=True,
        lacks=lambda conditions, value: "",
        speeds=("exact", "fast"),  # the step cache of turbo does it by itself
        cost={"idle_guidance": True},
    ),
    SpeedUp(
        name=SPARSE,
        field="sparse_attention",
        values=(True,),
        title="sparse attention",
        label="sparse attention",
        exact=False,
        lacks=_sparse_attention_lacks,
        speeds=("turbo",),
        needs=("flash4",),
        requires="GPUs that don't share rows",
        note="sparse attention: blocks of tokens leave out others that they hardly see",
        # 11.7 ms for 13.4 of all of it, where smooth random tokens keep 0.82 of it (one H200).
        cost={"attention_flops": 570e12, "mask_bytes": 0.0093},
    ),
    SpeedUp(
        name="step_cache",
        field="step_cache",
        values=(HALVES,),
        title="the step cache",
        label="step cache",
        exact=False,
        lacks=_step_cache_lacks,
        choose=lambda conditions: HALVES,
        speeds=("turbo",),
        note="step cache: steps and clips of guidance reuse the output of others",
        cost={"step_cache": HALVES},
    ),
    SpeedUp(
        name="former_step_cache",
        field="step_cache",
        values=(STEPS,),
        title="the step cache",
        label="step cache of whole steps",
        exact=False,
        lacks=_step_cache_lacks,
        choose=lambda conditions: STEPS,
        note="step cache: steps reuse the output of others",
        cost={"step_cache": STEPS},
    ),
)

SPEED_UPS = {row.name: row for row in _ROWS}
"""By name."""
