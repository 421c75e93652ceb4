"""Finishing a kept result: more frames in time, then larger ones, as a new video."""
