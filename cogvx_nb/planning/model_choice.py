"""Which checkpoint makes a video, where a request leaves that open."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..checkpoints import registry, store
from ..checkpoints.registry import Model
from ..errors import DoesNotFit, ModelError, ModelMissing
from ..loras.given import read_loras
from ..loras.reader import readable_with
from .fit import nearest
from .inputs import tasks_with
from .machine import Machine
from .planner import predict_plan


def find_model(
    name: str,
    probe: Callable[[], Machine],
    frames: int = 13,
    given: Collection[str] = (),
    lora: str = "",
) -> tuple[Model, str]:
    """Find the checkpoint to run, and say why where it wasn't named.

    ``auto`` is the first large checkpoint for what is given, CogVideoX-5b for text alone, where it
    is complete and a plan for it fits a GPU, else the embedded one. With LoRAs it is one of those
    that they fit.

    Args:
        probe: describes the machine; called only where that decides.
        given: names of the request's fields with a picture or a clip.
        lora: that field of the request.

    Returns:
        (model, note): the note is empty when a model was named.

    Raises:
        ModelError: if a named model is missing or incomplete.
        RequestError: if a LoRA can't be used with any for what is given.
    """
    if name.strip().lower() != "auto":
        return store.locate_checkpoint(name), ""
    task = (tasks_with(given) or [registry.TEXT])[0]
    able = [known for known in registry.CHECKPOINTS if task in known.tasks]
    able = readable_with(able, lambda known: read_loras(lora, known))
    large = next((known for known in able if not known.is_embedded), None)
    embedded = next((known for known in able if known.is_embedded), None)
    if large is None:
        return store.locate_checkpoint(embedded.name), f"{embedded.name}, which the LoRA is for"
    try:
        model = store.locate_checkpoint(large.name)
        if (machine := probe()).gpus:
            predict_plan(model, machine, nearest(frames, large.frames))
            return model, f"{large.name}, which fits the GPU here"
        reason = f"there is no GPU here; name {large.name} to run it on the CPU"
    except ModelMissing:
        command = store.download_command(large)
        reason = f"{large.name} is not on this machine; get it with: {command}"
    except (ModelError, DoesNotFit) as error:
        reason = str(error)
    if embedded is None:
        return store.locate_checkpoint(large.name), f"{large.name}, which the LoRA is for"
    return store.locate_checkpoint(embedded.name), f"the small embedded {embedded.name}: {reason}"
