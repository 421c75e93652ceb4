"""From a folder of examples to a LoRA file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import leftovers, settings
from ..checkpoints import headers, store
from ..checkpoints.registry import LATENT_CHANNELS, Model
from ..errors import Cancelled, DeviceFailed, ModelCorrupt, OutOfMemory, OutputExists, RequestError
from ..events import CancelToken
from ..loras.writer import write_lora
from ..paths import user_path
from ..pipeline.components import make_part, make_scheduler
from ..pipeline.failures import is_out_of_memory
from ..pipeline.loader import release_pipeline
from ..pipeline.optimization import free_memory
from ..planning.probe import probe_machine
from ..text import plain_line
from .encoding import encode_examples, encode_texts
from .examples import Example, read_examples
from .loop import Training
from .recipe import Recipe

KEY, LOSSES = "cogvx.training", "cogvx.losses"
"""Of a file's header: a hash of what was trained on what, and the loss of each step."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A LoRA that was trained."""

    path: Path
    losses: tuple[float, ...]  # of each step


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A step is done."""

    step: int  # from 1
    steps: int
    loss: float


def train_lora(
    data: str | Path,
    name: str,
    *,
    model: str = "tiny",
    recipe: Recipe | None = None,
    caption: str = "",
    trigger: str = "",
    licence: str = "",
    folder: Path | None = None,
    on_event: Callable[[TrainingStep], None] | None = None,
    cancel: CancelToken | None = None,
) -> Trained:
    """Train a LoRA, or go on with a run of the same values that was interrupted.

    Args:
        data: folder of clips or pictures; see ``examples.read_examples``.
        name: of the file, without ``.safetensors``. If it was trained by these very values before,
            it is returned.
        licence: of what is trained, for the header.
        folder: where; by default ``models/loras/``.
        cancel: takes effect at the next step, which is kept.

    Raises:
        OutputExists: if another file has the name.
        Cancelled: if it was cancelled.
        OutOfMemory: on the GPU with the most free memory, or without one in RAM.
        CogvxError: with the value and the remedy.
    """
    leftovers.begin(settings.outputs_dir())
    recipe, folder = recipe or Recipe(), folder or settings.models_dir() / "loras"
    path, found = _target(folder, name), store.locate_checkpoint(model)
    _check_model(found, recipe)
    examples = read_examples(data, caption, trigger)
    key = _key(found, examples, recipe, trigger, licence)
    if path.exists():
        return _trained_before(path, key)
    check = _checker(cancel)
    release_pipeline()
    work = folder / ".training"
    state = work / f"{path.stem}.safetensors"
    with _memory_errors(recipe):
        training = prepare(found, examples, recipe, work / "encoded", check)
        training.resume(state, key)
        _run(training, state, key, on_event or (lambda event: None), check)
    matrices = {
        module: tuple(m.detach().half().cpu().numpy() for m in (adapter.down, adapter.up))
        for module, adapter in training.adapters.items()
    }
    about = _header(path.stem, found, recipe, trigger, licence, len(examples))
    about |= {KEY: key, LOSSES: json.dumps([round(loss, 4) for loss in training.losses])}
    write_lora(path, matrices, recipe.scale * recipe.rank, about)
    state.unlink(missing_ok=True)
    return Trained(path, tuple(training.losses))


def _target(folder: Path, name: str) -> Path:
    if not isinstance(name, str) or not name or Path(name).name != name or name.startswith("."):
        raise RequestError("name", name, "give a file's name, such as my-style")
    stem = name.removesuffix(".safetensors")
    return user_path(folder / f"{stem}.safetensors", "name", new=True)


def _check_model(model: Model, recipe: Recipe) -> None:
    checkpoint = model.checkpoint
    if checkpoint.in_channels != LATENT_CHANNELS:
        remedy = "sees pictures or clips too: train with a checkpoint of text alone"
        raise RequestError("model", checkpoint.name, f"{remedy}, such as CogVideoX-5b")
    if recipe.frames % 4 != 1:
        raise RequestError("frames", recipe.frames, "give 4 N + 1, such as 13 or 49")


def _key(model: Model, examples: list[Example], recipe: Recipe, *texts: str) -> str:
    hashes = sorted(store.file_hashes(model).items())
    shown = [(e.sha256, e.caption) for e in examples]
    values = dataclasses.asdict(recipe)
    del values["save_every"]  # which changes no weight
    parts = [hashes, shown, values, texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _trained_before(path: Path, key: str) -> Trained:
    try:
        _, metadata = headers.read_tensors(path, "choose another name")
        if metadata.get(KEY) == key:
            return Trained(path, tuple(map(float, json.loads(metadata[LOSSES]))))
    except (ModelCorrupt, ValueError, KeyError):
        pass
    raise OutputExists(f"{path} exists and was trained otherwise: choose another name")


@contextlib.contextmanager
def _memory_errors(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        free_memory()
        used = f"frames {recipe.frames}, batch {recipe.batch}, rank {recipe.rank}"
        remedy = "train with fewer frames, batch 1 or a smaller rank"
        raise OutOfMemory(f"memory ran out at {used}: {remedy}; the same call goes on") from error


def _checker(cancel: CancelToken | None) -> Callable[[], None]:
    def check() -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled("training was cancelled; the same call goes on with it")

    return check


def training_dtype(model: Model, device: str) -> torch.dtype:
    """float32 on a CPU and for the embedded checkpoint, bfloat16 otherwise, also where a
    checkpoint was trained in float16, whose gradients would need scaling."""
    small = device == "cpu" or model.checkpoint.gpu_dtype == "float32"
    return torch.float32 if small else torch.bfloat16


def prepare(
    model: Model,
    examples: list[Example],
    recipe: Recipe,
    folder: Path,
    check: Callable[[], None] = lambda: None,
) -> Training:
    """Everything of a run, before its first step.

    Args:
        folder: for what examples are encoded as.
        check: called before each example; may raise.
    """
    gpu = probe_machine().gpu_with_most_free_memory
    device = "cpu" if gpu is None else f"cuda:{gpu.index}"
    dtype = training_dtype(model, device)
    encoded = encode_examples(examples, model, recipe.frames, folder, device, dtype, check)
    no_text = encode_texts({""}, model, device, dtype)[""]
    transformer = make_part("transformer", model, dtype, device).to(device)
    factor = model.checkpoint.vae_scaling_factor
    return Training(transformer, make_scheduler(model), encoded, no_text, factor, recipe)


def _run(
    training: Training, state: Path, key: str, emit: Callable, check: Callable[[], None]
) -> None:
    recipe = training.recipe
    while training.step < recipe.steps:
        try:
            check()
        except Cancelled:
            training.save(state, key)
            raise
        loss = training.advance()
        if not math.isfinite(loss):
            state.unlink(missing_ok=True)
            raise DeviceFailed(
                f"step {training.step} has a loss of {loss}: train with a lower learning_rate "
                f"than {recipe.learning_rate:g}"
            )
        if training.step % recipe.save_every == 0:
            training.save(state, key)
        emit(TrainingStep(training.step, recipe.steps, loss))


def _header(
    name: str, model: Model, recipe: Recipe, trigger: str, licence: str, count: int
) -> dict[str, str]:
    """Keys as other trainers write them (Stability AI's modelspec, kohya's ss_), and the recipe."""
    base = model.checkpoint.name
    texts = {
        "modelspec.title": name,
        "modelspec.architecture": f"{base}/lora",
        "modelspec.trigger_phrase": trigger,
        "modelspec.license": licence,
        "ss_base_model_version": base,
        "ss_num_train_images": str(count),
        "recipe": json.dumps(dataclasses.asdict(recipe)),
    }
    return {key: plain_line(value) for key, value in texts.items() if value}
