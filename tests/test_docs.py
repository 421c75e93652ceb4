"""The pages name only what there is, and say the same in both languages."""

from __future__ import annotations

import argparse
import ast
import re
import runpy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

import cogvx_nb
from cogvx_nb.check import environment, gpu, report, run
from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import build_parser
from cogvx_nb.notebooks.template import VIDEO_PARAMETERS
from cogvx_nb.planning import cost, placements, planner
from cogvx_nb.planning.fields import FIELDS
from cogvx_nb.planning.machine import Gpu, Machine

PAGES = [("README.md", "README.zh-CN.md"), ("docs/deploy.md", "docs/deploy.zh-CN.md")]
ALL = [*PAGES[0], *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
MODEL_CARDS = ["README.md", "cogvideox-tiny/README.md", "cogvideox-tiny-i2v/README.md"]
MODEL_CARDS = [f"models/{card}" for card in MODEL_CARDS]
pairs = pytest.mark.parametrize(("english", "chinese"), PAGES)
pages = pytest.mark.parametrize("page", ALL)
readmes = pytest.mark.parametrize("page", PAGES[0])
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
    return [(len(block.splitlines()), block.splitlines()[0].count("|")) for block in blocks]


def rows_of(page: str, head: str) -> list[list[str]]:
    """Cells of the rows of the one table whose head matches."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", read(page), re.M)
    (table,) = [block for block in blocks if re.search(head, block.splitlines()[0])]
    return cells(table)


def rows_under(page: str, heading: str) -> list[list[str]]:
    """Cells of the rows of the first table under a heading."""
    section = read(page).split(f"# {heading}\n")[1]
    return cells(re.search(r"(?:^\|.*\|\n)+", section, re.M)[0])


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()[2:]]


def literals(pattern: str) -> list[str]:
    """The fixed parts of all strings of the modules that match, such as ``check/*.py``."""
    paths = [*(ROOT / "cogvx_nb").glob(pattern)]
    assert paths, pattern
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return groups[0].choices if groups else {}


@cache
def flags_by_command() -> dict[str, set[str]]:
    """Long flags of each command, those of its own commands included."""

    def flags(parser: argparse.ArgumentParser) -> set[str]:
        own = {f for a in parser._actions for f in a.option_strings if f.startswith("--")}
        return own.union(*map(flags, subcommands(parser).values()))

    return {name: flags(parser) for name, parser in subcommands(build_parser()).items()}


@pairs
def test_both_languages_have_the_same_parts(english, chinese):
    texts = [read(english), read(chinese)]
    levels = [
        re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
        for text in texts
    ]
    assert levels[0] == levels[1]
    assert commands(texts[0]) == commands(texts[1])
    assert tables(texts[0]) == tables(texts[1])


@readmes
def test_readme_is_short(page):
    lines = read(page).splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 330


def test_the_test_command_can_be_read_by_a_script():
    marked = re.search(r"<!-- test command -->\n```bash\n(.*)\n```", read("README.md"))
    assert marked[1].endswith(".venv/bin/pytest -n 2 --dist loadfile")


@pages
def test_named_commands_and_flags_exist(page):
    known = flags_by_command()
    for name in re.findall(r"(?:`|bin/|^)cogvx ([a-z]+)", read(page), re.M):
        assert name in known
    for line in re.findall(r"(?:`|bin/|^)(cogvx [a-z]+[^`\n]*)", read(page), re.M):
        named = set(re.findall(r"(--[a-z-]+)", line.split("  #")[0]))
        assert named <= known[line.split()[1]], line
    foreign = {"--version", "--index-url", "--force-reinstall", "--random", "--sweeps"}
    assert set(re.findall(r"`(--[a-z-]+)", read(page))) <= set().union(*known.values()) | foreign


@readmes
def test_each_command_is_in_the_readme(page):
    named = {row[0].split()[1].strip("`") for row in rows_of(page, "^. (command|命令) ")}
    assert named == flags_by_command().keys()


def test_the_command_reference_is_up_to_date():
    """Else: python docs/write_cli.py"""
    script = runpy.run_path(str(ROOT / "docs" / "write_cli.py"))
    assert read("docs/cli.md") == script["render_page"](build_parser())


def test_each_public_name_is_documented():
    assert not [name for name in cogvx_nb._API if name not in read("docs/python.md")]


def test_each_package_is_in_the_architecture():
    page, package = read("docs/architecture.md"), ROOT / "cogvx_nb"
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert not [name for name in packages if f"── {name}/ " not in page]
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert not [name for name in modules if not re.search(rf"── .*\b{name}\b", page)]


def test_files_and_functions_named_in_the_architecture_exist():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "cogvx_nb").rglob("*.py"))
    page = read("docs/architecture.md")
    for row in rows_of("docs/architecture.md", "^. step "):
        for name in re.findall("`([a-z_]+)`", row[1]):
            assert f"def {name}(" in source
        for name in re.findall("`([a-z_/]+)`", row[2]):
            assert (ROOT / "cogvx_nb" / f"{name}.py").is_file()
    for name in re.findall(r"`[a-z_/]+\.([a-z_]{4,})`", page):
        assert f"def {name}(" in source
    for name in re.findall(r"`([A-Z_]+)`", page):
        assert re.search(rf"^{name}\b.* = ", source, re.M)
    for name in re.findall(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|ipynb))`", page):
        assert any((folder / name).is_file() for folder in (ROOT, ROOT / "cogvx_nb")), name
    assert [row[0] for row in rows_of("docs/architecture.md", "^. placement ")] == [
        f"`{name}`" for name in placements.PLACEMENTS
    ]


@pytest.mark.parametrize("page", ALL + MODEL_CARDS)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", read(page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M) if anchor else []
        assert anchor in ["", *map(anchor_of, headings)], (target, anchor)


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", ALL + MODEL_CARDS)
def test_pages_name_no_folder_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", read(page))
    assert Path(ROOT / page).stat().st_size < 40_000


@pytest.mark.parametrize(
    ("heading", "patterns"),
    [
        ("torch and the driver", ("check/gpu.py",)),
        ("Downloading and verifying", ("cli/*.py", "checkpoints/*.py", "files.py")),
        ("Memory", ("planning/*.py", "pipeline/*.py")),
        ("Sweeps", ("sweep/*.py", "planning/*.py", "notebooks/*.py")),
        ("Enriching a prompt", ("planning/*.py", "settings.py", "errors.py")),
    ],
)
def test_messages_are_those_of_the_code(heading, patterns):
    texts = [text for pattern in patterns for text in literals(pattern)]
    for row in rows_under("docs/troubleshooting.md", heading):
        for words in re.split(r"\s*…\s*|, (?=the |driver )", row[0]):
            assert any(words in text for text in texts), words


@guides
def test_each_row_of_check_is_explained(page, monkeypatch, tmp_path):
    """With a GPU and without, and with everything that is tried failing."""
    documented = []
    for row in rows_of(page, r"^. (row|行) "):
        documented += [re.escape(n).replace("…", ".+") for n in re.findall(r"`([^`]+)`", row[0])]
    (tmp_path / "other").mkdir()
    (tmp_path / ".incomplete" / "CogVideoX-5b").mkdir(parents=True)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path))
    failed = report.Probe({}, "broken")
    monkeypatch.setattr(
        report, "run_probes", lambda names, watch=None: dict.fromkeys(names, failed)
    )
    shown = []
    for driver in (None, gpu.Driver("580.65.06", (GPU,))):
        monkeypatch.setattr(gpu, "nvidia_smi", lambda driver=driver: driver)
        shown += [row.name for row in run.run_check("CogVideoX-5b", online=True).rows]
    packages = {re.match(r"[\w-]+", line)[0] for line in environment.stated_requirements()[1]}
    for name in set(shown) - packages:
        assert any(re.fullmatch(pattern, name) for pattern in documented), name
    for pattern in set(documented) - {"packages"}:
        assert any(re.fullmatch(pattern, name) for name in shown), pattern


@guides
def test_memory_by_placement_is_what_the_planner_says(page):
    machine = Machine("", 1, 1, 2**40, 2**40, (GPU,), {})
    rows = rows_of(page, r"13 (frames|帧) \| 25 (frames|帧) \| 49 (frames|帧)")
    fitted = [planner.predict_plan(registry.COGVIDEOX_5B, machine, n) for n in (13, 25, 49)]
    kinds = [(name, False) for name in placements.PLACEMENTS] + [("group_offload", True)]
    for (name, tiled), row in zip(kinds, rows, strict=False):
        plans = [
            replace(planner.with_placement(plan, name, machine), tiled=tiled) for plan in fitted
        ]
        assert [f"{cost.peak_bytes(plan) / 2**30:.1f}" for plan in plans] == row[1:4]
        assert f"{cost.ram_bytes(plans[0]) / 2**30:.1f}" == row[4]
        assert f"`{name}`" in row[0]


@guides
def test_memory_of_8_bit_weights_is_what_the_planner_says(page):
    machine = Machine("", 1, 1, 2**40, 2**40, (GPU,), {"torchao": "0"})
    model, way = registry.COGVIDEOX_5B, "group_offload"
    exact, fast = (
        planner.with_placement(planner.predict_plan(model, machine, 49, speed), way, machine)
        for speed in ("exact", "fast")
    )
    (line,) = re.findall("^- .*`--speed fast`.*$", read(page), re.M)
    weights = [cost.weight_bytes(one)["transformer"] for one in (fast, exact)]
    gib = [f"{count / 2**30:.1f}" for count in (*weights, fast.ram_bytes)]
    assert re.findall(r"\d+\.\d", line) == gib


@guides
def test_memory_of_cogvideox15_is_what_the_planner_says(page):
    machine = Machine("", 1, 1, 2**40, 2**40, (GPU,), {})
    (line,) = [
        line for line in read(page).splitlines() if "CogVideoX1.5-5B" in line and "39" in line
    ]
    fitted = replace(planner.predict_plan(registry.COGVIDEOX_15_5B, machine, 81), compiled=True)
    ways = [("no_offload", 0), ("model_offload", 0), ("group_offload", 0), ("group_offload", 1)]
    plans = [replace(fitted, placement=name, tiled=bool(tiled)) for name, tiled in ways]
    gib = [f"{cost.peak_bytes(plan) / 2**30:.1f}" for plan in plans]
    assert gib[1] == gib[2]
    assert re.findall(r"\d+\.\d", line.replace("CogVideoX1.5", "")) == [gib[0], gib[1], gib[3]]


@guides
def test_what_torch_reserves_where_there_is_room_covers_the_prediction(page):
    machine = Machine("", 1, 1, 2**40, 2**40, (GPU,), {})
    (line,) = re.findall("^- .*torch .* 1.5 GiB.*$", read(page), re.M)
    stated = map(float, re.findall(r"(?<!CogVideoX)\d+\.\d", line))
    for known, most in zip((registry.COGVIDEOX_5B, registry.COGVIDEOX_15_5B), stated, strict=True):
        fitted = planner.predict_plan(known, machine, known.frame_counts[-1])
        fitted = planner.with_placement(fitted, "group_offload", machine)
        extra = cost.reserved_bytes(fitted, 2**40) - cost.peak_bytes(fitted)
        assert 0 < extra / 2**30 <= most


@guides
def test_drivers_and_hubs_are_those_of_the_code(page):
    for row in rows_of(page, "compute capability|计算能力")[:2]:
        assert row[1] == gpu.MINIMUM_DRIVER[int(row[0])]
        assert f"/{gpu.BUILDS[int(row[0])]}`" in row[3]
    hosted = [checkpoint for checkpoint in registry.CHECKPOINTS if checkpoint.huggingface]
    rows = rows_of(page, "ModelScope \\| Hugging Face")
    assert [row[:3] for row in rows] == [
        [known.name, f"`{known.modelscope}`" if known.modelscope else "–", f"`{known.huggingface}`"]
        for known in hosted
    ]
    assert [row[3] for row in rows] == [f"{known.stored_bytes / 1e9:.1f} GB" for known in hosted]


@readmes
def test_models_of_the_readme_are_as_registered(page):
    for row in rows_of(page, "its videos|生成的视频"):
        for name in re.findall("`([^`]*)`", row[0]):
            known = registry.get_checkpoint(name)
            numbers = [known.height, known.width, *known.frames, known.fps]
            assert [int(number) for number in re.findall(r"\d+", row[1])] == numbers
            assert row[3] == known.licence


def test_each_checkpoint_is_in_the_guide():
    words = {
        registry.TEXT: "text",
        registry.IMAGE: "an image",
        registry.FRAMES: "a first and a last image",
        registry.CLIP: "a clip to change",
        registry.CONTROL: "a clip to follow",
        registry.EXTEND: "a clip to extend",
    }
    rows = [
        [
            f"`{known.name}`",
            f"{known.sizes}, upright too" if known.sizes else f"{known.height} × {known.width}",
            known.frame_rule,
            str(known.fps),
            ", ".join(words[task] for task in known.tasks),
            known.licence,
        ]
        for known in registry.CHECKPOINTS
    ]
    assert rows_of("docs/guide.md", "starts from") == rows


def item_of(page: str, name: str) -> str:
    """The item of a list that begins with a bold name, in one line."""
    (item,) = re.findall(rf"^- \*\*{name}\*\* (.*(?:\n  .*)*)", read(page), re.M)
    return " ".join(item.split())


def test_the_choices_of_auto_are_in_the_guide():
    item = item_of("docs/guide.md", "model")
    for task in (registry.TEXT, registry.CLIP, registry.IMAGE, registry.FRAMES):
        able = [known for known in registry.CHECKPOINTS if task in known.tasks]
        for embedded in (False, True):
            known = next(known for known in able if known.is_embedded == embedded)
            assert f"`{known.name}`" in item
            assert (
                known.licence != "none stated" or f"`{known.name}` (licence: none stated)" in item
            )


def test_offered_frames_are_in_the_guide_and_their_rules_in_the_help():
    guide, told = " ".join(read("docs/guide.md").split()), FIELDS["frames"].help
    for known in registry.CHECKPOINTS:
        *others, last = known.frames
        assert f"{', '.join(map(str, others))} and {last}" in guide, known.name
        rule = known.frame_rule
        assert re.sub(r" from \d+ to (\d+).*", r" up to \1", rule) in told, known.name
    fewest = {known.frames[0] for known in registry.CHECKPOINTS}
    item = item_of("docs/guide.md", "fallback")
    assert {int(number) for number in re.findall(r"\b1[37]\b", item)} == fewest


def test_what_makes_a_notebook_one_of_videos_is_in_the_guide():
    (named,) = re.findall(
        r"If that cell sets (.*?) \(other", " ".join(read("docs/guide.md").split())
    )
    assert tuple(re.findall(r"`(\w+)`", named)) == VIDEO_PARAMETERS


@readmes
def test_what_generate_starts_from_is_in_the_readme(page):
    assert "from a prompt, a picture or a clip" in read("docs/cli.md")
    words = "from a prompt, a picture or a clip|由提示词、图片或视频片段"
    assert re.search(rf"^\| `cogvx generate` \|.*({words})", read(page), re.M)
