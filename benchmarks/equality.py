"""How far each way of running the embedded checkpoint is from diffusers.

``python benchmarks/equality.py`` makes the latents of one short clip, and decodes them, in every
way that this machine has: placements, speed-ups, attention backends, cached prompt embeddings.
Prints JSON lines: the relative distance of the latents from those of diffusers' own pipeline on the
same device (‖a - b‖ / ‖b‖), that of the frames, and the PSNR of the frames in dB. With ``--random
CogVideoX-5b --steps 1`` it does so for one step of that model's shapes with random weights, in the
half precision that it has on a GPU; there ``of_float32`` is the distance of the latents from those
that the same transformer makes of the same text in float32.
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
    parser.add_argument("--ways", nargs="+", metavar="NAME", help="only these (default: all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        for row in compare(options.frames, options.steps, options.random, options.ways):
            print(json.dumps(row), flush=True)


def compare(frames: int, steps: int, random: str | None, ways: list[str] | None):
    """Yield the rows of a table as they are measured."""
    from cogvx_nb.checkpoints import registry, store
    from cogvx_nb.pipeline import loader, optimization
    from cogvx_nb.planning import planner, probe, request

    model = store.locate_checkpoint("tiny")
    if random:
        model = store.random_model(registry.get_checkpoint(random))
    video = request.make_request(model, PROMPT, frames=frames, steps=steps)
    planned = planner.plan_request(video, probe.probe_machine())
    latents, clip = stock(video, planned)
    truth = in_float32(video, planned) if random else None
    optimization.free_memory()
    if random:
        yield {"way": "diffusers", "of_float32": distance(latents, truth)}
    plans = half_precision_plans(planned) if random else embedded_plans(planned)
    for name in ways or plans:
        plan = plans[name]
        try:
            loaded = loader.load_pipeline(plan)
            cached = name == "cached embeddings"
            if cached:
                ours(video, loaded, cached)  # fills the cache
            our_latents, our_clip = ours(video, loaded, cached)
        except Exception as error:  # the other rows are worth having
            yield {"way": name, "error": f"{type(error).__name__}: {error}"[:200]}
            continue
        error = float(((our_clip - clip) ** 2).mean())
        yield {
            "way": name,
            "plan": str(loaded.plan),
            "latents": distance(our_latents, latents),
            "frames": distance(our_clip, clip),
            "psnr": round(-10 * math.log10(error), 1) if error else None,
        } | ({"of_float32": distance(our_latents, truth)} if random else {})


def embedded_plans(planned) -> dict:
    """Plans by name; also those that the planner wouldn't choose for so small a model."""
    from cogvx_nb.planning.placements import PLACEMENTS

    plans = {"as planned": planned, "cached embeddings": planned}
    plans["attention native"] = replace(planned, attention="native")
    plans["attention math"] = replace(planned, attention="_native_math")
    for name, placement in PLACEMENTS.items():
        if planned.device == "cpu" and placement.offloads:
            continue
        plans[name] = replace(planned, placement=name)
        if placement.compiles:
            plans[f"{name}, compiled"] = replace(planned, placement=name, compiled=True)
    plans["tiled decode"] = replace(planned, tiled=True)
    plans["step cache"] = replace(planned, step_cache="halves")
    if planned.device == "cpu":
        return plans | {"int8": replace(planned, quantized="int8")}
    half = replace(planned, dtype="bfloat16")
    plans["bfloat16"] = half
    plans["bfloat16, flash4"] = replace(half, attention="flash4")
    plans["bfloat16, compiled"] = replace(half, compiled=True)
    for kind in ("fp8", "int8"):
        plans[kind] = replace(half, quantized=kind, compiled=True)
    for name in ("text_encoder_offload", "model_offload", "group_offload"):
        plans[f"fp8, {name}"] = replace(plans["fp8"], placement=name)
    plans["int8_weights"] = replace(half, quantized="int8_weights")
    plans["fp8, step cache"] = replace(plans["fp8"], step_cache="halves")
    return plans


