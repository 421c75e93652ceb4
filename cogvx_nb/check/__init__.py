"""Checks of this machine. Must work in a broken environment."""
