"""Python and the packages against what ``pyproject.toml`` states, and what trying them said."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path

from .attempts import Attempt
from .check_report import FAIL, PASS, WARN, Row
from .text import one_line

DISTRIBUTION = "cogvx-nb"
INSTALL = "python -m pip install"
PROVIDERS = {"PIL": "pillow", "google": "protobuf"}
"""Packages of modules with another name."""


def stated() -> tuple[str, list[str]]:
    """(Python versions, requirements) of the workbench, as specifiers.

    From ``pyproject.toml`` beside the package, else from the metadata made of it at installation,
    which may be older.
    """
    try:
        import tomllib

        with (Path(__file__).resolve().parent.parent / "pyproject.toml").open("rb") as file:
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


def rows() -> list[Row]:
    """Python and every package, compared as versions."""
    python, requirements = stated()
    if not requirements:
        fix = "install the workbench: python -m pip install -e . in its folder"
        return [Row("packages", FAIL, "the list of requirements was not found", "", fix)]
    broken = _packaging_error()
    here = platform.python_version()
    fits = None if broken else _fits(here, python)
    fix = f"make an environment with Python {python} and install the workbench into it"
    made = [_row("Python", here, python, fits, fix)]
    for requirement in requirements:
        name, specifier = _split(requirement)
        version = _version(name)
        fits = None if broken or version is None else _fits(version, specifier)
        fix = f'{INSTALL} "{name}{specifier}"'
        if version is None:
            made.append(Row(name, FAIL, "not installed", specifier, fix))
        elif broken and name == "packaging":
            fix = f'{INSTALL} --force-reinstall "{name}{specifier}"'
            made.append(Row(name, FAIL, f"{version}, but {broken}", specifier, fix))
        else:
            made.append(_row(name, version, specifier, fits, fix))
    return made


def import_rows(attempts: dict[str, Attempt]) -> list[Row]:
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


def tool_rows(attempts: dict[str, Attempt]) -> list[Row]:
    """ffmpeg, and what notebooks need."""
    return [_ffmpeg(attempts["ffmpeg"]), _kernel(attempts["kernel"]), _widgets(attempts["widgets"])]


def requirement(name: str) -> str:
    """A package with the versions that are stated for it, such as ``torch>=2.11``."""
    return next((r for r in map("".join, map(_split, stated()[1])) if _split(r)[0] == name), name)


def _row(name: str, version: str, specifier: str, fits: bool | None, fix: str) -> Row:
    if fits is None:
        return Row(name, WARN, f"{version}, not compared", specifier, "mend packaging first")
    return Row(name, PASS, version, specifier) if fits else Row(name, FAIL, version, specifier, fix)


def _packaging_error() -> str:
    try:
        import packaging.specifiers
        import packaging.version  # noqa: F401
    except Exception as error:  # a broken package may raise anything
        return one_line(error)
    return ""


def _fits(version: str, specifier: str) -> bool:
    """Whether a version is one of those stated; local builds (2.11.0+cpu) and previews count."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _split(requirement: str) -> tuple[str, str]:
    """(name, specifier) of a requirement without extras."""
    plain = requirement.split(";")[0].strip()
    name = re.match(r"[\w.-]*\w", plain)[0]
    return name, plain[len(name) :].strip().strip("()")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) or "of unknown version"
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def _remedy(name: str, error: str) -> str:
    """The command that mends a package which failed with ``error``."""
    if missing := re.search(r"No module named '(\w+)'", error):
        package = PROVIDERS.get(missing[1], missing[1].replace("_", "-"))
        if requirement(package) != package:  # of ours: no guessed name is ever installed
            return f'{INSTALL} "{requirement(package)}"'
    return f'{INSTALL} --force-reinstall "{requirement(name)}"'


def _ffmpeg(attempt: Attempt) -> Row:
    needed = "frames encoded and decoded"
    if attempt.error:
        return Row("ffmpeg", FAIL, attempt.error, needed, _remedy("imageio-ffmpeg", attempt.error))
    found = f"{attempt.value['version']}, {attempt.value['frames']} frames there and back"
    return Row("ffmpeg", PASS, found, needed)


def _kernel(attempt: Attempt) -> Row:
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


def _widgets(attempt: Attempt) -> Row:
    needed = "ipywidgets and its part in JupyterLab"
    if attempt.error:
        return Row("widgets", WARN, attempt.error, needed, _remedy("ipywidgets", attempt.error))
    found = f"ipywidgets {attempt.value['version']}"
    if not attempt.value["installed"]:
        fix = f"{INSTALL} --force-reinstall jupyterlab_widgets"
        return Row("widgets", WARN, f"{found}, without its part in JupyterLab", needed, fix)
    found += f", jupyterlab_widgets {attempt.value['page_version']}"
    return Row("widgets", PASS, found, needed)
