"""Cost of previews: denoising steps with and without them, alternating.

``python benchmarks/preview.py`` takes the embedded checkpoint at 49 frames; with ``--true-shapes``,
on a GPU, the transformer of CogVideoX-5b with random weights, at 49 frames of 480 × 720 (time
doesn't depend on the weights). Prints JSON: the median seconds of a step with and without previews,
over several videos of each kind, how much longer all denoising took, and how long a preview blocked
denoising (it is drawn in another thread).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--true-shapes", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        prepare = true_shapes if options.true_shapes else embedded
        video, loaded, embeds = prepare(options.steps)
        print(json.dumps(measure(video, loaded, embeds, options.repeats), indent=1))


def measure(video, loaded, embeds, repeats: int) -> dict:
    """Videos with and without previews alternating, after one of each as warm-up."""
    from cogvx_nb.workbench.session import Session

    seconds = {True: [], False: []}
    wholes = {True: [], False: []}
    shown, spent = 0, 0.0
    for turn, previews in itertools.product(range(repeats + 1), (True, False)):
        session = Session()
        count, start = [], time.perf_counter()  # seconds of each preview
        steps = denoise(video, loaded, embeds, session if previews else None, count)
        whole = time.perf_counter() - start
        session._drawer.shutdown()
        if turn:
            wholes[previews].append(whole)
            seconds[previews] += steps
            shown, spent = shown + len(count), spent + sum(count)
    steps = {name: statistics.median(values) for name, values in seconds.items()}
    whole = {name: statistics.median(values) for name, values in wholes.items()}
    return {
        "model": video.model.name,
        "frames": video.frames,
        "steps": video.steps,
        "videos_of_each_kind": repeats,
        "previews_a_video": round(shown / repeats, 1),
        "preview_milliseconds": round(1000 * spent / shown, 1),
        "preview_share_percent": round(100 * spent / repeats / whole[True], 2),
        "step_seconds_without": round(steps[False], 4),
        "step_seconds_with": round(steps[True], 4),
        "denoise_seconds_without": round(whole[False], 3),
        "denoise_seconds_with": round(whole[True], 3),
        "overhead_percent": round(100 * (whole[True] / whole[False] - 1), 2),
        "spread_without_percent": round(100 * (max(wholes[False]) / min(wholes[False]) - 1), 2),
    }


def denoise(video, loaded, embeds, session, shown: list) -> list[float]:
    """Seconds of each step, synchronised with the device."""
    from cogvx_nb.pipeline import condition, generate, optimization
    from cogvx_nb.pipeline.noise import Noise
    from cogvx_nb.workbench.jobs import Job

    job, moments = Job(video), [time.perf_counter()]

    def listen(event) -> None:
        if session is not None:
            optimization.synchronize(embeds.device.type)
            start, due = time.perf_counter(), not session._limit.active
            session._start_preview(event, job)
            if due:
                shown.append(time.perf_counter() - start)
        optimization.synchronize(embeds.device.type)
        moments.append(time.perf_counter())

    import torch

    with torch.no_grad():
        start = condition.from_text((video.frames - 1) // 4 + 1, loaded.transformer.config)
        text = torch.cat([embeds, embeds])
        generate._denoise(video, loaded, {0: text}, start, Noise(video.seed), listen, None)
    return [b - a for a, b in itertools.pairwise(moments)]


def embedded(steps: int):
    from cogvx_nb.checkpoints import store
    from cogvx_nb.pipeline import loader
    from cogvx_nb.planning import planner, probe, request

    video = request.make_request(store.locate_checkpoint("tiny"), PROMPT, frames=49, steps=steps)
    loaded = loader.load_pipeline(planner.plan_request(video, probe.probe_machine()))
    embeds, _ = loaded.pipe.encode_prompt(
        PROMPT, do_classifier_free_guidance=False, max_sequence_length=64
    )
    return video, loaded, embeds


def true_shapes(steps: int):
    import diffusers
    import torch

    from cogvx_nb.checkpoints import registry
    from cogvx_nb.pipeline.loader import Loaded
    from cogvx_nb.planning import request
    from cogvx_nb.planning.placements import NO_OFFLOAD
    from cogvx_nb.planning.plan import Plan

    known = registry.COGVIDEOX_5B
    model = registry.Model(known, Path(known.name), {}, known.parameters)
    video = request.VideoRequest(PROMPT, "", 49, steps, 480, 720, 6.0, 42, 8, model)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        transformer = diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=48,
            num_layers=42,
            attention_head_dim=64,
            sample_height=60,
            sample_width=90,
            use_rotary_positional_embeddings=True,
        )
        torch.set_default_dtype(torch.float32)
        vae = diffusers.AutoencoderKLCogVideoX()  # only its config is read
    scheduler = diffusers.CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    pipe = diffusers.CogVideoXPipeline(None, None, vae, transformer, scheduler)
    pipe.split = None  # one GPU does all
    embeds = torch.randn(1, 226, 4096, dtype=torch.bfloat16, device="cuda")
    plan = Plan(model, "cuda:0", "bfloat16", NO_OFFLOAD, False, 1, 0, 0, True)
    return video, Loaded(pipe, plan, {}), embeds


if __name__ == "__main__":
    main()
