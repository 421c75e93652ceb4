"""Rows of a check for Python, packages, RAM, disks and hubs. Loads no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from pathlib import Path

from .. import settings
from ..files import nearest_existing_folder
from ..planning.machine import Gpu, Machine
from ..planning.probe import describe_machine, host_ram, installed_version, usable_cores
from ..text import GIB, error_line
from . import report
from .report import FAIL, PASS, WARN, Probe, Row

DISTRIBUTION = "cogvx-nb"
INSTALL = "python -m pip install"
PROVIDERS = {"PIL": "pillow", "google": "protobuf"}
"""Package by module, where their names differ."""


def stated_requirements() -> tuple[str, list[str]]:
    """Version specifiers that the workbench states: of Python, and of each requirement.

    From ``pyproject.toml`` in the clone, else from the metadata of the installation, which may be
    older.
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
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "", []
    requirements = importlib.metadata.requires(DISTRIBUTION) or []
    return metadata["Requires-Python"] or "", [r for r in requirements if "extra ==" not in r]


def package_rows() -> list[Row]:
    """Versions of Python and of every required package."""
    python, requirements = stated_requirements()
    if not requirements:
        fix = "install the workbench: python -m pip install -e . in its folder"
        return [Row("packages", FAIL, "the list of requirements was not found", "", fix)]
    broken = _packaging_error()
    version = platform.python_version()
    fits = None if broken else _satisfies(version, python)
    fix = f"make an environment with Python {python} and install the workbench into it"
    rows = [_package_row("Python", version, python, fits, fix)]
    for requirement in requirements:
        name, specifier = _split_requirement(requirement)
        version = installed_version(name)
        fits = None if broken or version is None else _satisfies(version, specifier)
        fix = f'{INSTALL} "{name}{specifier}"'
        if version is None:
            rows.append(Row(name, FAIL, "not installed", specifier, fix))
        elif broken and name == "packaging":
            fix = f'{INSTALL} --force-reinstall "{name}{specifier}"'
            rows.append(Row(name, FAIL, f"{version}, but {broken}", specifier, fix))
        else:
            rows.append(_package_row(name, version, specifier, fits, fix))
    return rows


def import_rows(probes: dict[str, Probe]) -> list[Row]:
    """Whether the three packages that generate videos can be imported."""
    rows = []
    for name in ("torch", "diffusers", "transformers"):
        error = probes[name].error
        if error and name != "torch" and probes["torch"].error:
            fix = "fix torch first, which it needs"
        else:
            fix = _remedy(name, error)
        needed = "an import without an error"
        failed = Row(f"import {name}", FAIL, error, needed, fix)
        rows.append(failed if error else Row(f"import {name}", PASS, "works"))
    return rows


def tool_rows(probes: dict[str, Probe]) -> list[Row]:
    """ffmpeg, the notebooks' kernel and their widgets."""
    return [
        _ffmpeg_row(probes["ffmpeg"]),
        _kernel_row(probes["kernel"]),
        _widgets_row(probes["widgets"]),
    ]


def requirement(name: str) -> str:
    """A package with its stated versions, such as ``torch>=2.11``; the name alone if none are."""
    stated = dict(map(_split_requirement, stated_requirements()[1]))
    return name + stated.get(name, "")


def _package_row(name: str, version: str, specifier: str, fits: bool | None, fix: str) -> Row:
    if fits is None:
        return Row(name, WARN, f"{version}, not compared", specifier, "fix packaging first")
    return Row(name, PASS, version, specifier) if fits else Row(name, FAIL, version, specifier, fix)


def _packaging_error() -> str:
    try:
        import packaging.specifiers
        import packaging.version  # noqa: F401
    except Exception as error:  # a broken package may raise anything
        return error_line(error)
    return ""


