"""Who may import whom, what loads torch, who reads the environment, and how long code may be."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys

from conftest import ROOT

PACKAGE = ROOT / "cogvx_nb"
LAYERS = """text errors imports paths settings files hashing leftovers
    events time_left piece_times live_line progress < media checkpoints < loras < planning
    < results notebooks < pipeline < training finishing < workflow reproduction
    < storyboard
    < check sweep benchmark workbench < reports < cli"""
RANK = {name: rank for rank, row in enumerate(LAYERS.split("<")) for name in row.split()}
"""Of the modules of the root and of the packages: imports lead to a lower one."""

SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}
MODULES = [name for name in SOURCES if not name.endswith(("__init__", "__main__"))]


def imported_modules(name: str) -> set[str]:
    """Modules of the package that a module imports, anywhere in it and for type checkers too."""
    targets = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ["cogvx_nb", *name.split(".")][: -node.level] + (node.module or "").split(".")
            names = [".".join([*filter(None, base), alias.name]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for full in names:
            inner = full.removeprefix("cogvx_nb.")
            targets |= {inner, inner.rpartition(".")[0]} & set(MODULES) if full != inner else set()
    return targets - {name}


IMPORTS = {name: imported_modules(name) for name in MODULES}


def package_of(module: str) -> str:
    """The package, or the module itself where it is in the root."""
    return module.split(".")[0]


def may_import(own: str, other: str) -> bool:
    if {own, other} == {"workbench", "reports"}:
        return False
    return own == other or RANK[other] < RANK[own] or RANK[other] == RANK[own] == 0


def test_imports_lead_to_lower_layers_only():
    arrows = {(module, target) for module, targets in IMPORTS.items() for target in targets}
    assert not {(a, b) for a, b in arrows if not may_import(package_of(a), package_of(b))}


def test_no_imports_in_a_circle_and_no_chain_of_more_than_twenty_one():
    order = graphlib.TopologicalSorter(IMPORTS).static_order()  # CycleError names the circle
    chains: dict[str, list[str]] = {}
    for name in order:
        chains[name] = [name, *max((chains[other] for other in IMPORTS[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= 21, " → ".join(longest)


def test_only_the_pipeline_and_the_baselines_import_diffusers():
    importing = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for full in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if full.split(".")[0] == "diffusers"
    }
    assert {n for n in importing if not n.startswith("pipeline.")} <= {"benchmark.baselines"}


def test_planning_and_the_command_load_no_torch():
    light = ("checkpoints", "planning", "cli")
    names = [f"cogvx_nb.{name}" for name in MODULES if package_of(name) in light]
    code = f"import sys, importlib, cogvx_nb\nfor name in {names}: importlib.import_module(name)\n"
    code += "print(sorted({'torch', 'diffusers', 'transformers', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_settings_reads_the_environment():
    words = ("environ.get", "environ[", "getenv")
    assert [n for n in MODULES if any(word in SOURCES[n] for word in words)] == ["settings"]


def test_scripts_of_the_page_are_short():
    scripts = sorted((PACKAGE / "workbench" / "static").glob("*.js"))
    lengths = {path.name: path.read_text(encoding="utf-8").count("\n") for path in scripts}
    assert lengths
    assert not {name: lines for name, lines in lengths.items() if lines > 300}


def test_modules_and_functions_are_short():
    assert len(MODULES) <= 315
    assert not {name: lines for name in MODULES if (lines := SOURCES[name].count("\n")) > 300}
    functions = [
        (name, node.name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 60
    ]
    assert functions == []
