"""Copies of a pipeline's transformer and VAE on the other GPUs of a plan, loaded alike."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import torch

from ..planning.plan import Plan
from . import optimization
from .components import load_part
from .failures import failed_on
from .split import Copy, SplitTransformer
from .team import Team
from .vae_decoder import FastDecoder, SharedDecoder


def match_copies(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Load the copies that a plan needs, and drop the others.

    Raises:
        SpeedUpFailed: if one can't be loaded.
    """
    key = optimization.load_key(plan), plan.placement, [one.key for one in plan.loras]
    devices = [torch.device(name) for name in plan.peers]
    if getattr(pipe, "copies_key", None) != key:
        _keep_copies(pipe, [])
        pipe.copies_key = key
    if [copy.device for copy in pipe.copies] != devices:
        _keep_copies(pipe, devices)
    for index, device in enumerate(devices):
        if index == len(pipe.copies) or pipe.copies[index].device != device:
            one = replace(plan, device=str(device), peers=())
            pipe.copies.insert(index, _load_copy(one))
    if isinstance(pipe.vae._decode, FastDecoder):
        _share_decoder(pipe.vae, plan)


def _keep_copies(pipe: diffusers.CogVideoXPipeline, devices: list[torch.device]) -> None:
    """Free the copies of a pipeline but for one on each of some devices, in their order."""
    if getattr(pipe, "split", None):
        pipe.split.forget_workspaces()
    others, kept = list(getattr(pipe, "copies", [])), []
    for device in devices:
        places = [index for index, copy in enumerate(others) if copy.device == device]
        kept += [others.pop(index) for index in places[:1]]
    pipe.split, pipe.copies = None, kept
    if others:
        others.clear()
        optimization.free_memory()


def _share_decoder(vae: torch.nn.Module, plan: Plan) -> None:
    """Have a plan's devices decode together, on copies of the VAE that are kept for them."""
    decoder, devices = vae._decode, [torch.device(d) for d in plan.devices[: plan.decoding]]
    if [*(decoder.shared.devices if decoder.shared else devices[:1])] == devices:
        return
    decoder.shared = None
    optimization.free_memory()
    others = [_load(replace(plan, device=str(device), peers=()), "vae") for device in devices[1:]]
    if others:
        decoder.shared = SharedDecoder([vae, *others], Team(devices, 1))


def exchange_transformer(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Load the transformer again with the LoRAs of a plan, and keep the other components."""
    pipe.remove_all_hooks()
    pipe.split, pipe.copies = None, []  # which hold it too
    pipe.__dict__["transformer"] = None  # else diffusers notes that it has none, and saves none
    optimization.free_memory()
    part = load_part("transformer", plan)
    optimization.place_component(plan, "transformer", part)
    pipe.register_modules(transformer=part)
    if plan.offload.reversible:
        optimization.move_pipeline(pipe, plan)


def transformers(pipe: diffusers.CogVideoXPipeline) -> list[torch.nn.Module]:
    """The transformer and its copies."""
    return [pipe.transformer, *(copy.transformer for copy in pipe.copies)]


def _load_copy(plan: Plan) -> Copy:
    return Copy(_load(plan, "transformer"), torch.device(plan.device))


def _load(plan: Plan, name: str) -> torch.nn.Module:
    try:
        part = load_part(name, plan)
        optimization.place_component(plan, name, part)
    except (RuntimeError, MemoryError) as error:
        raise failed_on(plan.device, error) from error
    return part


def configure_transformers(pipe: diffusers.CogVideoXPipeline, plan: Plan) -> None:
    """Apply a plan's speed-ups to the transformer and its copies, and have them share its steps."""
    first = Copy(pipe.transformer, torch.device(plan.device))
    for transformer in transformers(pipe):
        optimization.apply_speed_ups(optimization.PLACED, transformer, plan)
    made_for = plan.halves, plan.attention, "transformer" in plan.offload.on_gpu
    key = *made_for, plan.compiled
    if not pipe.copies:
        pipe.split = None
    elif pipe.split is None or pipe.split_key != key:
        pipe.split, pipe.split_key = SplitTransformer([first, *pipe.copies], *made_for), key
    if pipe.split:
        pipe.split.share_tokens()
