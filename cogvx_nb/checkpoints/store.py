"""Checkpoints on this machine: where their folders are, and whether all weights are whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from .. import settings
from ..errors import (
    ModelCorrupt,
    ModelError,
    ModelIncomplete,
    ModelMissing,
    PickledWeights,
    did_you_mean,
)
from ..paths import read_json, user_path
from . import manifest, registry
from .file_hashes import computed_hashes, listed_hashes
from .headers import Tensor, read_header, read_tensors
from .registry import Checkpoint, Model

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
WEIGHTED = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""Components with weights, and the stem of their weight files."""

HASHED_SUFFIXES = (".safetensors", ".json", ".model")
"""Files that decide the results of a checkpoint."""


def locate_checkpoint(name: str) -> Model:
    """Find a checkpoint by name, short name or folder, and check that it is whole.

    Reads the headers of the weight files, not their contents.

    Raises:
        ModelMissing, ModelIncomplete, ModelCorrupt, PickledWeights, ModelError: see ``errors``.
    """
    known = registry.find_checkpoint(name)
    folder = _named_folder(name, known)
    if not folder.is_dir():
        raise ModelMissing(_missing_message(name, known, folder))
    shared = _shared_folder(folder)
    index = read_config((shared or folder) / "model_index.json")
    config = read_config(folder / "transformer" / "config.json")
    pipeline_class = str(index.get("_class_name", ""))
    checkpoint = registry.checkpoint_of_config(config, folder.name)
    if checkpoint is None:
        kind = str(pipeline_class or "pipeline without a class")[:60]
        raise ModelError(f"{folder} holds a {kind} that is none of: {_known_names()}")
    model = Model(checkpoint, folder, {}, {}, shared)
    counts = {component: _count_parameters(model.part(component)) for component in WEIGHTED}
    for needed in (model.part("scheduler") / "scheduler_config.json", model.part("tokenizer")):
        if not needed.exists():
            raise ModelIncomplete(_incomplete_message(needed, checkpoint))
    return replace(
        model,
        bytes={component: count[0] for component, count in counts.items()},
        parameters={component: count[1] for component, count in counts.items()},
    )


def _shared_folder(folder: Path) -> Path | None:
    """Folder of the checkpoint whose other parts go with those in a folder, by its manifest.

    Raises:
        ModelIncomplete: if that isn't there.
    """
    listed = manifest.read_manifest(folder)
    if listed is None or not listed.shares:
        return None
    known = registry.find_checkpoint(listed.shares)
    shared = folder.parent / (known.name if known else "")
    if known is None or not shared.is_dir():
        remedy = download_command(known) if known else "fetch it again"
        raise ModelIncomplete(f"{folder} needs {listed.shares!r:.80} beside it: {remedy}")
    return shared


def available_checkpoints() -> list[Model]:
    """The checkpoints in the models folder that are whole."""
    return list(_whole(registry.CHECKPOINTS))


def first_here(checkpoints: Iterable[Checkpoint]) -> Model | None:
    """The first of some checkpoints that is in the models folder and whole."""
    return next(_whole(checkpoints), None)


def _whole(checkpoints: Iterable[Checkpoint]) -> Iterator[Model]:
    for checkpoint in checkpoints:
        with contextlib.suppress(ModelError):
            yield locate_checkpoint(checkpoint.name)


def download_command(checkpoint: Checkpoint) -> str:
    """The shell command that fetches a checkpoint into the models folder."""
    if not checkpoint.is_embedded:
        return f"cogvx download {checkpoint.name}"
    return f"git checkout -- models/{checkpoint.name}"


def file_hashes(model: Model) -> dict[str, str]:
    """SHA-256 by relative path of every file that decides the results of a checkpoint.

    The manifest is trusted for a file of the listed size that is older than it, so that 21 GB are
    not read at every start; other files are hashed, once per process.
    """
    if model.folder is None:
        return {"random weights": model.checkpoint.name}
    own = _folder_hashes(model.folder)
    if model.shared is None:
        return own
    parts = {name.split("/")[0] for name in own if "/" in name}
    others = _folder_hashes(model.shared).items()
    used = {name: value for name, value in others if name.split("/")[0] not in parts}
    return dict(sorted((used | own).items()))


def _folder_hashes(folder: Path) -> dict[str, str]:
    paths = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = relative.parts[0].startswith(".")
        if hidden or path.suffix not in HASHED_SUFFIXES or relative.as_posix() == manifest.NAME:
            continue
        if not path.is_file():  # a folder, a pipe, or a link that leads nowhere
            raise ModelCorrupt(f"{path} is no file: remove it")
        paths.append(path)
    hashes = listed_hashes(folder, paths)
    hashes |= computed_hashes(path for path in paths if path not in hashes)
    return {
        name: hashes[folder / name]
        for name in sorted(p.relative_to(folder).as_posix() for p in paths)
    }


