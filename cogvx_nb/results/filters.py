"""Filters and orders of results: a condition on any column of the index, and short ones for the
usual questions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..errors import RequestError, did_you_mean
from ..loras.entries import parse_entry
from ..planning.rows import LORA_WEIGHTS
from .columns import COLUMNS, COMPUTED, fold_text, tag_text
from .typed import MAX_INTEGER

KINDS = {name: column.kind for name, column in COLUMNS.items()} | {
    name: COMPUTED[name] for name in ("seconds", "sweep")
}
"""Columns that conditions can be on, with their types."""

TESTS = {
    "=": "{} = ?",
    "!=": "{} IS NOT ?",
    "<": "{} < ?",
    "<=": "{} <= ?",
    ">": "{} > ?",
    ">=": "{} >= ?",
    "~": "instr(fold({}), ?) > 0",  # contains, ignoring case
}

FORMER_SWITCHES = ("step_cache",)
"""Columns of text that were true or false: still comparable with these, true for any text."""

CONDITION = re.compile(
    rf'\s*({LORA_WEIGHTS}(?:"(?:[^"]|"")+"|.+?)|\w+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*', re.DOTALL
)

NEWEST_FIRST = "at DESC, folder, name"

GPU_COUNT = (
    "(CASE ifnull(peers, '') WHEN '' THEN 1"
    " ELSE 2 + length(peers) - length(replace(peers, ',', '')) END)"
)
"""How many devices shared the steps of a result: the names of all but the first are joined."""

GROUPS = ("prompt", "grid", "sweep")
"""Columns by which results can be grouped: those of one text."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of a column of each result; one without a value there passes ``!=`` only."""

    column: str  # of ``KINDS``, or the weight of a LoRA, such as ``lora:outline``
    test: str  # of ``TESTS``
    value: object  # text, a number, true or false

    def clause(self) -> tuple[str, tuple]:
        """(test in SQL, its values).

        Raises:
            RequestError: if there is no such column or test, or the value is not of its type.
        """
        if self.column.startswith(LORA_WEIGHTS):
            return self._weight_clause()
        if self.column not in KINDS:
            hint = did_you_mean(self.column, KINDS) or f"; use one of {', '.join(KINDS)}"
            raise RequestError("where", self.column, f"is no value of a result{hint}")
        if self.test not in TESTS:
            raise RequestError("where", self.test, f"compare by one of {' '.join(TESTS)}")
        # The + keeps SQLite from using the index results_pace, whose rows it would have to sort.
        column = "at" if self.column == "made" else f"+{self.column}"
        if self.column in FORMER_SWITCHES and str(self.value).lower() in ("false", "true"):
            return TESTS[self.test].format(f"({column} != '')"), (_true_or_false(self.value),)
        return TESTS[self.test].format(column), (self._typed_value(KINDS[self.column]),)

    def _weight_clause(self) -> tuple[str, tuple]:
        name = parse_entry(self.column.removeprefix(LORA_WEIGHTS)).name
        if self.test not in TESTS or self.test == "~":
            tests = " ".join(test for test in TESTS if test != "~")
            raise RequestError("where", self.test, f"compare weights by one of {tests}")
        test = TESTS[self.test].format("lora_weight(lora, ?)")
        return test, (_storable(fold_text(name)), self._typed_value(float))

    def _typed_value(self, kind: type) -> object:
        if self.column == "made":
            return self._moment()
        if self.test == "~":
            return _storable(fold_text(str(self.value)))
        try:
            if self.value is None:
                raise ValueError
            return _READERS[kind](self.value)
        except (ValueError, TypeError, OverflowError):
            raise RequestError(self.column, self.value, f"must be {_NAMES[kind]}") from None

    def _moment(self) -> float:
        """Seconds since 1970; of this machine's time zone where none is said."""
        try:
            if self.test not in ("=", "!=", "~"):
                return datetime.fromisoformat(str(self.value)).timestamp()
            remedy = "compare times by < <= > >="
        except (ValueError, OverflowError, OSError):
            remedy = "must be a date or time, such as 2026-01-31 or 2026-01-31T18:30"
        raise RequestError("made", self.value, remedy)


def parse_condition(text: str) -> Condition:
    """A condition as typed, such as ``steps >= 20`` or ``device = cuda``.

    Raises:
        RequestError: if it is none.
    """
    match = CONDITION.fullmatch(text)
    if not match:
        tests = " ".join(TESTS)
        raise RequestError("where", text, f"write it like 'steps >= 20', with one of {tests}")
    condition = Condition(*match.groups())
    condition.clause()
    return condition


