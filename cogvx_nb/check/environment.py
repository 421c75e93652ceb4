"""Python, packages, RAM, disks and hubs, looked at without torch, as rows of a check."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from .. import settings
from ..files import nearest_existing_folder
from ..planning import machine
from ..planning.machine import Gpu, Machine
from ..text import GIB, error_line
from .probes import Probe
from .report import FAIL, PASS, WARN, Row

DISTRIBUTION = "cogvx-nb"
INSTALL = "python -m pip install"
PROVIDERS = {"PIL": "pillow", "google": "protobuf"}
"""Packages of modules with another name."""


def stated_requirements() -> tuple[str, list[str]]:
    """(Python versions, requirements) of the workbench, as specifiers.

    From ``pyproject.toml`` beside the package, else from the metadata made of it at installation,
    which may be older.
    """
    try:
        import tomllib

        with (Path(__file__).resolve().parents[2] / "pyproject.toml").open("rb") as file:
            project = tomllib.load(file)["project"]
        if project["name"] == DISTRIBUTION:
            return project["requires-python"], project["dependencies"]
    except (ImportError, OSError, ValueError, KeyError):
        pass  # no clone, or a Python before 3.11, which has no tomllib
    try:
        found = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "", []
    requirements = importlib.metadata.requires(DISTRIBUTION) or []
    return found["Requires-Python"] or "", [r for r in requirements if "extra ==" not in r]


def package_rows() -> list[Row]:
    """Python and every package, compared as versions."""
    python, requirements = stated_requirements()
    if not requirements:
        fix = "install the workbench: python -m pip install -e . in its folder"
        return [Row("packages", FAIL, "the list of requirements was not found", "", fix)]
    broken = _packaging_error()
    here = platform.python_version()
    fits = None if broken else _satisfies(here, python)
    fix = f"make an environment with Python {python} and install the workbench into it"
    made = [_package_row("Python", here, python, fits, fix)]
    for requirement in requirements:
        name, specifier = _split_requirement(requirement)
        version = machine.installed_version(name)
        fits = None if broken or version is None else _satisfies(version, specifier)
        fix = f'{INSTALL} "{name}{specifier}"'
        if version is None:
            made.append(Row(name, FAIL, "not installed", specifier, fix))
        elif broken and name == "packaging":
            fix = f'{INSTALL} --force-reinstall "{name}{specifier}"'
            made.append(Row(name, FAIL, f"{version}, but {broken}", specifier, fix))
        else:
            made.append(_package_row(name, version, specifier, fits, fix))
    return made


def import_rows(attempts: dict[str, Probe]) -> list[Row]:
    """The three packages that make videos, imported for real."""
    rows = []
    for name in ("torch", "diffusers", "transformers"):
        error = attempts[name].error
        if error and name != "torch" and attempts["torch"].error:
            fix = "mend torch first, which it needs"
        else:
            fix = _remedy(name, error)
        needed = "an import without an error"
        failed = Row(f"import {name}", FAIL, error, needed, fix)
        rows.append(failed if error else Row(f"import {name}", PASS, "works"))
    return rows


def tool_rows(attempts: dict[str, Probe]) -> list[Row]:
    """ffmpeg, and what notebooks need."""
    return [_ffmpeg(attempts["ffmpeg"]), _kernel(attempts["kernel"]), _widgets(attempts["widgets"])]


def requirement(name: str) -> str:
    """A package with the versions that are stated for it, such as ``torch>=2.11``."""
    return next(
        (
            r
            for r in map("".join, map(_split_requirement, stated_requirements()[1]))
            if _split_requirement(r)[0] == name
        ),
        name,
    )


def _package_row(name: str, version: str, specifier: str, fits: bool | None, fix: str) -> Row:
    if fits is None:
        return Row(name, WARN, f"{version}, not compared", specifier, "mend packaging first")
    return Row(name, PASS, version, specifier) if fits else Row(name, FAIL, version, specifier, fix)


def _packaging_error() -> str:
    try:
        import packaging.specifiers
        import packaging.version  # noqa: F401
    except Exception as error:  # a broken package may raise anything
        return error_line(error)
    return ""


def _satisfies(version: str, specifier: str) -> bool:
    """Whether a version is one of those stated; local builds (2.11.0+cpu) and previews count."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _split_requirement(requirement: str) -> tuple[str, str]:
    """(name, specifier) of a requirement without extras."""
    plain = requirement.split(";")[0].strip()
    name = re.match(r"[\w.-]*\w", plain)[0]
    return name, plain[len(name) :].strip().strip("()")


def _remedy(name: str, error: str) -> str:
    """The command that mends a package which failed with ``error``."""
    if missing := re.search(r"No module named '(\w+)'", error):
        package = PROVIDERS.get(missing[1], missing[1].replace("_", "-"))
        if requirement(package) != package:  # of ours: no guessed name is ever installed
            return f'{INSTALL} "{requirement(package)}"'
    return f'{INSTALL} --force-reinstall "{requirement(name)}"'