def half_precision_plans(planned) -> dict:
    """Plans by name, for a model that runs in half precision."""
    eager = replace(planned, attention="sdpa", compiled=False)
    compiled = replace(eager, compiled=True)
    flash4 = replace(compiled, attention="flash4")
    return {
        "eager": eager,
        "attention native": replace(eager, attention="native"),
        "attention flash4": replace(eager, attention="flash4"),
        "compiled": compiled,
        "compiled, flash4": flash4,
        "text_encoder_offload": replace(eager, placement="text_encoder_offload"),
        "group_offload": replace(eager, placement="group_offload"),
        "group_offload, compiled, flash4": replace(flash4, placement="group_offload"),
        "tiled decode": replace(eager, tiled=True),
        "fp8": replace(compiled, quantized="fp8"),
        "fp8, group_offload": replace(compiled, quantized="fp8", placement="group_offload"),
        "int8_weights": replace(compiled, quantized="int8_weights"),
    }


def stock(video, planned):
    """Latents and frames of diffusers' own pipeline, its scheduler set as the authors do."""
    import torch

    from cogvx_nb.pipeline import vae

    pipe = (file_pipeline if video.model.folder else random_pipeline)(video, planned)
    noise = torch.Generator("cpu").manual_seed(video.seed)
    texts = {"prompt": video.prompt, "negative_prompt": video.negative_prompt}
    latents = denoised(video, pipe, noise, **texts)
    with torch.no_grad():
        clip = vae.decode_latents(pipe.vae, latents, video.frames)
    return latents.float().cpu(), clip.cpu()


def in_float32(video, planned):
    """Latents of the same pipeline from the same text and noise, but denoised in float32."""
    import torch

    pipe = random_pipeline(video, planned)
    tokens = video.model.checkpoint.text_tokens
    with torch.no_grad():
        texts = pipe.encode_prompt(
            video.prompt, video.negative_prompt, max_sequence_length=tokens, device=pipe.device
        )
    noise = torch.Generator("cpu").manual_seed(video.seed)
    shape = (1, 16, video.frames, video.height, video.width, texts[0].dtype, pipe.device)
    latents = pipe.prepare_latents(*shape, noise).float()
    pipe.to(torch.float32)
    given = dict(zip(("prompt_embeds", "negative_prompt_embeds"), texts, strict=True))
    given = {name: text.float() for name, text in given.items()}
    return denoised(video, pipe, noise, latents=latents, **given).cpu()


def denoised(video, pipe, noise, **given):
    """Latents of a request by one call of a pipeline."""
    return pipe(
        height=video.height,
        width=video.width,
        num_frames=video.frames,
        num_inference_steps=video.steps,
        guidance_scale=video.guidance,
        use_dynamic_cfg=video.model.checkpoint.dynamic_cfg,
        generator=noise,
        max_sequence_length=video.model.checkpoint.text_tokens,
        output_type="latent",
        **given,
    ).frames


def random_pipeline(video, planned):
    """The pipeline of the benchmark's baseline, with random weights."""
    from cogvx_nb.benchmark import baselines

    return baselines.DiffusersBaseline("stock", baselines.baseline_plan("stock", planned))._pipe


def file_pipeline(video, planned):
    """diffusers' own pipeline, with no class of the workbench."""
    import diffusers

    from cogvx_nb.planning import reading

    tokenizer = reading.load_tokenizer(video.model)
    pipe = diffusers.CogVideoXPipeline.from_pretrained(video.model.folder, tokenizer=tokenizer)
    pipe.scheduler = diffusers.CogVideoXDPMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing=video.model.checkpoint.timestep_spacing
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(planned.device)


def ours(video, loaded, reuse_text):
    """Latents and frames of the workbench."""
    import torch

    from cogvx_nb.pipeline import condition, generate, vae
    from cogvx_nb.pipeline.noise import Noise

    pipe = loaded.pipe
    try:
        with torch.no_grad(), generate._deterministic_cudnn():
            texts = loaded.encode(video, reuse_text)
            loaded.prepare()
            start = condition.from_text((video.frames - 1) // 4 + 1, pipe.transformer.config)
            given = (start, Noise(video.seed), lambda event: None, None)
            latents, _ = generate._denoise(video, loaded, texts, *given)
            clip = vae.decode_latents(pipe.vae, latents, video.frames)
    finally:
        pipe.maybe_free_model_hooks()
    return latents.float().cpu(), clip.cpu()


def distance(a, b) -> float:
    return float(f"{((a - b).norm() / b.norm()).item():.2g}")


if __name__ == "__main__":
    main()
