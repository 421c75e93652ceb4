"""Checkpoints on this machine: where they are, whether every weight is whole, their tokenizer."""

from __future__ import annotations

import contextlib
import functools
import json
import struct
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import ModelCorrupt, ModelError, ModelIncomplete, ModelMissing, PickledWeights
from ..files import sha256_all
from ..text import first_line
from . import manifest, registry
from .registry import Checkpoint

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
WEIGHTED = {
    "text_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""Components with weights, and the stem of their weight files."""

DECIDING = (".safetensors", ".json", ".model")
"""Endings of the files that decide what a checkpoint makes."""


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint that is on this machine, or one of its shapes with random weights.

    Attributes:
        checkpoint: what is known of it.
        folder: where its files are; None for random weights, which have none.
        bytes: stored bytes of each component with weights.
        parameters: number of parameters of each component with weights.
    """

    checkpoint: Checkpoint
    folder: Path | None
    bytes: dict[str, int]
    parameters: dict[str, int]

    @property
    def name(self) -> str:
        """The checkpoint's, with what must be known of it wherever it is shown."""
        return self.checkpoint.name if self.folder else f"{self.checkpoint.name} (random weights)"


def locate_checkpoint(name: str) -> Model:
    """Find a checkpoint by name, short name or folder, and check that it is whole.

    Reads the headers of the weight files, not their contents.

    Raises:
        ModelMissing, ModelIncomplete, ModelCorrupt, PickledWeights, ModelError: see ``errors``.
    """
    known = registry.find_checkpoint(name)
    folder = settings.models_dir() / known.name if known else Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise ModelMissing(_missing_message(name, known, folder))
    index = read_json(folder / "model_index.json")
    config = read_json(folder / "transformer" / "config.json")
    pipeline_class = index.get("_class_name", "")
    checkpoint = registry.checkpoint_of_config(config, pipeline_class)
    if checkpoint is None:
        raise ModelError(f"{folder} holds a {pipeline_class} that is none of: {_known_names()}")
    counts = {component: _count_parameters(folder, component) for component in WEIGHTED}
    for needed in ("scheduler/scheduler_config.json", "tokenizer"):
        if not (folder / needed).exists():
            raise ModelIncomplete(_incomplete_message(folder / needed, checkpoint))
    return Model(
        checkpoint=checkpoint,
        folder=folder,
        bytes={component: count[0] for component, count in counts.items()},
        parameters={component: count[1] for component, count in counts.items()},
    )


def available_checkpoints() -> list[Model]:
    """The checkpoints in the models folder that are whole and that this workbench runs."""
    found = []
    for checkpoint in registry.CHECKPOINTS:
        with contextlib.suppress(ModelError):
            if not checkpoint.cannot_run:
                found.append(locate_checkpoint(checkpoint.name))
    return found


def download_command(checkpoint: Checkpoint) -> str:
    """The shell command that fetches a checkpoint into the models folder."""
    return _fetch_command(checkpoint)


def file_hashes(model: Model) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint that decides its results, by relative path.

    A file that is older than the manifest and as long as it says is taken by its word, so that
    21 GB are not read at every start; others are hashed, once a process.
    """
    if model.folder is None:
        return {"random weights": model.checkpoint.name}
    known = manifest.read_manifest(model.folder)
    written = (model.folder / manifest.NAME).stat().st_mtime_ns if known else 0
    hashes, unknown = {}, {}
    for path in sorted(model.folder.rglob("*")):
        relative = path.relative_to(model.folder)
        name = relative.as_posix()
        if path.suffix not in DECIDING or relative.parts[0][0] == "." or name == manifest.NAME:
            continue
        status = path.stat()
        listed = known.files.get(name) if known else None
        if listed and listed.bytes == status.st_size and status.st_mtime_ns <= written:
            hashes[name] = listed.sha256
        else:
            unknown[name] = (path, status.st_size, status.st_mtime_ns)
    fresh = [key for key in unknown.values() if key not in _hashed]
    found = sha256_all([path for path, _, _ in fresh])
    _hashed.update({key: found[key[0]] for key in fresh})
    return dict(sorted((hashes | {name: _hashed[key] for name, key in unknown.items()}).items()))


_hashed: dict[tuple[Path, int, int], str] = {}
"""SHA-256 by path, size and modification time, of this process."""


def _count_parameters(folder: Path, component: str) -> tuple[int, int]:
    """(stored bytes, parameters) of a component, from its safetensors headers."""
    home, stem = folder / component, WEIGHTED[component]
    index = home / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
        if not shards:
            raise ModelCorrupt(f"{index} lists no files: {_repair_hint(folder)}")
    else:
        shards = [f"{stem}.safetensors"]
    missing = [shard for shard in shards if not (home / shard).is_file()]
    if missing:
        pickles = sorted(path.name for kind in PICKLES for path in home.glob(kind))
        if pickles:
            raise PickledWeights(
                f"{home / pickles[0]} is a pickle, which can run any code when opened, so it is "
                "not loaded: use a checkpoint with .safetensors weights"
            )
        raise ModelIncomplete(
            _incomplete_message(home / missing[0], registry.find_checkpoint(folder.name))
        )
    totals = [_read_header(home / shard) for shard in shards]
    return sum(total[0] for total in totals), sum(total[1] for total in totals)


def _read_header(path: Path) -> tuple[int, int]:
    """(bytes of data, parameters) that a safetensors file declares, if it is as long as it says.

    The format is 8 bytes of header length, a JSON header with the offsets of each tensor, then data
    (https://github.com/huggingface/safetensors#format).
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = max(tensor["data_offsets"][1] for tensor in header.values())
        parameters = sum(_product(tensor["shape"]) for tensor in header.values())
    except OSError as error:
        raise ModelCorrupt(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise ModelCorrupt(
            f"{path} is no safetensors file: {_repair_hint(path.parents[1])}"
        ) from error
    if size != 8 + length + data:
        raise ModelCorrupt(
            f"{path} has {size:,} bytes of {8 + length + data:,}: {_repair_hint(path.parents[1])}"
        )
    return data, parameters


def _product(shape: list[int]) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        folder = path.parent if path.name == "model_index.json" else path.parents[1]
        raise ModelIncomplete(
            _incomplete_message(path, registry.find_checkpoint(folder.name))
        ) from error
    except (OSError, ValueError) as error:
        raise ModelCorrupt(f"{path} can't be read as JSON: fetch it again") from error


def _missing_message(name: str, known: Checkpoint | None, folder: Path) -> str:
    if known is None:
        return f"model {name!r} is no folder and none of: {_known_names()}"
    return f"no {known.name} at {folder}: {_fetch_command(known)}"


def _incomplete_message(path: Path, known: Checkpoint | None) -> str:
    remedy = _fetch_command(known) if known else "copy or download the whole checkpoint"
    return f"{path} is missing, so the checkpoint is incomplete: {remedy}"


def _repair_hint(folder: Path) -> str:
    known = registry.find_checkpoint(folder.name)
    return (
        f"mend it with {_fetch_command(known, 'verify --repair')!r}" if known else "fetch it again"
    )


def _fetch_command(known: Checkpoint, what: str = "download") -> str:
    if known.modelscope:
        return f"cogvx {what} {known.name}"
    return f"git checkout -- models/{known.name}"


def _known_names() -> str:
    return ", ".join(checkpoint.name for checkpoint in registry.CHECKPOINTS)


def random_model(checkpoint: Checkpoint) -> Model:
    """A model of a checkpoint's shapes, of which there are no files."""
    return Model(checkpoint, None, {}, checkpoint.parameters)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt as a tokenizer sees it.

    Attributes:
        count: tokens, end token included.
        limit: most tokens that the checkpoint reads, end token included.
        unknown: how many of them the tokenizer doesn't know.
        unknown_share: part of the prompt that the model can't see, 0 … 1: by tokens or by
            characters, whichever is more (T5 makes one token of a whole unknown sentence).
        cut: the end of the prompt that is beyond the limit and has no effect; empty if it fits.
    """

    count: int
    limit: int
    unknown: int
    unknown_share: float
    cut: str


def count_tokens(model: Model, text: str) -> Tokens:
    """Count a prompt's tokens with the checkpoint's own tokenizer.

    Raises:
        ModelCorrupt: if the tokenizer can't be loaded.
    """
    return _count_tokens(_tokenizer_folder(model), model.checkpoint.text_tokens, text)


@functools.lru_cache(maxsize=256)  # sweeps ask for a prompt by the thousand
def _count_tokens(folder: Path, limit: int, text: str) -> Tokens:
    tokenizer = _load_tokenizer(folder)
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    spans = list(zip(encoded.input_ids, encoded.offset_mapping, strict=True))
    lengths = {True: [], False: []}
    for token, (start, end) in spans:
        characters = len(text[start:end].strip())
        if characters:  # neither the end token nor a bare space
            lengths[token == tokenizer.unk_token_id].append(characters)
    unknown, known = lengths[True], lengths[False]
    cut_at = spans[limit - 1][1][0] if len(spans) > limit else len(text)
    return Tokens(
        count=len(spans),
        limit=limit,
        unknown=len(unknown),
        unknown_share=max(
            _unknown_share(len(unknown), len(known)), _unknown_share(sum(unknown), sum(known))
        ),
        cut=text[cut_at:].strip(),
    )


def _unknown_share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0


def load_tokenizer(model: Model):
    """The checkpoint's tokenizer, of the class that its ``model_index.json`` names.

    Random weights come without one, and take the embedded checkpoint's.

    Raises:
        ModelCorrupt: if it can't be loaded.
    """
    return _load_tokenizer(_tokenizer_folder(model))


def _tokenizer_folder(model: Model) -> Path:
    return model.folder or settings.models_dir() / registry.TINY.name


@functools.lru_cache(maxsize=4)
def _load_tokenizer(folder):
    import transformers

    library, name = read_json(folder / "model_index.json").get("tokenizer", ("transformers", ""))
    if library != "transformers" or not hasattr(transformers, name):
        raise ModelCorrupt(f"{folder / 'model_index.json'} names no known tokenizer: {name!r}")
    try:
        return getattr(transformers, name).from_pretrained(folder / "tokenizer")
    except Exception as error:  # the library raises whatever its parsers do
        reason = first_line(error)
        raise ModelCorrupt(f"{folder / 'tokenizer'} can't be loaded: {reason}") from error
