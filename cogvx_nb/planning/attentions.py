"""The attentions that can be asked for by name. No torch."""

from __future__ import annotations

from ..errors import RequestError, did_you_mean
from .speedups import AUTO, FLASH4, FORMER_ATTENTIONS, SAGE1, SDPA

BACKENDS = (
    "flash",
    "flash_hub",
    "flash_varlen",
    "flash_varlen_hub",
    "flash_4_hub",
    "aiter_fa2_hub",
    "flex",
    "native",
    "sage",
    "sage_hub",
    "sage_blackwell_hub",
    "sage_varlen",
    "xformers",
    "_flash_3",
    "_flash_varlen_3",
    "_flash_3_hub",
    "_flash_3_varlen_hub",
    "_native_cudnn",
    "_native_efficient",
    "_native_flash",
    "_native_math",
    "_native_npu",
    "_native_xla",
    "_sage_qk_int8_pv_fp8_cuda",
    "_sage_qk_int8_pv_fp8_cuda_sm90",
    "_sage_qk_int8_pv_fp16_cuda",
    "_sage_qk_int8_pv_fp16_triton",
)
"""``AttentionBackendName`` of diffusers 0.42, so that a request is checked without importing it."""


def check_attention(name: str) -> None:
    """Raise RequestError if there is no such attention, on any machine."""
    known = (AUTO, SDPA, FLASH4, SAGE1, *FORMER_ATTENTIONS, *BACKENDS)
    if name not in known:
        public = (name for name in BACKENDS if not name.startswith("_"))
        listed = (AUTO, SDPA, FLASH4, SAGE1, *public)
        remedy = did_you_mean(name, known) or f"; use one of {', '.join(listed)}"
        raise RequestError("attention", name, f"is unknown{remedy}")