def _ffmpeg(attempt: Probe) -> Row:
    needed = "frames encoded and decoded"
    if attempt.error:
        return Row("ffmpeg", FAIL, attempt.error, needed, _remedy("imageio-ffmpeg", attempt.error))
    found = f"{attempt.value['version']}, {attempt.value['frames']} frames there and back"
    return Row("ffmpeg", PASS, found, needed)


def _kernel(attempt: Probe) -> Row:
    needed = "a python3 kernel in this environment"
    if attempt.error:
        return Row(
            "Jupyter kernel", FAIL, attempt.error, needed, _remedy("ipykernel", attempt.error)
        )
    if not attempt.value["same"]:
        found = f"python3 runs {attempt.value['python']}"
        fix = "python -m ipykernel install --sys-prefix --name python3"
        return Row("Jupyter kernel", WARN, found, needed, fix)
    return Row("Jupyter kernel", PASS, f"ipykernel {attempt.value['version']}", needed)


def _widgets(attempt: Probe) -> Row:
    needed = "ipywidgets and its part in JupyterLab"
    if attempt.error:
        return Row("widgets", WARN, attempt.error, needed, _remedy("ipywidgets", attempt.error))
    found = f"ipywidgets {attempt.value['version']}"
    if not attempt.value["installed"]:
        fix = f"{INSTALL} --force-reinstall jupyterlab_widgets"
        return Row("widgets", WARN, f"{found}, without its part in JupyterLab", needed, fix)
    found += f", jupyterlab_widgets {attempt.value['page_version']}"
    return Row("widgets", PASS, found, needed)


OUTPUT_BYTES = 10**9
"""Free disk wanted for results: twenty videos of 49 frames at 480 × 720 if nothing compressed
them, 51 MB each."""

ONLINE_PATIENCE = 3
"""Seconds that a hub has to answer."""


def probe_without_torch(torch: Probe) -> tuple[Machine, str]:
    """The machine as the planner sees it, and what kept psutil from reading its RAM.

    Args:
        torch: what torch said of its GPUs. Others can't be used, so a plan must not count on them.
    """
    gpus = (Gpu(**g | {"capability": tuple(g["capability"])}) for g in torch.value.get("gpus", ()))
    threads = torch.value.get("threads") or machine.usable_cores()
    *_, error = machine.host_ram()
    return machine.describe_machine(tuple(gpus), threads), error


def ram_row(here: Machine, error: str, needed_bytes: int, needed: str) -> Row:
    """RAM against what a model's weights take on their way to the device."""
    found = f"{here.ram_free_bytes / GIB:.1f} of {here.ram_bytes / GIB:.1f} GiB free"
    if error:
        force = "" if "No module named" in error else "--force-reinstall "
        fix = f'{INSTALL} {force}"{requirement("psutil")}"'
        return Row("RAM", FAIL, f"{found}, but psutil: {error}", "psutil, to read it", fix)
    if here.ram_free_bytes < needed_bytes:
        return Row("RAM", FAIL, found, needed, "close other programs, or take a larger machine")
    return Row("RAM", PASS, found, needed)


def disk_row(name: str, folder: Path, needed_bytes: int, needed: str, bad: str) -> Row:
    """Room where a folder is or would be."""
    place = nearest_existing_folder(folder)
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free at {folder}"
    if not os.access(place, os.W_OK):
        return Row(
            name,
            bad,
            f"{place} can't be written",
            needed,
            "change its permissions, or move it (COGVX_HOME)",
        )
    if free < needed_bytes:
        return Row(name, bad, found, needed, "make room, or move the folder (COGVX_HOME)")
    return Row(name, PASS, found, needed)


def hub_rows() -> list[Row]:
    """Whether each hub, or the mirror that is set for it, answers."""
    addresses = {name: settings.endpoint(name) for name in ("modelscope", "huggingface")}
    said: dict[str, str] = {}
    # Daemons: looking up a host name has no time limit of its own.
    threads = [
        threading.Thread(target=lambda n=n, a=a: said.update({n: _ask_hub(a)}), daemon=True)
        for n, a in addresses.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(ONLINE_PATIENCE + 1)
    rows = []
    for name, address in addresses.items():
        parts = urlsplit(address)
        host = f"{parts.scheme}://{parts.hostname}"  # an address may carry a password
        error = said.get(name, f"no answer in {ONLINE_PATIENCE} s")
        fix = "check the network, the proxy (HTTPS_PROXY) or the mirror (HF_ENDPOINT)"
        if error:
            rows.append(Row(f"hub {name}", WARN, f"{host}: {error}", "an answer", fix))
        else:
            rows.append(Row(f"hub {name}", PASS, f"{host} answers"))
    return rows


def _ask_hub(address: str) -> str:
    """Why an address doesn't answer; empty if it does."""
    if urlsplit(address).scheme not in ("http", "https"):
        return "not an http or https address"
    try:
        asked = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "cogvx"})
        urllib.request.urlopen(asked, timeout=ONLINE_PATIENCE).close()
    except urllib.error.HTTPError as error:
        return f"answers {error.code}" if error.code >= 500 else ""  # 4xx is an answer too
    except urllib.error.URLError as error:
        return str(error.reason)[:200]
    except (OSError, ValueError) as error:
        return error_line(error)
    return ""
