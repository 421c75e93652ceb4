"""Any value of any kind for any field: a request, or one line with the field and the remedy."""

from __future__ import annotations

import math
import sys
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from conftest import CIRCLE
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cogvx_nb.errors import RequestError
from cogvx_nb.planning import fields, reading, request
from cogvx_nb.planning.fields import FIELDS


class Hostile:
    """Whatever is asked of it raises, also what it looks like."""

    def __repr__(self) -> str:
        raise OSError("no\nrepr")


LOOP: list = []
LOOP.append(LOOP)

ODD = st.sampled_from(
    [
        None,
        True,
        10**5000,
        -(10**5000),
        2**63,
        float("nan"),
        float("inf"),
        -0.0,
        5e-324,
        1 + 0j,
        Decimal("13"),
        Fraction(1, 3),
        Fraction(10**5000, 7),
        np.int64(13),
        np.float32(6.5),
        np.float64("nan"),
        np.bool_(True),
        np.str_(CIRCLE),
        np.arange(1000).reshape(10, 100),
        np.array(13),
        b"\xff" * 1000,
        "x" * 2**20,
        "a\ud800b",
        "\x00\x1b[31m\r\n\u202e\u2066" + CIRCLE,
        "\u0301" * 1999,
        "𝕒 red circle \U0010ffff",
        "13",
        "1e1",
        [13],
        {"frames": 13},
        LOOP,
        range(10**9),
        print,
        type,
        Hostile(),
        Hostile,
    ]
)
"""Values that people, tables, notebooks and attackers have given to something of this kind."""

ANY = (
    ODD
    | st.text(max_size=300)
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | st.lists(st.integers(), max_size=3)
)

PLAUSIBLE = {
    str: st.text(st.characters(codec="utf-8"), max_size=60) | st.just(CIRCLE),
    int: st.integers(0, 5000),
    float: st.floats(0, 200),
    bool: st.booleans(),
}

NAMES = st.sampled_from([*FIELDS, *fields.ALIASES]) | st.text(max_size=30) | st.just("x" * 2**20)


@st.composite
def any_values(draw) -> dict[str, object]:
    """Some fields, most with a value of their kind, some with any other."""
    values = {name: draw(ANY) for name in draw(st.lists(NAMES, max_size=3))}
    for name in draw(st.lists(st.sampled_from(list(FIELDS)), max_size=4)):
        values[name] = draw(PLAUSIBLE[FIELDS[name].kind])
    return values


def refused_in_one_line(call, *arguments, **keywords):
    """What a call returns, or None where it refuses its arguments as promised, and in time."""
    begun = time.process_time()
    try:
        return call(*arguments, **keywords)
    except RequestError as error:
        message = str(error)
        assert message.isprintable(), ascii(message)
        assert len(message) < 300, message
        return None
    finally:
        assert time.process_time() - begun < 30


@pytest.fixture(autouse=True, scope="module")
def tokenizer(tiny):
    """Loaded before anything is timed."""
    reading.load_tokenizer(tiny)


BOUNDED = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@BOUNDED
@given(any_values())
@example({"x" * 2**20: 1})
@example({"prompt": "\u202e" * 2001})
@example({"negative_prompt": "x" * 2**20, "prompt": CIRCLE})
@example({"seed": 10**5000})
def test_values_are_taken_or_refused(values):
    complete = refused_in_one_line(fields.complete_values, values)
    if complete is not None:
        assert list(complete) == list(FIELDS)
        for name, value in complete.items():
            assert value is None or type(value) is FIELDS[name].kind, name


@BOUNDED
@given(any_values())
@example({"prompt": "\U000112eb\U00018cd6" * 20})
def test_a_request_is_whole_or_refused(tiny, values):
    prompt = values.pop("prompt", CIRCLE)
    for name in ("model", "enrich"):
        values.pop(name, None)
    wanted = refused_in_one_line(request.make_request, tiny, prompt, **values)
    if wanted is not None:
        assert wanted.frames in tiny.checkpoint.frame_counts
        assert 1 <= wanted.steps <= 1000
        assert wanted.height % 16 == wanted.width % 16 == 0
        assert math.isfinite(wanted.guidance)
        assert 0 <= wanted.seed < 2**53
        for note in wanted.notes:
            assert len(note.splitlines()) == 1, note
        assert len(str(wanted).encode()) < 20_000


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_of_many_digits_is_refused_for_each_field(field):
    assert sys.get_int_max_str_digits() < 5000
    assert refused_in_one_line(fields.complete_values, {field: 10**5000}) is None
