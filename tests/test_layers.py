"""Data flows one way: who may import whom, and who may load torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cogvx_nb

PACKAGE = Path(cogvx_nb.__file__).parent

ANYWHERE = {"errors", "settings", "checkpoints"}
MAY_IMPORT = {
    "errors": set(),
    "signals": set(),
    "settings": {"errors"},
    "checkpoints": set(),
    "host_ram": set(),
    "machine": {"host_ram"},
    "hashes": set(),
    "manifest": {"hashes"},
    "weights": {"hashes", "manifest"},
    "follow": {"hashes"},
    "hubs": set(),
    "download": {"hubs"},
    "transfer": {"download", "follow", "hashes", "hubs", "manifest"},
    "verify": {"download", "manifest", "transfer"},
    "prompts": {"weights"},
    "random_weights": {"weights"},
    "request": {"prompts", "weights"},
    "chat": set(),
    "enrich": {"chat", "request"},
    "cost": {"machine", "ways"},
    "ways": {"machine"},
    "plan": {"cost", "machine", "request", "ways", "weights"},
    "attempts": {"machine", "video"},
    "check_report": {"machine"},
    "check_packages": {"attempts", "check_report"},
    "check_gpu": {"attempts", "check_packages", "check_report", "machine", "plan"},
    "check_machine": {"attempts", "check_packages", "check_report", "machine"},
    "check_models": {"check_report", "download", "machine", "manifest", "plan", "weights"},
    "check": {
        "attempts",
        "check_gpu",
        "check_machine",
        "check_models",
        "check_packages",
        "check_report",
        "cost",
        "download",
        "machine",
    },
    "decode": set(),
    "video": set(),
    "attention": set(),
    "flash_attention": set(),
    "vae": set(),
    "scheduler": set(),
    "components": {"plan", "prompts", "random_weights", "scheduler", "vae"},
    "speedups": {"attention", "cost", "flash_attention", "plan", "ways"},
    "placement": {"plan", "speedups"},
    "fallbacks": {"cost", "plan", "ways"},
    "pipeline": {
        "components",
        "fallbacks",
        "placement",
        "plan",
        "speedups",
        "ways",
        "weights",
    },
    "events": {"plan", "request"},
    "embeddings": {"pipeline", "whole_files"},
    "generate": {
        "components",
        "decode",
        "embeddings",
        "events",
        "fallbacks",
        "pipeline",
        "plan",
        "request",
        "speedups",
        "video",
    },
    "result": {"events", "machine", "video"},
    "pace": {"cost", "machine", "plan"},
    "sidecars": {"result"},
    "index": {"sidecars"},
    "arrow": {"sidecars"},
    "catalogue": {"arrow", "index", "pace", "sidecars"},
    "export": {"arrow", "whole_files"},
    "list_cli": {"catalogue", "export"},
    "trash": set(),
    "posters": {"catalogue", "machine", "video"},
    "sheet": set(),
    "reproduce": {
        "events",
        "generate",
        "machine",
        "pipeline",
        "plan",
        "request",
        "result",
        "video",
        "weights",
    },
    "display": {"check_report", "result", "video"},
    "progress": {"events", "transfer"},
    "notebook": set(),
    "kernel_reset": set(),
    "warm_kernel": set(),
    "kernel_engine": {"warm_kernel"},
    "kernel_entry": {"kernel_engine"},
    "whole_files": {"follow", "hashes"},
    "sweep_rows": set(),
    "sweep_spec": {"sweep_rows"},
    "sweep_book": {"notebook", "request", "sweep_rows"},
    "sweep_runs": {
        "catalogue",
        "machine",
        "pace",
        "plan",
        "request",
        "sweep_book",
        "sweep_rows",
        "sweep_spec",
        "weights",
    },
    "sweep_lock": {"whole_files"},
    "sweep_folder": {
        "follow",
        "result",
        "sweep_book",
        "sweep_lock",
        "sweep_runs",
        "sweep_spec",
        "whole_files",
    },
    "sweep_worker": {"kernel_engine", "notebook"},
    "sweep_deaths": set(),
    "sweep": {
        "sweep_book",
        "sweep_deaths",
        "sweep_folder",
        "sweep_lock",
        "sweep_runs",
        "sweep_spec",
        "sweep_worker",
    },
    "sweep_table": {"progress", "sweep", "sweep_runs"},
    "measures": set(),
    "sweep_frame": {
        "arrow",
        "machine",
        "measures",
        "result",
        "sweep_folder",
        "sweep_runs",
        "video",
        "whole_files",
    },
    "sweep_ray": {"sweep_worker", "whole_files"},
    "sweep_cli": {
        "experiment",
        "experiment_page",
        "sweep",
        "sweep_folder",
        "sweep_lock",
        "sweep_ray",
        "sweep_table",
    },
    "markup": set(),
    "clips": {"machine", "markup", "video"},
    "experiment": {"sweep_folder", "sweep_frame", "sweep_table"},
    "experiment_sheet": {"clips", "experiment", "markup"},
    "experiment_plots": {"experiment", "markup", "report_plots"},
    "experiment_page": {
        "experiment",
        "experiment_plots",
        "experiment_sheet",
        "markup",
        "sweep_folder",
        "whole_files",
    },
    "experiment_book": {
        "compare",
        "experiment",
        "experiment_page",
        "experiment_plots",
        "experiment_sheet",
        "markup",
        "result",
        "sweep",
        "sweep_table",
        "video",
    },
    "meter": set(),
    "ceiling": {"cost", "pace", "plan"},
    "bench_file": {"whole_files"},
    "bench_compare": {"bench_file"},
    "baseline": {"components", "pipeline", "plan", "request", "video", "ways"},
    "measure": {
        "bench_file",
        "decode",
        "events",
        "generate",
        "meter",
        "pipeline",
        "plan",
        "request",
        "result",
    },
    "benchmark": {
        "baseline",
        "bench_compare",
        "bench_file",
        "ceiling",
        "machine",
        "measure",
        "pipeline",
        "plan",
        "random_weights",
        "request",
        "ways",
        "weights",
    },
    "references": {"bench_compare", "bench_file"},
    "report_plots": {"bench_compare", "bench_file", "references"},
    "report": {"bench_compare", "bench_file", "references", "report_plots"},
    "bench_cli": {"bench_compare", "bench_file", "benchmark", "report"},
    "jobs": {"events", "request", "result"},
    "preview": set(),
    "studio": {
        "catalogue",
        "events",
        "generate",
        "jobs",
        "machine",
        "pace",
        "pipeline",
        "plan",
        "preview",
        "reproduce",
        "result",
        "weights",
    },
    "grid": {"jobs", "request", "result", "sheet", "video"},
    "controls": set(),
    "form": {"controls", "enrich", "plan", "prompts", "request", "weights"},
    "viewer": {"controls", "display", "request", "result", "video"},
    "panel": {"controls", "form", "jobs", "studio", "viewer", "weights"},
    "grid_panel": {"controls", "form", "grid", "jobs", "preview", "studio", "video"},
    "gallery": {
        "catalogue",
        "controls",
        "posters",
        "reproduce",
        "result",
        "studio",
        "trash",
        "viewer",
    },
    "compare": {"controls", "result", "sheet", "video"},
    "workbench": {
        "compare",
        "controls",
        "gallery",
        "grid_panel",
        "machine",
        "panel",
        "plan",
        "studio",
        "weights",
    },
}
IMPORT_DIFFUSERS = {
    "baseline",
    "components",
    "pipeline",
    "placement",
    "scheduler",
    "speedups",
    "vae",
}
LOAD_TORCH = IMPORT_DIFFUSERS | {
    "attention",
    "decode",
    "embeddings",
    "flash_attention",
    "generate",
    "measure",
    "reproduce",
}
DOORS = {"__init__", "__main__"}


def imports_of(module: str) -> tuple[set[str], set[str]]:
    """(modules of the package, other top-level packages) that a module imports anywhere in it.

    Names for type checkers alone aren't imported.
    """
    own, foreign = set(), set()
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    tree.body = [node for node in tree.body if not _for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            own |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            foreign.add(node.module.split(".")[0])
    return own - {"__version__"}, foreign


def _for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"


def test_every_module_is_in_the_table():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(MAY_IMPORT) | DOORS


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_imports_follow_the_road(module):
    own, foreign = imports_of(module)
    assert own <= MAY_IMPORT[module] | ANYWHERE
    assert "diffusers" not in foreign or module in IMPORT_DIFFUSERS


@pytest.mark.parametrize("module", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_only_settings_reads_the_environment(module):
    read = ("environ.get", "environ[", "getenv")
    assert module.stem == "settings" or not any(word in module.read_text() for word in read)


def test_only_heavy_modules_load_torch_and_none_loads_pandas():
    light = sorted((set(MAY_IMPORT) | {"__main__"}) - LOAD_TORCH)
    names = ", ".join(f"cogvx_nb.{name}" for name in light)
    # Not pyarrow: papermill loads it by itself where it is installed.
    heavy = "[name for name in ('torch', 'diffusers', 'pandas') if name in sys.modules]"
    code = f"import sys, cogvx_nb, {names}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
