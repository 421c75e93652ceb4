"""How far each way of running the embedded checkpoint lies from stock diffusers.

``python benchmarks/equality.py`` makes the latents of one short clip, and decodes them, in every
way that this machine has: placements, compiled blocks, kept prompt embeddings, attentions, 8-bit
products, reused steps. Prints JSON: for each the relative distance of its latents from those of
diffusers' own pipeline on the same device (‖a - b‖ / ‖b‖), and of its frames, and the PSNR of the
frames in dB. ``--random CogVideoX-5b --steps 1`` does so for a step of that model's true shapes
with random weights, in the half precision that it has on a GPU; there ``of_float32`` is the
distance of latents from those that the same transformer makes of the same text in float32.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from dataclasses import replace

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--random", metavar="MODEL", help="true shapes with random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        for row in compare(options.frames, options.steps, options.random):
            print(json.dumps(row), flush=True)


def compare(frames: int, steps: int, random: str | None):
    """Rows of a table, as they are measured."""
    from cogvx_nb.checkpoints import registry, store
    from cogvx_nb.pipeline import loader, optimization
    from cogvx_nb.planning import machine, planner, request

    here = machine.probe_machine()
    imagined = random and store.random_model(registry.get_checkpoint(random))
    model = imagined or store.locate_checkpoint("tiny")
    wanted = request.make_request(model, PROMPT, frames=frames, steps=steps)
    base = planner.plan_request(wanted, here)
    latents, clip = stock(wanted, base)
    truth = in_float32(wanted, base) if random else None
    optimization.free_memory()
    if random:
        yield {"way": "stock", "of_float32": distance(latents, truth)}
    for name, changed in (of_half(base) if random else variants(base)).items():
        try:
            loaded = loader.load_pipeline(changed)
            kept = name == "embeddings kept"
            if kept:
                ours(wanted, loaded, kept)
            made, shown = ours(wanted, loaded, kept)
        except Exception as error:  # a table with a hole says more than none
            yield {"way": name, "error": f"{type(error).__name__}: {error}"[:200]}
            continue
        error = float(((shown - clip) ** 2).mean())
        yield {
            "way": name,
            "plan": str(loaded.plan),
            "latents": distance(made, latents),
            "frames": distance(shown, clip),
            "psnr": round(-10 * math.log10(error), 1) if error else None,
        } | ({"of_float32": distance(made, truth)} if random else {})


def variants(base) -> dict:
    """Plans by name. What a plan would not choose for so small a model is asked for here."""
    from cogvx_nb.planning import planner

    found = {"as planned": base, "embeddings kept": base}
    found["attention native"] = replace(base, attention="native")
    found["attention math"] = replace(base, attention="_native_math")
    placements = ("resident",) if base.device == "cpu" else tuple(planner.PLACEMENTS)
    for name in placements:
        found[name] = replace(base, placement=name)
        if name in planner.COMPILES:
            found[f"{name}, compiled"] = replace(base, placement=name, compiled=True)
    found["tiled decode"] = replace(base, tiled=True)
    found["reused steps"] = replace(base, reuse=True)
    if base.device == "cpu":
        return found | {"int8": replace(base, quantized="int8")}
    half = replace(base, dtype="bfloat16")
    found["bfloat16"] = half
    found["bfloat16, flash4"] = replace(half, attention="flash4")
    found["bfloat16, compiled"] = replace(half, compiled=True)
    for kind in ("fp8", "int8"):
        found[kind] = replace(half, quantized=kind, compiled=True)
    found["fp8, text_out"] = replace(half, quantized="fp8", compiled=True, placement="text_out")
    found["fp8, reused steps"] = replace(found["fp8"], reuse=True)
    return found


def of_half(planned) -> dict:
    """Plans by name, for a model that runs in half precision."""
    from cogvx_nb.planning import plan

    eager = replace(planned, attention=plan.STOCK, compiled=False)
    compiled = replace(eager, compiled=True)
    return {
        "eager": eager,
        "attention native": replace(eager, attention="native"),
        "attention flash4": replace(eager, attention=plan.FLASH4),
        "compiled": compiled,
        "compiled, flash4": replace(compiled, attention=plan.FLASH4),
        "text_out": replace(eager, placement="text_out"),
        "streamed": replace(eager, placement="streamed"),
        "streamed, compiled, flash4": replace(
            compiled, attention=plan.FLASH4, placement="streamed"
        ),
        "tiled decode": replace(eager, tiled=True),
        "fp8": replace(compiled, quantized="fp8"),
    }


def stock(wanted, fitted):
    """Latents and frames of diffusers' own pipeline, its scheduler set as the authors do."""
    import torch

    from cogvx_nb.pipeline import vae

    pipe = (from_files if wanted.model.folder else from_nothing)(wanted, fitted)
    noise = torch.Generator("cpu").manual_seed(wanted.seed)
    texts = {"prompt": wanted.prompt, "negative_prompt": wanted.negative_prompt}
    latents = denoised(wanted, pipe, noise, **texts)
    with torch.no_grad():
        clip = vae.decode_latents(pipe.vae, latents, wanted.frames)
    return latents.float().cpu(), clip.cpu()


