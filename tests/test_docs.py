"""The pages say the same in both languages, and name only what there is."""

from __future__ import annotations

import argparse
import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from cogvx_nb.check import environment, gpu, probes, run
from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import build_parser
from cogvx_nb.planning import memory, planner
from cogvx_nb.planning.machine import Gpu, Machine

PAGES = [("README.md", "README.zh-CN.md"), ("docs/deploy.md", "docs/deploy.zh-CN.md")]
ALL = [page for pair in PAGES for page in pair]
pairs = pytest.mark.parametrize(("english", "chinese"), PAGES)
pages = pytest.mark.parametrize("page", ALL)
guides = pytest.mark.parametrize("page", PAGES[1])

GPU = Gpu(0, "a GPU", 2**40, 2**40, (9, 0), True)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """Lines of the code blocks, without their comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    return [line.split("  #")[0].rstrip() for block in blocks for line in block.splitlines()]


def tables(text: str) -> list[tuple[int, int]]:
    """(rows, columns) of each table."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    return [(len(b.splitlines()), b.splitlines()[0].count("|")) for b in blocks]


def rows_of(page: str, head: str) -> list[list[str]]:
    """Cells of the rows of the one table whose head matches."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", read(page), re.M)
    (found,) = [block for block in blocks if re.search(head, block.splitlines()[0])]
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in found.splitlines()[2:]]


def literals(module: str) -> list[str]:
    """The fixed parts of all strings of a module."""
    tree = ast.parse((ROOT / "cogvx_nb" / f"{module}.py").read_text(encoding="utf-8"))
    nodes = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [value for value in nodes if isinstance(value, str)]


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (group,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return group.choices


def flags(parser: argparse.ArgumentParser) -> set[str]:
    return {f for action in parser._actions for f in action.option_strings if f.startswith("--")}


@pairs
def test_both_languages_have_the_same_parts(english, chinese):
    one, other = read(english), read(chinese)
    levels = [
        re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", t, flags=re.M | re.S), re.M)
        for t in (one, other)
    ]
    assert levels[0] == levels[1]
    assert commands(one) == commands(other)
    assert tables(one) == tables(other)


@pairs
def test_both_languages_have_the_same_numbers(english, chinese):
    """In the tables, where they matter; Chinese writes some of the others as words."""
    rows = [re.findall(r"^\|.*\|$", read(page), re.M) for page in (english, chinese)]
    for one, other in zip(*rows, strict=True):
        numbers = [sorted(re.findall(r"\d+(?:\.\d+)*", row)) for row in (one, other)]
        assert numbers[0] == numbers[1], (one, other)


@pages
def test_named_commands_and_flags_exist(page):
    known = subcommands()
    every = set().union(*(flags(parser) for parser in known.values())) | {"--version"}
    for name in re.findall(r"(?:`|bin/|^)cogvx ([a-z]+)", read(page), re.M):
        assert name in known
    for line in re.findall(r"(?:`|bin/|^)(cogvx [a-z]+[^`\n]*)", read(page), re.M):
        named = set(re.findall(r"(--[a-z-]+)", line.split("  #")[0]))
        assert named <= flags(known[line.split()[1]]), line
    foreign = {"--index-url", "--force-reinstall"}
    assert set(re.findall(r"`(--[a-z-]+)", read(page))) <= every | foreign


@pytest.mark.parametrize(
    "name", ["bench", "check", "download", "verify", "generate", "list", "sweep"]
)
@pytest.mark.parametrize("page", PAGES[0])
def test_each_flag_is_in_a_table(page, name):
    if name == "generate":
        listed = {
            flag for row in rows_of(page, "`generate`") for flag in re.findall("--[a-z-]+", row[0])
        }
    else:
        rows = rows_of(page, r"^. (flag of|命令) \|")
        listed = {row[1].strip("`") for row in rows if f"`{name}`" in row[0]}
    assert listed == flags(subcommands()[name]) - {"--help", "--debug"}
    assert "--debug" in read(page)


@pages
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", read(page)):
        path = (ROOT / page).parent / target
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M) if anchor else []
        assert anchor in ["", *(line.lower().replace(" ", "-") for line in headings)]


@pages
def test_each_module_is_in_the_map(page):
    if page.startswith("README"):
        modules = {path.stem for path in (ROOT / "cogvx_nb").glob("*.py")} - {"__init__"}
        assert not [name for name in modules if f"`{name}`" not in read(page)]


@pages
def test_pages_name_no_folder_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", read(page))
    assert Path(ROOT / page).stat().st_size < 40_000


@guides
@pytest.mark.parametrize(
    ("head", "modules"),
    [
        ("cause|原因", ("__main__", "download", "hubs", "manifest", "transfer", "verify")),
        ("row `torch and driver`|的 `torch and driver`", ("check_gpu",)),
        ("`--enrich` (says|的提示)", ("chat", "enrich")),
    ],
)
def test_messages_are_those_of_the_code(page, head, modules):
    said = [text for module in modules for text in literals(module)]
    for row in rows_of(page, head):
        for words in re.split(r"\s*…\s*|, (?=the |driver )", row[0]):
            assert any(words in text for text in said), words


@guides
def test_each_row_of_check_is_explained(page, monkeypatch, tmp_path):
    """With a GPU and without, and with everything that is tried failing."""
    documented = []
    for row in rows_of(page, r"^. (row|行) "):
        documented += [re.escape(n).replace("…", ".+") for n in re.findall(r"`([^`]+)`", row[0])]
    (tmp_path / "other").mkdir()
    (tmp_path / ".incomplete" / "CogVideoX-5b").mkdir(parents=True)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(environment, "_ask_hub", lambda address: "")
    failed = probes.Probe({}, "broken")
    monkeypatch.setattr(probes, "run_probes", lambda names: dict.fromkeys(names, failed))
    shown = []
    for driver in (None, gpu.Driver("580.65.06", (GPU,))):
        monkeypatch.setattr(gpu, "nvidia_smi", lambda driver=driver: driver)
        shown += [row.name for row in run.run_check("CogVideoX-5b", online=True).rows]
    packages = {re.match(r"[\w-]+", line)[0] for line in environment.stated_requirements()[1]}
    for name in set(shown) - packages:
        assert any(re.fullmatch(pattern, name) for pattern in documented), name
    for pattern in set(documented) - {"packages"}:
        assert any(re.fullmatch(pattern, name) for name in shown), pattern


@pages
def test_memory_by_mode_is_what_the_planner_says(page):
    here = Machine("", 1, 1, 2**40, 2**40, (GPU,), {})
    rows = rows_of(page, r"13 (frames|帧) \| 25 (frames|帧) \| 49 (frames|帧)")
    fitted = [planner.predict_plan(registry.COGVIDEOX_5B, here, n) for n in (13, 25, 49)]
    kinds = [(name, False) for name in planner.PLACEMENTS] + [("streamed", True)]
    for (name, tiled), row in zip(kinds, rows, strict=False):
        kind = [replace(planner.with_placement(one, name, here), tiled=tiled) for one in fitted]
        assert [f"{memory.peak_bytes(one) / 2**30:.1f}" for one in kind] == row[1:4]
        assert f"{memory.ram_bytes(kind[0]) / 2**30:.1f}" == row[4]
        assert f"`{name}`" in row[0]


@guides
def test_drivers_and_hubs_are_those_of_the_code(page):
    for row in rows_of(page, "compute capability|计算能力")[:2]:
        assert row[1] == gpu.MINIMUM_DRIVER[int(row[0])]
        assert f"/{gpu.BUILDS[int(row[0])]}`" in row[3]
    fetched = [one for one in registry.CHECKPOINTS if one.modelscope]
    rows = rows_of(page, "ModelScope \\| Hugging Face")
    assert [row[:3] for row in rows] == [
        [one.name, f"`{one.modelscope}`", f"`{one.huggingface}`"] for one in fetched
    ]


@pytest.mark.parametrize("page", PAGES[0])
def test_each_model_is_in_the_table(page):
    rows = rows_of(page, "its videos|生成的视频")
    assert len(rows) == len(registry.CHECKPOINTS)
    for row in rows:
        known = registry.find_checkpoint(re.search("`(.*)`", row[0])[1])
        numbers = [known.height, known.width, *known.frames, known.fps]
        assert [int(number) for number in re.findall(r"\d+", row[1])] == numbers
        assert row[3] == known.licence
