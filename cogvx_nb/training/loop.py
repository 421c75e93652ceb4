"""The training loop: what a step computes, and how it is kept and taken up again."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from .. import files
from ..pipeline.condition import OFS, padding_of
from ..pipeline.positions import cut_learned_positions, rotary_positions
from .adapters import LoraLinear, add_adapters
from .encoding import Encoded
from .recipe import Recipe

BETAS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.95), 1e-4, 1.0
"""Of AdamW and the gradient: those of diffusers' examples/cogvideo/train_cogvideox_lora.py."""

WARM_UP = 10
"""Steps in which the rate rises; then it falls by half a cosine."""

DROPPED_TEXT = 0.1
"""Share of steps without text, which guidance needs (of the authors' training: ``ucg_rate``)."""


def velocity_loss(
    transformer, scheduler, clean: Tensor, noise: Tensor, times: Tensor, text: Tensor
) -> Tensor:
    """Mean squared error of the predicted velocity.

    The authors and diffusers weight the error of the clean latents by 1 / (1 - ᾱ), which is this.

    Args:
        clean, noise: (batch, latent frames, 16, height / 8, width / 8), float32, scaled and padded.
        times: (batch,) of 0 … 999.
        text: (batch, tokens, width).
    """
    config, dtype = transformer.config, next(transformer.parameters()).dtype
    noisy = scheduler.add_noise(clean, noise, times)
    rotary = rotary_positions(config, clean.shape[1], *clean.shape[-2:], clean.device)
    ofs = None if config.ofs_embed_dim is None else noisy.new_full((1,), OFS).to(dtype)
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        velocity = transformer(
            hidden_states=noisy.to(dtype),
            encoder_hidden_states=text.to(dtype),
            timestep=times,
            ofs=ofs,
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
    return F.mse_loss(velocity.float(), scheduler.get_velocity(clean, noise, times))


class Training:
    """A transformer with its adapters, between two steps.

    All that is random comes from one generator on the CPU, so that a run that is taken up again
    gives the same weights.
    """

    def __init__(
        self,
        transformer,
        scheduler,
        encoded: Sequence[Encoded],
        no_text: Tensor,
        scaling_factor: float,
        recipe: Recipe,
    ) -> None:
        self.transformer, self.scheduler, self.recipe = transformer.eval(), scheduler, recipe
        self.encoded, self.no_text, self.scaling_factor = encoded, no_text, scaling_factor
        self.device = next(transformer.parameters()).device
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.adapters: dict[str, LoraLinear] = add_adapters(
            transformer, recipe.layers, recipe.rank, recipe.scale, self.generator
        )
        cut_learned_positions(transformer)
        if self.device.type != "cpu":  # saves memory for a third more time
            transformer.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self.losses: list[float] = []

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [p for adapter in self.adapters.values() for p in (adapter.down, adapter.up)]

    @property
    def step(self) -> int:
        """Steps that are done."""
        return len(self.losses)

    def advance(self) -> float:
        """Do a step; returns its loss."""
        clean, noise, times, text = (each.to(self.device) for each in self._batch())
        loss = velocity_loss(self.transformer, self.scheduler, clean, noise, times, text)
        self.optimizer.param_groups[0]["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return self.losses[-1]

    def _rate(self) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps))
        return self.recipe.learning_rate * min(1.0, (self.step + 1) / WARM_UP) * cosine

    def _batch(self) -> tuple[Tensor, ...]:
        """Clean latents, noise, timesteps and text of examples of one length."""
        draw, size = self.generator, self.recipe.batch
        first = self.encoded[int(torch.randint(len(self.encoded), (1,), generator=draw))]
        alike = [e for e in self.encoded if e.mean.shape == first.mean.shape]
        picked = torch.randint(len(alike), (size,), generator=draw).tolist()
        chosen = [alike[index] for index in picked]
        mean, std = (torch.stack([getattr(e, n) for e in chosen]) for n in ("mean", "std"))
        clean = mean + std * torch.randn(mean.shape, generator=draw)
        padding = padding_of(clean.shape[1], self.transformer.config)
        clean = self.scaling_factor * torch.cat([clean[:, :1]] * padding + [clean], dim=1)
        noise = torch.randn(clean.shape, generator=draw)
        most = self.scheduler.config.num_train_timesteps
        times = torch.randint(most, (size,), generator=draw)
        dropped = torch.rand(size, generator=draw) < DROPPED_TEXT
        texts = [self.no_text if d else e.text for d, e in zip(dropped, chosen, strict=True)]
        return clean, noise, times, torch.stack(texts)

    def save(self, path: Path, key: str) -> None:
        """Write all that the next step depends on, whole.

        Args:
            key: of what is trained on what.
        """
        tensors = {f"weight.{i}": p.detach() for i, p in enumerate(self.parameters)}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"state.{index}.{name}": value for name, value in values.items()}
        tensors["generator"] = self.generator.get_state()
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        content = safetensors.torch.save(tensors, {"key": key, "losses": json.dumps(self.losses)})
        with files.translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, content)

    def resume(self, path: Path, key: str) -> bool:
        """Go on from what ``save`` wrote; False where there is nothing of this key."""
        with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError):
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != key:
                    return False
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            losses = [float(value) for value in json.loads(metadata["losses"])]
            weights = [tensors[f"weight.{i}"] for i in range(len(self.parameters))]
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("state."):
                    _, index, field = name.split(".")
                    state.setdefault(int(index), {})[field] = value
            generator = torch.Generator()
            generator.set_state(tensors["generator"])
            if any(p.shape != w.shape for p, w in zip(self.parameters, weights, strict=True)):
                return False
            # All of it is read: from here on the model changes.
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
            with torch.no_grad():
                for parameter, weight in zip(self.parameters, weights, strict=True):
                    parameter.copy_(weight)
            self.generator.set_state(generator.get_state())
            self.losses = losses
            return True
        return False
