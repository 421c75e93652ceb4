"""A user's own upscaling network, of a safetensors file, by spandrel's architectures.

spandrel (github.com/chaiNNer-org/spandrel) recognises them by the names and shapes of their
weights: ESRGAN, SPAN, DAT and some forty others.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CogvxError, ModelCorrupt, RequestError, optional_import
from ..hashing import sha256
from .needs import EXTRA, SPANDREL, own_file
from .tiles import Enlarger, Network

VALUES, OVERLAP = 4096.0, 32
"""Of a network about which nothing is known: twice the values of Real-ESRGAN's x4plus."""


class Described(nn.Module):
    """A network of spandrel, which pads pictures to the sides that it can take."""

    def __init__(self, descriptor) -> None:
        super().__init__()
        self.network, self.descriptor = descriptor.model, [descriptor]  # no child of this

    def forward(self, picture: Tensor) -> Tensor:
        return self.descriptor[0](picture)


def load(name: str, scale: int) -> tuple[Network, dict[str, str]]:
    """A network of a file, and the SHA-256 of its weights by the name of their file.

    Raises:
        RequestError: if there is no such file, or it doesn't do the scale.
        PickledWeights: if it is a pickle.
        ModelCorrupt: if it can't be read.
        CogvxError: if spandrel isn't installed or doesn't know its kind.
    """
    path = own_file(name)
    spandrel = _import_spandrel()
    try:
        weights = load_file(path)
    except Exception as error:
        raise ModelCorrupt(f"{path} can't be read ({_reason(error)}): fetch it again") from None
    descriptor = _describe(spandrel, path, weights)
    if descriptor.scale != scale:
        raise RequestError("scale", scale, f"{path.name} enlarges by {descriptor.scale}")
    network = Network(Described(descriptor), scale, VALUES, OVERLAP, descriptor.supports_half)
    return network, {path.name: sha256(path)}


def _import_spandrel() -> ModuleType:
    try:
        return optional_import(SPANDREL, EXTRA, "an upscaler of your own")
    except CogvxError:
        raise
    except Exception as error:  # torchvision, which it needs, may be of another torch
        raise CogvxError(
            f"spandrel can't be imported ({_reason(error)}): install the torchvision that belongs "
            f"to torch {torch.__version__}"
        ) from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


def _describe(spandrel, path: Path, weights: dict[str, Tensor]):
    try:
        found = spandrel.ModelLoader().load_from_state_dict(weights)
    except spandrel.UnsupportedModelError:
        raise CogvxError(f"{path} holds no network that spandrel knows") from None
    except Exception as error:
        raise ModelCorrupt(f"{path} is no whole network ({_reason(error)})") from None
    is_image = isinstance(found, spandrel.ImageModelDescriptor)
    if not is_image or (found.input_channels, found.output_channels) != (3, 3):
        raise CogvxError(f"{path} holds a network for something else than enlarging pictures")
    return found


def open_network(
    name: str,
    height: int,
    width: int,
    scale: int,
    device: str | None = None,
    tile: tuple[int, int] | None = None,
) -> tuple[Enlarger, dict[str, str]]:
    """What enlarges frames of a size, and the hash of its weights; raises what ``load`` does, and
    DoesNotFit if memory is too small."""
    network, weights = load(name, scale)
    with torch.no_grad():
        return Enlarger(network, height, width, device, tile), weights