def _satisfies(version: str, specifier: str) -> bool:
    """Whether a version satisfies a specifier; local builds (2.11.0+cpu) and pre-releases may."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _split_requirement(requirement: str) -> tuple[str, str]:
    """Name and specifier of a requirement, without extras and markers."""
    plain = requirement.split(";")[0].strip()
    name = re.match(r"[\w.-]*\w", plain)[0]
    return name, plain[len(name) :].strip().strip("()")


def _remedy(name: str, error: str) -> str:
    """The command that repairs a package whose import failed with ``error``."""
    if missing := re.search(r"No module named '(\w+)'", error):
        package = PROVIDERS.get(missing[1], missing[1].replace("_", "-"))
        if requirement(package) != package:  # a requirement: a guessed name is never installed
            return f'{INSTALL} "{requirement(package)}"'
    return f'{INSTALL} --force-reinstall "{requirement(name)}"'


def _ffmpeg_row(probe: Probe) -> Row:
    needed = "frames encoded and decoded"
    if probe.error:
        fix = _remedy("imageio-ffmpeg", probe.error)
        if settings.named_ffmpeg() and settings.FFMPEG_VARIABLE in probe.error:
            fix = f"set {settings.FFMPEG_VARIABLE} to an ffmpeg with libx264, or unset it"
        return Row("ffmpeg", FAIL, probe.error.partition("; ")[0], needed, fix)
    state = f"{probe.value['version']}, {probe.value['frames']} frames encoded and decoded"
    return Row("ffmpeg", PASS, state, needed)


def _kernel_row(probe: Probe) -> Row:
    needed = "a python3 kernel in this environment"
    if probe.error:
        return Row("Jupyter kernel", FAIL, probe.error, needed, _remedy("ipykernel", probe.error))
    if not probe.value["same"]:
        state = f"python3 runs {probe.value['python']}"
        fix = "python -m ipykernel install --sys-prefix --name python3"
        return Row("Jupyter kernel", WARN, state, needed, fix)
    return Row("Jupyter kernel", PASS, f"ipykernel {probe.value['version']}", needed)


def _widgets_row(probe: Probe) -> Row:
    needed = "ipywidgets and its JupyterLab extension"
    if probe.error:
        return Row("widgets", WARN, probe.error, needed, _remedy("ipywidgets", probe.error))
    state = f"ipywidgets {probe.value['version']}"
    if not probe.value["installed"]:
        fix = f"{INSTALL} --force-reinstall jupyterlab_widgets"
        return Row("widgets", WARN, f"{state}, without its JupyterLab extension", needed, fix)
    state += f", jupyterlab_widgets {probe.value['page_version']}"
    return Row("widgets", PASS, state, needed)


OUTPUT_BYTES = 10**9
"""Free disk space required for results: twenty uncompressed videos of 49 frames at 480 × 720, 51 MB
each."""


def probe_without_torch(torch: Probe) -> tuple[Machine, str]:
    """The machine as the planner sees it. Loads no torch.

    Args:
        torch: its probe. GPUs that torch doesn't see can't be used, so no plan may count on them.

    Returns:
        The machine, and why psutil couldn't read its RAM; empty if it could.
    """
    rows = torch.value.get("gpus", ())  # as JSON has them, tuples are lists
    gpus = (Gpu(**{n: tuple(v) if isinstance(v, list) else v for n, v in g.items()}) for g in rows)
    threads = torch.value.get("threads") or usable_cores()
    *_, error = host_ram()
    limits = torch.value.get("limits")
    return describe_machine(tuple(gpus), threads, limits and [*map(tuple, limits)]), error


def ram_row(machine: Machine, error: str, needed_bytes: int, needed: str) -> Row:
    """Free RAM, against what loading a model's weights takes of it."""
    state = f"{machine.ram_free_bytes / GIB:.1f} of {machine.ram_bytes / GIB:.1f} GiB free"
    if error:
        force = "" if "No module named" in error else "--force-reinstall "
        fix = f'{INSTALL} {force}"{requirement("psutil")}"'
        return Row("RAM", FAIL, f"{state}, but psutil: {error}", "psutil, to read it", fix)
    if machine.ram_free_bytes < needed_bytes:
        fix = "close other programs, raise the container's or job's limit, or take a larger machine"
        return Row("RAM", FAIL, state, needed, fix)
    return Row("RAM", PASS, state, needed)


def disk_row(name: str, folder: Path, needed_bytes: int, needed: str, bad: str) -> Row:
    """Free disk space for a folder, which may not exist yet.

    Args:
        bad: status if it can't be written or is too small.
    """
    existing = nearest_existing_folder(folder)
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        fix = "change its permissions, or move it (COGVX_HOME)"
        return Row(name, bad, f"{existing} can't be written", needed, fix)
    state = f"{free / 1e9:.1f} GB free at {folder}"
    if free < needed_bytes:
        return Row(name, bad, state, needed, "make room, or move the folder (COGVX_HOME)")
    return Row(name, PASS, state, needed)


def hub_rows() -> list[Row]:
    """Whether each hub, or the mirror that is set for it, answers the client of downloads."""
    return [_hub_row(*pair) for pair in report.run_probes(report.HUB_PROBES).items()]


def _hub_row(name: str, probe: Probe) -> Row:
    if probe.error:
        fix = _remedy(CLIENTS[name], probe.error)
        return Row(f"hub {name}", WARN, probe.error, "its client", fix)
    if error := probe.value.get("error"):
        reason, _, fix = error.partition(": ")
        return Row(f"hub {name}", WARN, reason, "an answer", fix or "check the network")
    return Row(f"hub {name}", PASS, f"{probe.value['shown']} answers")


CLIENTS = {"modelscope": "modelscope", "huggingface": "huggingface-hub"}
"""Packages of the hubs' clients."""
