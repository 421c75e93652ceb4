"""The pages say the same in both languages, and name only what there is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from conftest import ROOT

from cogvx_nb.__main__ import _parser

PAGES = [("README.md", "README.zh-CN.md"), ("docs/deploy.md", "docs/deploy.zh-CN.md")]
ALL = [page for pair in PAGES for page in pair]
pairs = pytest.mark.parametrize(("english", "chinese"), PAGES)
pages = pytest.mark.parametrize("page", ALL)


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


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (group,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
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


@pytest.mark.parametrize("name", ["check", "download", "verify", "generate"])
def test_each_flag_is_documented(name):
    text = read("README.md") + read("docs/deploy.md")
    missing = [f for f in flags(subcommands()[name]) - {"--help"} if f not in text]
    assert not missing


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", read(page)):
        assert ((ROOT / page).parent / target).exists(), target


@pages
def test_each_module_is_in_the_map(page):
    if page.startswith("README"):
        modules = {path.stem for path in (ROOT / "cogvx_nb").glob("*.py")} - {"__init__"}
        assert not [name for name in modules if f"`{name}`" not in read(page)]


@pages
def test_pages_name_no_folder_of_one_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", read(page))
    assert Path(ROOT / page).stat().st_size < 40_000
