"""Folders and environment variables. The only module that reads the environment."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import PathError, SettingsError
from .paths import user_path

MODELSCOPE = "https://www.modelscope.cn"
HUGGINGFACE = "https://huggingface.co"

FFMPEG_VARIABLE = "IMAGEIO_FFMPEG_EXE"
"""Names an ffmpeg program in place of the one that imageio-ffmpeg brings."""

RAY_JOB = ("RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RUNTIME_ENV_HOOK", "RAY_NAMESPACE")
"""Variables that a job on a Ray cluster finds, about that cluster."""


@dataclass(frozen=True, slots=True)
class Chat:
    """An OpenAI-compatible chat endpoint. It holds no key, so that none is ever shown."""

    base_url: str  # without ``/chat/completions``, such as ``http://127.0.0.1:11434/v1``
    model: str  # name of the model at the endpoint


def home() -> Path:
    """Root of the workbench: ``COGVX_HOME``, else the parent folder of the package.

    Raises:
        SettingsError: if the package was installed without its folder (not with ``pip install -e``)
            and ``COGVX_HOME`` isn't set, or it names no folder that the system can have.
    """
    if named := _variable_folder("COGVX_HOME"):
        return named
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


def wildcards_dir() -> Path:
    """Folder of wildcards: ``COGVX_WILDCARDS_DIR``, else ``wildcards`` in ``home()``."""
    return _folder("COGVX_WILDCARDS_DIR", "wildcards")


def compiled_dir() -> Path:
    """Cache folder of compiled code; it can be deleted."""
    value = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(value) if value else outputs_dir() / ".compiled"


def compiled_list() -> Path:
    """File that lists what was compiled, one key of ``planning.plan`` per line."""
    return compiled_dir() / "list.txt"


def notebooks_dir() -> Path:
    """Folder of the numbered notebooks."""
    return home() / "notebooks"


def folders() -> dict[str, str]:
    """Variables with the workbench's folders, for a process elsewhere; empty without a home."""
    below = {"MODELS": models_dir, "OUTPUTS": outputs_dir, "WILDCARDS": wildcards_dir}
    with contextlib.suppress(SettingsError):
        rest = {f"COGVX_{name}_DIR": str(folder()) for name, folder in below.items()}
        return {"COGVX_HOME": str(home())} | rest
    return {}


def child_python(code: str, *arguments: str) -> list[str]:
    """Command of a process that runs some code and imports what this process would.

    Args:
        arguments: the child's ``sys.argv[1:]``.
    """
    path = [*map(str, sys.path), str(Path(__file__).resolve().parent.parent)]
    prelude = "import json, sys\nsys.path[:] = json.loads(sys.argv.pop(1))\n"
    return [sys.executable, "-c", prelude + code, json.dumps(path), *arguments]


def headless_environment() -> dict[str, str]:
    """Environment variables for a headless notebook, which shows no widgets."""
    return {"COGVX_UI": "0"}


def wants_colour() -> bool:
    """Whether terminals may be coloured: ``NO_COLOR`` is not set."""
    return not os.environ.get("NO_COLOR")


def live_ui() -> bool:
    """Whether to show widgets: ``COGVX_UI`` is 1, or it isn't 0 and a front end is attached."""
    value = os.environ.get("COGVX_UI")
    return value == "1" or (value != "0" and "JPY_SESSION_NAME" in os.environ)


def ui_chosen() -> bool:
    """Whether ``COGVX_UI`` says to show widgets, or not to."""
    return bool(os.environ.get("COGVX_UI"))


def endpoint(source: str) -> tuple[str, str]:
    """(address, variable) of a hub or of its mirror, as its client takes it; the variable is empty
    where none is set."""
    variables, default = {
        "modelscope": (("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"), MODELSCOPE),
        "huggingface": (("HF_ENDPOINT",), HUGGINGFACE),
    }[source]
    variable = next((name for name in variables if os.environ.get(name, "").strip()), "")
    return os.environ.get(variable, default), variable


