"""LoRA files of every trainer as one kind of layers. No torch."""