def in_float32(wanted, fitted):
    """Latents of the same pipeline from the same text and noise, but denoised in float32."""
    import torch

    pipe = from_nothing(wanted, fitted)
    tokens = wanted.model.checkpoint.text_tokens
    with torch.no_grad():
        texts = pipe.encode_prompt(
            wanted.prompt, wanted.negative_prompt, max_sequence_length=tokens, device=pipe.device
        )
    noise = torch.Generator("cpu").manual_seed(wanted.seed)
    shape = (1, 16, wanted.frames, wanted.height, wanted.width, texts[0].dtype, pipe.device)
    latents = pipe.prepare_latents(*shape, noise).float()
    pipe.to(torch.float32)
    given = dict(zip(("prompt_embeds", "negative_prompt_embeds"), texts, strict=True))
    given = {name: text.float() for name, text in given.items()}
    return denoised(wanted, pipe, noise, latents=latents, **given).cpu()


def denoised(wanted, pipe, noise, **given):
    """Latents of a request by one call of a pipeline."""
    return pipe(
        height=wanted.height,
        width=wanted.width,
        num_frames=wanted.frames,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.guidance,
        use_dynamic_cfg=wanted.model.checkpoint.dynamic_cfg,
        generator=noise,
        max_sequence_length=wanted.model.checkpoint.text_tokens,
        output_type="latent",
        **given,
    ).frames


def from_nothing(wanted, fitted):
    """The pipeline of the benchmark's baseline, with random weights."""
    from cogvx_nb.benchmark import baselines

    return baselines.DiffusersBaseline("stock", baselines.baseline_plan("stock", fitted))._pipe


def from_files(wanted, fitted):
    """diffusers' own pipeline, none of the workbench's classes in it."""
    import diffusers

    from cogvx_nb.checkpoints import store

    tokenizer = store.load_tokenizer(wanted.model)
    pipe = diffusers.CogVideoXPipeline.from_pretrained(wanted.model.folder, tokenizer=tokenizer)
    pipe.scheduler = diffusers.CogVideoXDPMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing=wanted.model.checkpoint.timestep_spacing
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(fitted.device)


def ours(wanted, loaded, reuse_text):
    """Latents and frames of the workbench."""
    import torch

    from cogvx_nb.pipeline import generate, loader, vae

    device = torch.device(loaded.plan.device)
    pipe = loaded.pipe
    try:
        with torch.no_grad(), generate._deterministic_cudnn():
            embeds, negative = loader.encode_prompts(wanted, loaded, device, reuse_text)
            loaded.prepare(wanted.steps)
            latents = generate._denoise(wanted, pipe, embeds, negative, lambda event: None, None)
            clip = vae.decode_latents(pipe.vae, latents, wanted.frames)
    finally:
        pipe.maybe_free_model_hooks()
    return latents.float().cpu(), clip.cpu()


def distance(a, b) -> float:
    return float(f"{((a - b).norm() / b.norm()).item():.2g}")


if __name__ == "__main__":
    main()