def weight_tensors(home: Path) -> dict[str, tuple[Path, Tensor]]:
    """The file of each weight of a component's folder and where it stands in it, by name.

    Raises:
        ModelError: if they aren't whole.
    """
    remedy = _repair_hint(home.parent)
    return {
        name: (path, tensor)
        for path in _weight_files(home)
        for name, tensor in read_tensors(path, remedy)[0].items()
    }


def _count_parameters(home: Path) -> tuple[int, int]:
    """Stored bytes and parameters of a component's folder, from its safetensors headers."""
    remedy = _repair_hint(home.parent)
    headers = [read_header(path, remedy) for path in _weight_files(home)]
    stored, parameters, tensors = (sum(counts) for counts in zip(*headers, strict=True))
    index = _weight_index(home)
    if index.is_file() and tensors > len(read_config(index)["weight_map"]):
        raise ModelCorrupt(f"{index} lists fewer weights than its files hold: fetch it again")
    return stored, parameters


def _weight_index(home: Path) -> Path:
    """What lists a component's weight files, where it has several."""
    return home / f"{WEIGHTED[home.name]}.safetensors.index.json"


def _weight_files(home: Path) -> list[Path]:
    """The safetensors files of a component's folder.

    Raises:
        ModelError: if one is missing.
    """
    index = _weight_index(home)
    shards = _listed_shards(index) if index.is_file() else [f"{WEIGHTED[home.name]}.safetensors"]
    missing = [shard for shard in shards if not (home / shard).is_file()]
    if missing:
        pickles = sorted(path.name for kind in PICKLES for path in home.glob(kind))
        if pickles:
            raise PickledWeights(
                f"{home / pickles[0]} is a pickle, which can run any code when opened, so it is "
                "not loaded: use a checkpoint with .safetensors weights"
            )
        raise ModelIncomplete(
            _incomplete_message(home / missing[0], registry.find_checkpoint(home.parent.name))
        )
    return [home / shard for shard in shards]


def _listed_shards(index: Path) -> list[str]:
    """Names of the weight files that an index lists, all in its own folder.

    Raises:
        ModelCorrupt: if it lists none, or something else.
    """
    listed = read_config(index).get("weight_map")
    names = set(listed.values()) if isinstance(listed, dict) and _all_text(listed) else set()
    if not names or any(Path(name).name != name for name in names):
        raise ModelCorrupt(f"{index} lists no files: {_repair_hint(index.parents[1])}")
    return sorted(names)


def _all_text(values: dict) -> bool:
    return all(isinstance(value, str) for value in values.values())


def read_config(path: Path) -> dict:
    """The object in a JSON file of a checkpoint.

    Raises:
        ModelIncomplete, ModelCorrupt: if it is missing or no JSON.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("no object")
        return content
    except FileNotFoundError as error:
        folder = path.parent if path.name == "model_index.json" else path.parents[1]
        raise ModelIncomplete(
            _incomplete_message(path, registry.find_checkpoint(folder.name))
        ) from error
    except (OSError, ValueError) as error:
        raise ModelCorrupt(f"{path} can't be read as JSON: fetch it again") from error


def _missing_message(name: str, known: Checkpoint | None, folder: Path) -> str:
    if known is None:
        hint = did_you_mean(name, [checkpoint.name for checkpoint in registry.CHECKPOINTS])
        return f"model {name!r} is no folder and none of: {_known_names()}{hint}"
    return f"no {known.name} at {folder}: {download_command(known)}"


def _incomplete_message(path: Path, known: Checkpoint | None) -> str:
    remedy = download_command(known) if known else "copy or download the whole checkpoint"
    return f"{path} is missing, so the checkpoint is incomplete: {remedy}"


def _repair_hint(folder: Path) -> str:
    known = registry.find_checkpoint(folder.name)
    if known is None:
        return "fetch it again"
    if not known.is_embedded:
        return f"repair it with 'cogvx verify --repair {known.name}'"
    return f"repair it with {download_command(known)!r}"


def _known_names() -> str:
    return ", ".join(checkpoint.name for checkpoint in registry.CHECKPOINTS)


def random_model(checkpoint: Checkpoint) -> Model:
    """Random weights of a checkpoint's shapes."""
    return Model(checkpoint, None, {}, checkpoint.parameters)


def checkpoint_folder(name: str) -> Path:
    """The folder of a checkpoint, by its name or alias, or by the folder's path.

    Raises:
        ModelMissing: if there is none.
    """
    known = registry.find_checkpoint(name)
    folder = _named_folder(name, known)
    if not folder.is_dir():
        raise ModelMissing(f"there is no {folder}: download it, or name one of {_known_names()}")
    return folder


def _named_folder(name: str, known: Checkpoint | None) -> Path:
    return settings.models_dir() / known.name if known else user_path(name, "model", folder=True)
