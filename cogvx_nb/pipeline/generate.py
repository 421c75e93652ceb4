"""Run a request: encode, denoise, decode. Emits events, times the stages, can be cancelled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from ..errors import BadFrames, Cancelled, ModelError, OutOfMemory
from ..planning.cost import step_shares
from ..planning.fit import Adjustment
from ..planning.plan import Plan
from ..planning.planner import with_frames
from ..planning.request import VideoRequest
from ..progress import (
    CancelToken,
    FramesDone,
    Listener,
    PlanChanged,
    RequestReduced,
    SharesChanged,
    StageStarted,
    Step,
)
from ..results.generated import Generated
from . import denoise, schedulers
from .condition import Condition
from .conditioning import Encoder
from .copies import transformers
from .extend import extend_frames
from .loader import Loaded, fallback_plan
from .noise import Noise
from .optimization import free_memory
from .sparse_attention import attention_share, free_masks
from .vae_stages import BAD_FRAMES_REMEDY, checked_frames, decode_frames, encode_inputs

REDUCED_REQUEST = {"steps": 20}
"""What ``fallback="reduce"`` allows after the smallest plan failed."""


def generate_frames(
    request: VideoRequest,
    loaded: Loaded,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    *,
    reuse_text: bool = True,
) -> Generated:
    """Make the frames of a request.

    When memory runs out the same request is tried again on smaller plans, and without compiling
    when that fails; after the smallest plan ``request.fallback`` may allow 20 steps and the fewest
    frames that are offered, listed as adjustments. The same request on the same machine with the
    same plan gives identical frames.

    Args:
        loaded: the request's checkpoint, loaded.
        on_event: called with each event, from this thread.
        cancel: takes effect at the transformer's next block, or the next stage.
        reuse_text: take a prompt's embedding from an earlier run, where there was one.

    Raises:
        ModelError: if the checkpoint was dropped from memory meanwhile.
        Cancelled: if ``cancel`` was set.
        OutOfMemory: if the smallest plan failed.
        BadFrames: if the frames hold NaN or are black.
    """
    emit = on_event or (lambda event: None)
    if loaded.pipe is None:
        raise ModelError("the model was dropped from memory: load it again, by load_pipeline(plan)")

    def make(
        one: VideoRequest, emit: Listener = emit, known: np.ndarray | None = None
    ) -> Generated:
        return _make_clip(one, loaded, emit, cancel, reuse_text, known)

    generated = extend_frames(request, make, emit) if request.pieces else make(request)
    emit(FramesDone(generated))
    return generated


def _make_clip(
    request: VideoRequest,
    loaded: Loaded,
    emit: Listener,
    cancel: CancelToken | None,
    reuse_text: bool,
    known: np.ndarray | None,
) -> Generated:
    """The clip of a request, on whichever plan it can be made; see ``generate_frames``.

    Args:
        known: frames that it begins with, for a request that goes on from a clip.
    """
    if known is not None and loaded.plan.frames != request.frames:
        loaded.apply(with_frames(loaded.plan, request.frames))
    while True:
        try:
            generated = _generate_once(request, loaded, emit, cancel, reuse_text, known)
        except Exception as error:
            plan = fallback_plan(error, loaded.plan, "generate")
            if plan is None:
                cause = error.with_traceback(None)  # its frames hold the tensors that fill memory
        else:
            _raise_if_cancelled(cancel)
            return generated
        free_memory()
        if plan is not None:
            loaded.apply(plan)
            emit(PlanChanged(loaded.plan))
            continue
        reduced = _reduce_request(request) if request.fallback == "reduce" else request
        if reduced == request:
            raise OutOfMemory(_out_of_memory_message(request, loaded.plan)) from cause
        request = reduced
        loaded.apply(with_frames(loaded.plan, request.frames))
        emit(RequestReduced(request))


def _generate_once(
    request: VideoRequest,
    loaded: Loaded,
    emit: Listener,
    cancel: CancelToken | None,
    reuse_text: bool,
    known: np.ndarray | None,
) -> Generated:
    seconds = {"load": loaded.seconds}
    pipe, device = loaded.pipe, torch.device(loaded.plan.device)
    noise = Noise(request.seed, request.variation_seed, request.variation_strength)
    try:
        with torch.no_grad(), _deterministic_cudnn():
            with _timed_stage("text", seconds, emit, cancel, device):
                texts = loaded.encode(request, reuse_text)
            config, dtype = pipe.transformer.config, texts[0].dtype
            encoder = Encoder(request, pipe.vae, config, dtype, device, noise, known)
            if request.encoded_frames:
                with _timed_stage("encode", seconds, emit, cancel, device):
                    started_from = encode_inputs(encoder, loaded, emit)
            else:
                started_from = encoder.condition()
            if loaded.to_compile:
                expected = loaded.plan.seconds.get("compile", 0.0)
                with _timed_stage("compile", seconds, emit, cancel, device, expected):
                    loaded.compile()
            loaded.prepare()
            _release_reserved(loaded.plan)
            with _timed_stage("denoise", seconds, emit, cancel, device):
                given = texts, started_from, noise, emit, cancel
                latents, plan = _denoise(request, loaded, *given)
            free_masks(transformers(pipe))
            _release_reserved(loaded.plan)
            with _timed_stage("decode", seconds, emit, cancel, device):
                frames = checked_frames(decode_frames(request, loaded, latents, emit))
    finally:
        pipe.maybe_free_model_hooks()
        free_masks(transformers(pipe))
    threads = torch.get_num_threads()
    return Generated(
        frames,
        request,
        replace(loaded.plan, step_cache=plan.step_cache),  # the decode may have changed it
        loaded.hashes,
        seconds,
        threads,
        encoder.hashes,
        attention_share(transformers(pipe)),
        loaded.kept_shares,
    )


def _denoise(
    request: VideoRequest,
    loaded: Loaded,
    texts: Mapping[int, torch.Tensor],
    started_from: Condition,
    noise: Noise,
    emit: Listener,
    cancel: CancelToken | None,
) -> tuple[torch.Tensor, Plan]:
    """Latents (1, latent frames, 16, height / 8, width / 8), and the plan with what a guarded step
    cache came to. The loaded plan keeps its guard, for the next clip of a chain.

    Args:
        texts: see ``Loaded.encode``.
    """
    # What is fetched ahead follows the order in which streamed blocks first ran, so the first step
    # isn't stopped between two of them.
    done, decided, streamed = [], [], "transformer" in loaded.plan.offload.streamed
    transformer = loaded.transformer

    def between_blocks(*_) -> None:
        if done or not streamed:
            _raise_if_cancelled(cancel)

    def after_step(step: int, clean: torch.Tensor) -> None:
        done.append(step)
        _raise_if_cancelled(cancel)
        if not torch.isfinite(clean).all():  # and it would stay so
            raise BadFrames(f"step {step} of {request.done_steps} gave NaN: {BAD_FRAMES_REMEDY}")
        emit(Step(step, request.done_steps, clean))
        _raise_if_cancelled(cancel)

    def on_kind(kind: str) -> None:
        decided.append(kind)
        emit(SharesChanged(step_shares(replace(loaded.plan, step_cache=kind), request.done_steps)))

    with _called_between_blocks(transformer, between_blocks):
        latents = denoise.denoise(
            transformer,
            schedulers.choose(loaded.pipe.scheduler, request.scheduler),
            texts[0],
            ((request.frames - 1) // 4 + 1, request.height // 8, request.width // 8),
            request.steps,
            request.guiding,
            started_from,
            noise,
            after_step,
            loaded.plan.step_cache,
            loaded.plan.idle_dtype,
            {step: text for step, text in texts.items() if step},
            replace(loaded.plan, frames=request.frames).windows,
            on_kind,
        )
    loaded.pipe.maybe_free_model_hooks()
    return latents, replace(loaded.plan, step_cache=(decided or [loaded.plan.step_cache])[0])


@contextlib.contextmanager
def _called_between_blocks(
    transformer: torch.nn.Module, call: Callable[..., None]
) -> Iterator[None]:
    """Call a function before each block: a step takes minutes on a CPU."""
    hooks = [block.register_forward_pre_hook(call) for block in transformer.transformer_blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _release_reserved(plan: Plan) -> None:
    """Free what a stage reserved where memory is short: the next one needs other sizes."""
    if plan.offload.offloads:
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _timed_stage(
    name: str,
    seconds: dict[str, float],
    emit: Listener,
    cancel: CancelToken | None,
    device: torch.device,
    expected: float = 0.0,
) -> Iterator[None]:
    """Announce a stage and time it, the device's queue empty at its start and end."""
    _raise_if_cancelled(cancel)
    emit(StageStarted(name, expected))
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds[name] = time.perf_counter() - start


@contextlib.contextmanager
def _deterministic_cudnn() -> Iterator[None]:
    """Keep cuDNN from choosing between algorithms that round differently."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


def _raise_if_cancelled(cancel: CancelToken | None) -> None:
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled; nothing was written")


def _reduce_request(request: VideoRequest) -> VideoRequest:
    reduced = {"frames": request.model.checkpoint.frames[0]} | REDUCED_REQUEST
    changes = tuple(
        Adjustment(name, getattr(request, name), value, "memory ran out on every plan")
        for name, value in reduced.items()
        if getattr(request, name) > value
    )
    values = {change.field: change.used for change in changes}
    return replace(request, **values, adjustments=request.adjustments + changes)


def _out_of_memory_message(request: VideoRequest, plan: Plan) -> str:
    fewer = "fewer frames or " if request.frames > request.model.checkpoint.frames[0] else ""
    return (
        f"memory ran out on {plan.device} for {request.frames} frames at {request.height} × "
        f"{request.width}, even with {plan.placement}: close other programs that use it, or try "
        f"{fewer}a smaller model"
    )