def offline_variable() -> str:
    """The variable that keeps Hugging Face's client from connecting."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name)), names[0])


def proxy_variables() -> dict[str, str]:
    """Addresses of proxies by the variable that names them: those of http, of https, of both."""
    from urllib.request import getproxies_environment  # late: slow, and few commands need it

    named = getproxies_environment()  # a lower-case name counts before others
    variables = {}
    for scheme in ("http", "https", "all"):
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            if named.get(scheme) and os.environ.get(name) == named[scheme]:
                variables.setdefault(scheme, name)
    return {variables[scheme]: named[scheme] for scheme in variables}


def proxy_for(address: str) -> tuple[str, str]:
    """The variable that names the proxy for an address, and the proxy's host and port.

    Both are empty if there is none, the second also if it can't be shown: it may hold a password.
    """
    from urllib.request import proxy_bypass_environment

    parts, named = urlsplit(address), proxy_variables()
    if proxy_bypass_environment(parts.hostname or ""):
        return "", ""
    for variable, proxy in named.items():
        if variable.lower() == f"{parts.scheme}_proxy":
            return variable, _host_and_port(proxy)
    variable = next((name for name in named if name.lower() == "all_proxy"), "")
    return variable, _host_and_port(named.get(variable, ""))


def socks_variable() -> str:
    """The variable that names a SOCKS proxy; empty if none does."""
    named = proxy_variables().items()
    return next((name for name, proxy in named if proxy.lower().startswith("socks")), "")


def _host_and_port(proxy: str) -> str:
    host = proxy.rpartition("@")[2].rpartition("://")[2].partition("/")[0]
    return host if re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", host) else ""


def chat_configured() -> bool:
    """Whether a chat endpoint is set: ``COGVX_CHAT_BASE_URL``."""
    return bool(os.environ.get("COGVX_CHAT_BASE_URL", "").strip())


def chat() -> Chat:
    """The chat endpoint, from ``COGVX_CHAT_BASE_URL`` and ``COGVX_CHAT_MODEL``.

    Raises:
        SettingsError: if one of them is missing, or one of them or the key is invalid.
    """
    base_url = os.environ.get("COGVX_CHAT_BASE_URL", "").strip().rstrip("/")
    model = os.environ.get("COGVX_CHAT_MODEL", "").strip()
    _check_chat_url(base_url)
    if not model:
        raise SettingsError("COGVX_CHAT_MODEL isn't set: set it to a model's name at the endpoint")
    chat_key()
    return Chat(base_url, model)


def chat_key() -> str:
    """The chat endpoint's key, ``COGVX_CHAT_KEY``; empty for a server that needs none.

    Raises:
        SettingsError: if it can't be sent in a header.
    """
    key = os.environ.get("COGVX_CHAT_KEY", "").strip()
    if not (key.isascii() and (key + "x").isprintable()):
        raise SettingsError("COGVX_CHAT_KEY holds characters that no key has: set it again")
    return key


def prepare_hub_clients() -> None:
    """Set variables that the hubs' clients read when they are imported, unless they are set.

    ModelScope's client gives up a file after an hour, which is too short for a slow connection.
    Hugging Face's reports each use to its default host, even with a mirror.
    """
    os.environ.setdefault("MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT", str(7 * 24 * 3600))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def named_ffmpeg() -> str:
    """The ffmpeg program that ``FFMPEG_VARIABLE`` names; empty if it isn't set."""
    return os.environ.get(FFMPEG_VARIABLE, "")


def c_compiler() -> str | None:
    """The C compiler that Triton would use: ``CC``, else gcc or clang; None without one."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")


def ray_address() -> str:
    """The Ray cluster that ``RAY_ADDRESS`` announces; empty if it isn't set."""
    return os.environ.get("RAY_ADDRESS", "")


def prepare_ray(own_cluster: bool) -> None:
    """Set variables that Ray reads when it starts: it reports usage over the network by default.

    Args:
        own_cluster: whether to remove those that a job on another cluster was given.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if own_cluster:
        for name in RAY_JOB:
            os.environ.pop(name, None)
        # Ray keeps a token in memory for the process, and reads it from a file in the home folder
        # in the servers that it starts: a second cluster fails where that file is gone by then.
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def prepare_torch() -> None:
    """Set variables that torch reads when it first compiles, unless they are set.

    By default, compiled code is cached in the system's temporary folder, and FlashAttention 4's
    isn't cached. Warnings of torchao about parts that aren't used here are silenced.
    """
    for noisy in ("torchao", "torch.utils._pytree"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compiled_dir()))
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(compiled_dir() / "flash4"))
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


def _folder(variable: str, name: str) -> Path:
    return _variable_folder(variable) or home() / name


def _variable_folder(variable: str) -> Path | None:
    """The folder that a variable names; None where it is empty or not set."""
    value = os.environ.get(variable)
    try:
        return user_path(value, variable, folder=True) if value else None
    except PathError as error:
        raise SettingsError(str(error)) from None


def _check_chat_url(url: str) -> None:
    """Raise unless an address can be asked, and shown: its errors never repeat it."""
    remedy = "set it to an address such as http://127.0.0.1:11434/v1"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket left open
        good = False
    if not good or " " in url or not url.isprintable():
        raise SettingsError(f"COGVX_CHAT_BASE_URL isn't an http or https address: {remedy}")
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingsError(
            "COGVX_CHAT_BASE_URL must hold no password, '?' or '#', since messages show it: "
            "put the key into COGVX_CHAT_KEY"
        )
