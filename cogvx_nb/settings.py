"""Folders and environment variables. The only module that reads the environment."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import SettingsError

MODELSCOPE = "https://www.modelscope.cn"
HUGGINGFACE = "https://huggingface.co"


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


def live_ui() -> bool:
    """Whether somebody watches this notebook, so that widgets are worth showing."""
    wanted = os.environ.get("COGVX_UI")
    return wanted == "1" or (wanted != "0" and "JPY_SESSION_NAME" in os.environ)


def endpoint(source: str) -> str:
    """Address of a hub or of its mirror, from the variable that its own client reads."""
    variable, default = {
        "modelscope": ("MODELSCOPE_ENDPOINT", MODELSCOPE),
        "huggingface": ("HF_ENDPOINT", HUGGINGFACE),
    }[source]
    return (os.environ.get(variable) or default).rstrip("/")


def prepare_hub_clients() -> None:
    """Set what the hubs' clients read when they are first imported.

    ModelScope's gives up a file after an hour, which a slow line needs longer for; a variable that
    is already set stays. Hugging Face's reports each use to its default host, even for a mirror.
    """
    os.environ.setdefault("MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT", str(7 * 24 * 3600))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _folder(variable: str, name: str) -> Path:
    named = os.environ.get(variable)
    return Path(named).expanduser().absolute() if named else home() / name
