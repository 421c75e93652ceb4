"""Folders and environment variables. The only module that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import SettingsError


def home() -> Path:
    """Root of the workbench: ``COGVX_HOME``, else the folder above the package.

    Raises:
        SettingsError: if the package was installed without its folder (not with ``pip install -e``)
            and ``COGVX_HOME`` isn't set.
    """
    named = os.environ.get("COGVX_HOME")
    if named:
        return Path(named).expanduser().absolute()
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").is_file():
        raise SettingsError(
            f"{root} is not the workbench's folder: set COGVX_HOME to the folder that holds "
            "models/ and outputs/, or install with 'pip install -e .' from a clone"
        )
    return root


def models_dir() -> Path:
    """Folder of the checkpoints: ``COGVX_MODELS_DIR``, else ``models`` in ``home()``."""
    return _folder("COGVX_MODELS_DIR", "models")


def outputs_dir() -> Path:
    """Folder of the results: ``COGVX_OUTPUTS_DIR``, else ``outputs`` in ``home()``."""
    return _folder("COGVX_OUTPUTS_DIR", "outputs")


def notebooks_dir() -> Path:
    """Folder of the numbered notebooks."""
    return home() / "notebooks"


def headless_environment() -> dict[str, str]:
    """Variables for a notebook that nobody watches: its widgets stay away."""
    return {"COGVX_UI": "0"}


def _folder(variable: str, name: str) -> Path:
    named = os.environ.get(variable)
    return Path(named).expanduser().absolute() if named else home() / name
