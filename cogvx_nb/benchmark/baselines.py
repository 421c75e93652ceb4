"""Baselines of the benchmark: stock diffusers, and the script that the workbench started from."""

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
from ..planning.placements import MODEL_OFFLOAD, NO_OFFLOAD
from ..planning.plan import SWITCHED_OFF, Plan
from ..planning.request import VideoRequest
from ..results import video


def baseline_plan(kind: str, plan: Plan) -> Plan:
    """How a baseline runs, as a plan without predictions.

    Args:
        kind: one of ``report.BASELINES``.
        plan: of the workbench for the same video, for its device and dtype.
    """
    settings = SWITCHED_OFF | {"placement": NO_OFFLOAD, "speed": kind}
    bare = replace(plan, **settings, peak_bytes=0, ram_bytes=0, seconds={}, reasons=())
    if kind == "seed" and bare.device != "cpu":
        return replace(bare, dtype="float16", placement=MODEL_OFFLOAD)
    return bare


class DiffusersBaseline:
    """diffusers' pipeline, from the same files or the same random weights as the workbench's.

    ``stock`` is the pipeline of the model card, with its authors' scheduler. ``seed`` is configured
    like that script: DDIM, float16, model offload, slicing. Both make a whole video in one call;
    for 13 frames diffusers decodes 16.
    """

    tile: tuple[int, ...] = ()  # diffusers' default tile size

    def __init__(self, kind: str, plan: Plan) -> None:
        self.plan, start = plan, time.perf_counter()
        self._pipe = components.assemble_pipeline(plan, lambda name, part: None)
        (self._configure_seed if kind == "seed" else self._move_to_device)()
        synchronize(plan.device)
        self.load_seconds = time.perf_counter() - start
        self._dynamic = kind != "seed" and plan.model.checkpoint.dynamic_cfg
        self._marks: dict[str, tuple[float, float]] = {}
        self._pipe.encode_prompt = self._timed("text", self._pipe.encode_prompt)
        self._pipe.decode_latents = self._timed("decode", self._pipe.decode_latents)

    @property
    def vae(self) -> torch.nn.Module:
        """Its autoencoder."""
        return self._pipe.vae

    def make(
        self, request: VideoRequest, path: Path, after_step: Callable[[], None]
    ) -> dict[str, float]:
        """Make a video; seconds of each stage.

        ``decode`` includes diffusers' conversion to images; ``write`` is the workbench's encoder.
        """

        def on_step_end(pipe, index, timestep, tensors):
            after_step()
            return {}

        device, start = self.plan.device, time.perf_counter()
        with np.errstate(invalid="ignore"):  # float16 can overflow
            frames = self._pipe(
                prompt=request.prompt,
                height=request.height,
                width=request.width,
                num_frames=request.frames,
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                use_dynamic_cfg=self._dynamic,
                max_sequence_length=request.model.checkpoint.text_tokens,
                generator=torch.Generator(device).manual_seed(request.seed),
                callback_on_step_end=on_step_end,
            ).frames[0]
        synchronize(device)
        frames_done = time.perf_counter()
        video.encode_video(np.stack([np.asarray(frame) for frame in frames]), path, request.fps, "")
        encoded, decoding = self._marks["text"][1], self._marks["decode"][0]
        return {
            "text": encoded - start,
            "denoise": decoding - encoded,
            "decode": frames_done - decoding,
            "write": time.perf_counter() - frames_done,
        }

    def _move_to_device(self) -> None:
        self._pipe.to(self.plan.device)

    def _configure_seed(self) -> None:
        pipe = self._pipe
        pipe.scheduler = diffusers.CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
        if self.plan.device == "cpu":
            self._move_to_device()
            return
        pipe.enable_model_cpu_offload(device=self.plan.device)
        pipe.vae.enable_slicing()
        pipe.enable_attention_slicing()

    def _timed(self, name: str, function: Callable) -> Callable:
        """The function, its start and end recorded with the device synchronised at both."""

        def timed(*args, **kwargs):
            synchronize(self.plan.device)
            start = time.perf_counter()
            result = function(*args, **kwargs)
            synchronize(self.plan.device)
            self._marks[name] = (start, time.perf_counter())
            return result

        return timed
