"""The ``cogvx`` command."""
