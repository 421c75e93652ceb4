"""``cogvx lora``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict

from ..text import full_number, plain_line, print_error
from .parser import add_subcommand

MOST_METADATA = 200
"""Characters of a text of the header that are shown."""


def add_lora(command: argparse.ArgumentParser) -> None:
    """The arguments of ``cogvx lora``."""
    actions = command.add_subparsers(metavar="inspect|list|download", required=True)
    inspecting = add_subcommand(actions, "inspect", inspect_lora, "orbit.safetensors")
    inspecting.add_argument("file", metavar="FILE", help="a LoRA, as safetensors")
    inspecting.add_argument("--json", action="store_true", help="all of it, layer by layer")
    add_subcommand(actions, "list", list_loras, "")
    fetching = add_subcommand(actions, "download", download_lora, "OWNER/NAME orbit.safetensors")
    fetching.add_argument("repo", metavar="OWNER/NAME", help="repository on the hub")
    fetching.add_argument("file", nargs="?", default="", help="its path there, if it has several")
    fetching.add_argument(
        "--source",
        choices=["auto", "modelscope", "huggingface"],
        default="auto",
        help="hub to use; auto: Hugging Face, then ModelScope (default: auto)",
    )
    fetching.add_argument("--endpoint", default="", metavar="URL", help="address of a mirror")
    fetching.add_argument("--send-token", action="store_true", help="send the mirror your token")


def list_loras(options: argparse.Namespace) -> int:
    """List the LoRAs in models/loras/: rank, models, trigger words and origin, or what is wrong."""
    from ..errors import RequestError
    from ..loras import download, library, reader

    kept = download.origins(library.loras_folder())
    for path in library.library():
        try:
            checkpoints = reader.fitting_checkpoints(path)
        except RequestError as error:
            print(plain_line(f"{path.stem}  {error.remedy}"))
            continue
        found, origin = reader.read_lora(path, checkpoints[0]), kept.get(path.name)
        trigger = found.metadata.get("modelspec.trigger_phrase", "")[:MOST_METADATA]
        changed = origin is not None and origin.sha256 != found.sha256
        cells = (
            path.stem,
            f"rank {max(layer.rank for layer in found.layers)}",
            ", ".join(one.name for one in checkpoints),
            trigger and f"trigger: {trigger}",
            origin and f"from {origin.repo} at {origin.source}",
            "changed since it was fetched" * changed,
        )
        print(plain_line("  ".join(filter(None, cells))))
    return 0


def download_lora(options: argparse.Namespace) -> int:
    """Download a LoRA from a hub into models/loras/, verified by size and SHA-256."""
    from ..loras.download import fetch_lora
    from ..progress import TransferProgress

    with TransferProgress() as progress:
        fetched = fetch_lora(
            options.repo,
            options.file,
            options.source,
            options.endpoint,
            options.send_token,
            on_event=progress,
        )
    listing = fetched.listing
    print_error(
        plain_line(
            f"{listing.repo}/{' and '.join(file.path for file in listing.files)} "
            f"(revision {listing.revision}), "
            f"fits {', '.join(fetched.fits)}; its licence is on its page"
        )
    )
    print(fetched.path)
    return 0


def inspect_lora(options: argparse.Namespace) -> int:
    """Print what a LoRA file is: format, checkpoints that it fits, scale, layers, metadata."""
    from ..checkpoints import store
    from ..loras import norms, reader

    checkpoints = reader.fitting_checkpoints(options.file)
    found, fitting = reader.read_lora(options.file, checkpoints[0]), [c.name for c in checkpoints]
    changes = norms.change_norms(found)
    bad = [name for name, norm in changes.items() if norm != norm]
    model = store.first_here(checkpoints)
    shares = norms.relative_changes(found, model) if model else {}
    if options.json:
        content = asdict(found) | {"path": str(found.path), "fits": fitting}
        content |= {"norms": _finite(changes), "relative_to": model and model.name}
        content |= {"relative": _finite(shares)}
        print(json.dumps(content, ensure_ascii=False, indent=2))
        return 0
    blocks = {layer.module.split(".")[1] for layer in found.layers if "blocks." in layer.module}
    scales = {
        f"{full_number(one.scale)} (alpha {full_number(one.alpha)} from {one.alpha_from}, "
        f"{'over the root of rank' if one.by_root else 'rank'} {one.rank})": None
        for one in found.layers
    }
    rows = {
        "format": found.format,
        "fits": ", ".join(fitting),
        "changes": f"{len(found.layers)} layers of {len(blocks)} block{'s' * (len(blocks) != 1)}",
        "scale": ", ".join(scales),
        "DoRA": f"{dora} layers" if (dora := sum(bool(x.magnitude) for x in found.layers)) else "",
        "norms": _listed(changes),
        "relative": f"to {model.name}: {_listed(shares)}" if shares else "",
        "NaN": f"or infinity in {', '.join(bad)}: fetch it again" if bad else "",
        "SHA-256": found.sha256,
    }
    for name, value in rows.items():
        if value:
            print(plain_line(f"{name:<9} {value}"))
    if found.metadata:
        print("header")
    for name, value in found.metadata.items():
        print(f"  {plain_line(name)[:MOST_METADATA]}: {plain_line(value)[:MOST_METADATA]}")
    return 0


def _listed(norms: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {norm:.3g}" for name, norm in norms.items())


def _finite(norms: Mapping[str, float]) -> dict[str, float | None]:
    """Norms as JSON has them: null for NaN."""
    return {name: norm if math.isfinite(norm) else None for name, norm in norms.items()}