@dataclass(frozen=True, slots=True)
class Search:
    """Which results are wanted. All of it must be true of a result."""

    text: str = ""  # words that all occur in prompt, note or tags, ignoring case, also within words
    model: str = ""  # empty: any
    frames: int = 0  # 0: any
    seed: int | None = None
    stars: int = 0  # at least
    tag: str = ""  # ignoring case
    where: tuple[Condition | str, ...] = ()  # texts as for ``parse_condition``

    def clause(self, *more: str) -> tuple[str, tuple]:
        """(WHERE clause, its values).

        Args:
            more: tests without values.

        Raises:
            RequestError: if a condition is none.
        """
        words = self.text.split()
        tests = [("instr(folded, ?) > 0", _storable(fold_text(word))) for word in words]
        tests += [("+model = ?", _storable(self.model))] if self.model else []
        tests += [("frames = ?", _clamped(self.frames))] if self.frames else []
        tests += [("seed = ?", _clamped(self.seed))] if self.seed is not None else []
        tests += [("stars >= ?", _clamped(self.stars))] if self.stars else []
        tests += [("instr(tagged, ?) > 0", _storable(tag_text(self.tag)))] if self.tag else []
        conditions = [
            (parse_condition(one) if isinstance(one, str) else one).clause() for one in self.where
        ]
        parts = [*(test for test, _ in (*tests, *conditions)), *more]
        where = f"WHERE {' AND '.join(parts)}" if parts else ""
        return where, sum((values for _, values in conditions), tuple(value for _, value in tests))


def is_sortable(column: str) -> bool:
    """Whether results can be sorted by a column."""
    return column == "made" or KINDS.get(column) in (int, float, bool)


def order_clause(column: str, ascending: bool) -> str:
    """ORDER BY for a column, results without a value last, newest first among equal ones.

    Raises:
        RequestError: if results can't be sorted by it.
    """
    if column == "made":
        return f"ORDER BY at {'ASC' if ascending else 'DESC'}, folder, name"
    if not is_sortable(column):
        names = [name for name in KINDS if is_sortable(name) and name != "made"]
        remedy = f"sort by made or one of {', '.join(names)}{did_you_mean(column, names)}"
        raise RequestError("sort", column, remedy)
    direction = "ASC" if ascending else "DESC"
    return f"ORDER BY +{column} IS NULL, +{column} {direction}, {NEWEST_FIRST}"


def list_query(search: Search, order: str, group: str) -> tuple[str, tuple]:
    """(query for row ids and how many results each stands for, its values).

    Args:
        order: of ``order_clause``.
        group: one of ``GROUPS``, or empty: only the first of each group, and none without one.

    Raises:
        RequestError: if a condition is none, or results can't be grouped by it.
    """
    if not group:
        where, values = search.clause()
        return f"SELECT rowid, 1 FROM results {where} {order}", values
    if group not in GROUPS:
        raise RequestError("group", group, f"use one of {', '.join(GROUPS)}")
    where, values = search.clause(f"{group} != ''")
    ranked = (
        f"SELECT rowid AS id, row_number() OVER (PARTITION BY {group} {order}) AS place, count(*)"
        f" OVER (PARTITION BY {group}) AS size FROM results {where}"
    )
    joined = f"({ranked}) JOIN results ON results.rowid = id"
    return f"SELECT id, size FROM {joined} WHERE place = 1 {order}", values


def _whole_number(value: object) -> int:
    return _clamped(value if type(value) is int else int(str(value)))


def _number(value: object) -> float:
    number = float(value) if not isinstance(value, bool) else math.nan
    if math.isnan(number):
        raise ValueError
    return number


def _true_or_false(value: object) -> bool:
    return ("false", "true").index(str(value).lower()) == 1


def _storable(text: str) -> str:
    """A text that SQLite accepts: lone surrogates, as from a command line, are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _clamped(number: int) -> int:
    """Clamp to SQLite's 64-bit range; an out-of-range value still matches nothing."""
    return max(-MAX_INTEGER, min(number, MAX_INTEGER))


_READERS: dict[type, Callable[[object], object]] = {
    str: lambda value: _storable(str(value)),
    int: _whole_number,
    float: _number,
    bool: _true_or_false,
}

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
