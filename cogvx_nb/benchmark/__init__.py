"""Timings beside baselines."""
