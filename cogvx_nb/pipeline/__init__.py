"""The only place that loads torch models and diffusers."""
