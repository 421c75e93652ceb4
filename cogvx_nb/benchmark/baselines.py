"""What the workbench is measured beside: stock diffusers, and the script it came from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import torch

from ..pipeline import components
from ..pipeline.optimization import synchronize
from ..planning.plan import STOCK, Plan
from ..planning.request import VideoRequest
from ..results import video


def baseline_plan(kind: str, fitted: Plan) -> Plan:
    """How a baseline runs, in the terms of a plan; nothing of it is predicted.

    Args:
        kind: one of ``record.BASELINES``.
        fitted: a plan of the workbench for the same video, for its device and precision.
    """
    bare = replace(
        fitted, placement="resident", tiled=False, attention=STOCK, speed=kind, compiled=False
    )
    bare = replace(
        bare, quantized="", reuse=False, peak_bytes=0, ram_bytes=0, seconds={}, reasons=()
    )
    if kind == "seed" and bare.device != "cpu":
        return replace(bare, dtype="float16", placement="model_offload")
    return bare


class DiffusersBaseline:
    """diffusers' own pipeline, from the same files or the same random weights as the workbench's.

    ``stock`` is the pipeline as the model's card has it, with the authors' scheduler. ``seed`` has
    what that script sets: DDIM, float16, whole models moved to the GPU and back, slicing. Both make
    whole videos in one call; 13 frames come out as 16, as diffusers decodes them.

    Attributes:
        plan: see ``baseline_plan``.
        load_seconds: what loading took.
        tile: size of the tiles that its decoder can work in; empty for diffusers' own choice.
    """

    tile: tuple[int, ...] = ()

    def __init__(self, kind: str, plan: Plan) -> None:
        self.plan, start = plan, time.perf_counter()
        self._pipe = components.assemble_pipeline(plan, lambda name, part: None)
        # The workbench's has another decoder; this is the class that diffusers itself would load.
        self._pipe.vae.__class__ = diffusers.AutoencoderKLCogVideoX
        (self._as_script if kind == "seed" else self._as_card)()
        synchronize(plan.device)
        self.load_seconds = time.perf_counter() - start
        self._dynamic = kind != "seed" and plan.model.checkpoint.dynamic_cfg
        self._marks: dict[str, tuple[float, float]] = {}
        self._pipe.encode_prompt = self._noted("text", self._pipe.encode_prompt)
        self._pipe.decode_latents = self._noted("decode", self._pipe.decode_latents)

    @property
    def vae(self) -> torch.nn.Module:
        """Its decoder."""
        return self._pipe.vae

    def make(
        self, wanted: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]:
        """Make a video; seconds of each stage.

        Decoding is with all that diffusers does to hand out pictures; writing is the workbench's.
        """

        def stepped(pipe, index, timestep, tensors):
            after_step()
            return {}

        device, start = self.plan.device, time.perf_counter()
        with np.errstate(invalid="ignore"):  # float16 can overflow
            frames = self._pipe(
                prompt=wanted.prompt,
                height=wanted.height,
                width=wanted.width,
                num_frames=wanted.frames,
                num_inference_steps=wanted.steps,
                guidance_scale=wanted.guidance,
                use_dynamic_cfg=self._dynamic,
                max_sequence_length=wanted.model.checkpoint.text_tokens,
                generator=torch.Generator(device).manual_seed(wanted.seed),
                callback_on_step_end=stepped,
            ).frames[0]
        synchronize(device)
        done = time.perf_counter()
        video.encode_video(np.stack([np.asarray(frame) for frame in frames]), path, wanted.fps, "")
        read, decoding = self._marks["text"][1], self._marks["decode"][0]
        return {
            "text": read - start,
            "denoise": decoding - read,
            "decode": done - decoding,
            "write": time.perf_counter() - done,
        }

    def _as_card(self) -> None:
        self._pipe.to(self.plan.device)

    def _as_script(self) -> None:
        pipe = self._pipe
        pipe.scheduler = diffusers.CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
        if self.plan.device == "cpu":
            self._as_card()
            return
        pipe.enable_model_cpu_offload(device=self.plan.device)
        pipe.vae.enable_slicing()
        pipe.enable_attention_slicing()

    def _noted(self, name: str, function: Callable) -> Callable:
        """The function, with when it began and ended kept, the device's queue empty both times."""

        def noting(*args, **kwargs):
            synchronize(self.plan.device)
            start = time.perf_counter()
            found = function(*args, **kwargs)
            synchronize(self.plan.device)
            self._marks[name] = (start, time.perf_counter())
            return found

        return noting
