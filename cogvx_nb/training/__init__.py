"""Training a LoRA for a checkpoint of the family from a few clips or pictures."""

from .trainer import Trained, train_lora

__all__ = ["Trained", "train_lora"]
