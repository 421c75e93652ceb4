"""Rows of parameters for a sweep, from YAML, text and CSV files."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from .errors import SpecError


@dataclass(frozen=True, slots=True)
class Row:
    """Values of some parameters, and where they stand.

    Attributes:
        values: by parameter; of text from a CSV file, and otherwise as YAML reads them.
        origin: such as ``line 3 of prompts.csv``; empty where there is nothing to say.
        texts: whether all values are text, yet to be read as what the notebook declares.
    """

    values: dict[str, object]
    origin: str = ""
    texts: bool = False


def parse(text: str) -> object:
    """What YAML's safe subset says, in which no key may stand twice.

    Raises:
        ValueError: with the line.
    """
    import yaml

    class Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
        pass

    def mapping(loader, node):
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise ValueError(f"line {line}: {name!r} stands twice in one mapping")
            seen.add(name)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"line {line} is no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # The last two are what PyYAML lets out for a wrong value under a tag, such as !!bool maybe.
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:100]}") from error


def prompts(content: str | list, folder: Path) -> tuple[Row, ...]:
    """Prompts in a list, a text file with one a line, or a CSV file with a column of them."""
    if isinstance(content, list):
        values = values_of("prompts", "prompt", content)
        return tuple(Row({"prompt": v}, f"row {n} of prompts") for n, v in enumerate(values, 1))
    path = folder / Path(content).expanduser()
    try:
        if path.suffix.lower() == ".csv":
            found = _csv(path)
        else:
            lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1)
            found = [
                Row({"prompt": line.strip()}, f"line {number} of {path.name}")
                for number, line in lines
                if line.strip()
            ]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"no UTF-8 text or CSV: {error}"
        raise SpecError(f"prompts = {content!r}: {path} can't be read: {reason}") from error
    if not found:
        raise SpecError(f"prompts = {content!r}: there is none in {path}")
    return tuple(found)


def _csv(path: Path) -> list[Row]:
    """Rows of a CSV file whose head names parameters; an empty cell gives none."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        head = [name.strip() for name in next(lines, [])]
        if "prompt" not in head or len(set(head)) < len(head) or not all(head):
            raise SpecError(
                f"{path.name}: its first line must name the columns, each once, and one of them "
                f"'prompt'; it is {','.join(head)[:80]!r}"
            )
        found = []
        for cells in lines:
            origin = f"line {lines.line_num} of {path.name}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise SpecError(f"{origin} has {len(cells)} cells of {len(head)}: mend its commas")
            named = zip(head, cells, strict=True)
            given = {name: cell for name, cell in named if cell.strip()}
            if "prompt" not in given:
                raise SpecError(f"{origin} has no prompt: give it one, or delete the line")
            found.append(Row(given, origin, texts=True))
    return found


def values_of(where: str, name: str, values: object) -> list:
    if not isinstance(values, list) or not values:
        raise SpecError(f"{where}: {name} = {short(values)}: must be a list with a value or more")
    return values


def short(value: object) -> str:
    try:
        shown = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # a date for a name
        shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
