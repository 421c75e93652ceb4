"""Timings of whole videos, next to baselines and published ones."""
