"""Training a LoRA for a checkpoint of the family from a few clips or pictures."""

from .demonstration import draw_examples
from .progress import TrainingProgress
from .recipe import Recipe
from .trainer import Trained, train_lora

__all__ = ["Recipe", "Trained", "TrainingProgress", "draw_examples", "train_lora"]
