"""Repositories of the whole family: the layout of the real ones, a millionth of their size."""

from __future__ import annotations

import json
import random
from pathlib import Path

from cogvx_nb.checkpoints import registry
from cogvx_nb.checkpoints.registry import Checkpoint

T5 = tuple(f"text_encoder/model-0000{n}-of-00002.safetensors" for n in (1, 2))
VAE = "vae/diffusion_pytorch_model.safetensors"
HOSTED = tuple(known for known in registry.CHECKPOINTS if not known.is_embedded)

TEXT_ENCODERS = {2: (4990, 4534), 4: (4990, 5000, 4870, 4190)}
"""Sizes of the text encoder's files, by bytes of a parameter: all that have as many share them."""


def weights(seed: str, size: int, name: str) -> bytes:
    """A safetensors file of so many bytes with one tensor of noise."""
    for room in range(100, 140):
        count = (size - 8 - room) // 2
        header = {name: {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}
        text = json.dumps(header).encode()
        if len(text) <= room and 8 + room + 2 * count == size:
            noise = random.Random(seed).randbytes(2 * count)
            return room.to_bytes(8, "little") + text.ljust(room) + noise
    raise ValueError(f"no {size} bytes for {name}")


def component(stem: str, seed: str, sizes: tuple[int, ...]) -> dict[str, bytes]:
    """The weight files of a component, with an index if there are several."""
    if len(sizes) == 1:
        return {f"{stem}.safetensors": weights(seed, sizes[0], "w")}
    names = [f"{stem}-{n:05}-of-{len(sizes):05}.safetensors" for n in range(1, len(sizes) + 1)]
    files = {
        name: weights(seed + name, size, name) for name, size in zip(names, sizes, strict=True)
    }
    index = {"metadata": {}, "weight_map": {name: name for name in names}}
    return files | {f"{stem}.safetensors.index.json": json.dumps(index).encode()}


def repository(known: Checkpoint, folder: Path) -> Path:
    """Write the repository of a checkpoint."""
    config = dict(zip(registry.ARCHITECTURE_KEYS, known.architecture, strict=True))
    config |= {"in_channels": known.in_channels, "seed": known.name}
    config |= {"patch_size_t": known.patch_frames if known.patch_frames > 1 else None}
    config |= {"use_learned_positional_embeddings": known.learned_positions}
    config |= {"ofs_embed_dim": 512 if known.offset else None}
    kind, wide = known.stored["vae"], known.stored["text_encoder"]
    vae = "2b" if known.vae_scaling_factor > 1 else "5b"
    transformer = known.parameters["transformer"] * 2 // 10**6
    sizes = (transformer - 1220, 1220) if transformer > 9000 else (transformer,)
    parts = {
        "text_encoder": component("model", f"t5 {wide}", TEXT_ENCODERS[wide])
        | {"config.json": b'{"d_model": 4096}'},
        "transformer": component("diffusion_pytorch_model", known.name, sizes)
        | {"config.json": json.dumps(config).encode()},
        "vae": component("diffusion_pytorch_model", f"vae {vae} {kind}", (216 * kind,))
        | {"config.json": b'{"scaling_factor": 0.7}'},
        "scheduler": {"scheduler_config.json": b'{"prediction_type": "v_prediction"}'},
        "tokenizer": {
            "spiece.model": random.Random("t5").randbytes(792),
            "tokenizer_config.json": b"{}",
            "added_tokens.json": b'{"<extra_id_0>": 32099}',
        },
        ".": {
            "model_index.json": b'{"_class_name": "CogVideoXPipeline"}',
            "README.md": known.name.encode(),
        },
    }
    for part, files in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / part / name).write_bytes(content)
    return folder


def family_repositories(folder: Path) -> dict[str, Path]:
    """All of them by the ids that they have on the two hubs."""
    repositories = {}
    for known in HOSTED:
        path = repository(known, folder / known.name)
        repositories |= {repo: path for repo in (known.modelscope, known.huggingface) if repo}
    return repositories
