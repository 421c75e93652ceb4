"""The speed-ups: when a plan can have one, and what it costs. No torch.

How each takes effect on a pipeline is in ``pipeline.optimization.APPLY``.
"""

from __future__ import annotations

from .speed_up import Conditions, SpeedUp
from .step_cache import APART, GUARDED, STEPS

AUTO, SDPA, FLASH4, SAGE1 = "auto", "sdpa", "flash4", "sage1"
"""Attentions that aren't backends of diffusers: the fastest of a speed, the pipeline's default
(``scaled_dot_product_attention``), FlashAttention 4, and SageAttention 1, whose queries and keys
have 8 bits."""

SPARSE = "sparse_attention"
"""Name of the speed-up that leaves out a part of the attention."""

FORMER_ATTENTIONS = {"stock": SDPA}
"""Names in older sidecars and benchmark files, still accepted."""

JOINED = "joined_tokens"
"""Name of the speed-up with which compiled blocks keep text and clip tokens in one tensor."""

FLASH4_GPUS = (9, 10)
"""Major compute capabilities that FlashAttention 4 is written for, as torch has them
(``torch.nn.attention._fa4``): data-centre Hopper and Blackwell."""

SAGE1_GPUS = ((8, 6), (8, 9), (12, 0))
"""Compute capabilities of consumer cards, the RTX 30, 40 and 50 series. Its authors tuned it for
the first two (README of sageattention 1.0.6); the third runs the same Triton code. Not measured."""

SAGE1_WIDTHS = (64, 128)
"""Of heads. It also has 96, by other kernels, which no checkpoint needs."""

SPEEDS = {
    "exact": "equal to diffusers up to rounding",
    "fast": "8-bit quantization of the matrix products",
    "turbo": "8-bit quantization, a step cache and sparse attention: approximate",
}

MIN_CACHED_STEPS = 20
"""Denoising steps from which on a step cache is used: with 6 the video is another one."""


def _flash4_lacks(conditions: Conditions, value: object) -> str:
    if conditions.capability >= (8, 0) and conditions.dtype != "float32":
        return ""
    return "needs a GPU of compute capability 8.0 or newer, and half precision"


def _flash4_choice(conditions: Conditions) -> str:
    return FLASH4 if conditions.capability[0] in FLASH4_GPUS else ""


def _sage1_lacks(conditions: Conditions, value: object) -> str:
    if conditions.capability not in SAGE1_GPUS or not conditions.compiler:
        return "needs a GeForce RTX 30, 40 or 50 or the like, Triton and a C compiler, such as gcc"
    if conditions.dtype != "bfloat16":
        return "needs bfloat16: in float16 frames were black"
    checkpoint = conditions.checkpoint
    if checkpoint and (
        checkpoint.patch_frames > 1 or checkpoint.architecture[2] not in SAGE1_WIDTHS
    ):
        return f"fails with {checkpoint.name}"
    return ""


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
        name=SAGE1,
        field="attention",
        values=(SAGE1,),
        title="8-bit attention",
        label="{}",
        exact=False,
        lacks=_sage1_lacks,
        choose=lambda conditions: SAGE1,
        speeds=("fast", "turbo"),
        optional=True,
        package="sageattention",
        extra="sage",
        note="8-bit attention: queries and keys are rounded to 8 bits",
        # Published, not measured here: 322e12 FLOP/s at this head width on an RTX 4090, where
        # FlashAttention 2 has 167e12 (thu-ml/SageAttention, assets/4090_hd64.png).
        cost={"attention_flops": 390e12 * 322 / 167},
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
        name=JOINED,
        field="joined_tokens",
        values=(True,),
        title="joining text and clip tokens",
        label="joined tokens",
        exact=True,
        lacks=_compiled_lacks,
        by_cost=True,
        placement="compiles",
        needs=("compiled",),
        # A step of 49 frames takes 1.178 s for 1.213 (one H200, benchmarks/block.py).
        cost={"elementwise_seconds": 2.2e-11},
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
        # Reckoned: a step reads and writes the weights (5 bytes each) and the output of each
        # product (4) once more, 0.07 s on an H100 besides 0.44 s of products. Streamed, at 13
        # frames, a video takes 1.14 of what is predicted so (one H100, benchmarks/cards.py).
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
        values=APART,
        title="the step cache",
        label="step cache",
        exact=False,
        lacks=_step_cache_lacks,
        choose=lambda conditions: GUARDED,
        speeds=("turbo",),
        note="step cache: steps and clips of guidance reuse the output of others",
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
    ),
)

SPEED_UPS = {row.name: row for row in _ROWS}
"""By name."""
