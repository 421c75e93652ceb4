"""Prompts as the model reads them, and what it can't draw."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import replace

import prompts
import pytest
import world
from conftest import CIRCLE

from cogvx_nb.checkpoints.registry import CHECKPOINTS, COGVIDEOX_5B, TINY
from cogvx_nb.planning import request


def read(tiny, text: str) -> list[tuple[str, str, str]]:
    """(text, kind, nearest word) of each span, its place counted as JavaScript does."""
    units = text.encode("utf-16-le")
    return [
        (units[2 * span.start : 2 * span.end].decode("utf-16-le"), span.kind, span.near)
        for span in request.read_spans(tiny, text)
    ]


def test_spans_say_what_is_read(tiny):
    assert read(tiny, "  a red circel,\n😀 moving") == [
        ("a", "known", ""),
        ("red", "known", ""),
        ("circel", "unknown", "circle"),
        (",", "known", ""),
        ("😀", "unknown", ""),
        ("moving", "known", ""),
    ]
    assert read(tiny, "") == read(tiny, " \n\t") == []
    assert [kind for _, kind, _ in read(tiny, "红色的圆")] == ["known"] * 4


def test_the_end_that_is_cut_off_is_the_one_that_is_not_read(tiny):
    text = "blue square " * 40 + "zyzzyva"
    kinds = [kind for _, kind, _ in read(tiny, text)]
    tokens = request.count_tokens(tiny, text)
    assert (tokens.count, tokens.limit) == (81, 63)
    assert kinds == ["known"] * 63 + ["cut"] * 18
    fits = " ".join(text.split()[:63])
    assert {kind for _, kind, _ in read(tiny, fits)} == {"known"}
    assert request.count_tokens(tiny, fits).cut == ""


def test_counts_agree_for_a_reader(tiny):
    for text, count in (("", 0), ("red", 1), (CIRCLE, 9)):
        assert request.count_tokens(tiny, text).count == count == len(read(tiny, text))


def test_a_keystroke_is_read_in_milliseconds(tiny):
    request.read_spans(tiny, CIRCLE)
    text = " ".join(f"zyzz{number}va" for number in range(200))[:2000]
    began = time.perf_counter()
    request.read_spans(tiny, text)
    assert time.perf_counter() - began < 0.1


def test_the_words_to_choose_from_are_those_of_its_world():
    words = {group.name: group.words for group in TINY.demonstration.groups}
    assert words["Colours"] == tuple(world.COLOURS)
    assert words["Shapes"] == world.SHAPES
    assert words["Backgrounds"] == tuple(world.BACKGROUNDS)
    moves = [word.removeprefix("moving ").removeprefix("standing ") for word in words["Motions"]]
    assert tuple(moves) == world.MOTIONS
    assert [known.name for known in CHECKPOINTS if known.demonstration] == [TINY.name]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("a blue square on a white background", "'white' is a colour of the shape only"),
        ("over a plain red backdrop, a star", "'red' is a colour of the shape only"),
        ("A STAR ON\nWHITE", "'white' is a colour of the shape only"),
        ("白色背景上一个红色的圆", "'白' is a colour of the shape only"),
        ("a black circle", "'black' is a colour of backgrounds only"),
        ("黑色的圆", "'黑' is a colour of backgrounds only"),
        ("a red circle and a star", "it draws one shape: 'circle' and 'star' together"),
        ("two stars moving up", "it draws one shape, whatever the number: 'two stars'"),
        ("三个圆", "it draws one shape, whatever the number: '三个'"),
        ("a red and blue star", "the shape has one colour: 'red' and 'blue' together"),
        ("a star moving up and growing", "it shows one motion: 'up' and 'growing' together"),
        ("a star in the top corner", "where the shape is can't be chosen: 'in the top corner'"),
        ("a star moving slowly", "size and speed can't be chosen: 'slowly'"),
        ("a red star without motion", "it doesn't read 'without motion' as a denial"),
    ],
)
def test_what_it_cannot_draw_is_said(tiny, prompt, sentence):
    (said,) = request.cannot_draw(tiny, prompt)
    assert said.startswith(sentence)
    assert said in request.make_request(tiny, prompt, allow_unknown=True).notes


def test_what_it_can_draw_is_not_denied(tiny):
    rng = random.Random(3)
    for attributes, language in itertools.product(world.EVERYTHING, ("en", "zh")):
        prompt = prompts.write(attributes, language, rng)
        said = [line for line in request.cannot_draw(tiny, prompt) if "size and speed" not in line]
        assert not said, prompt


def test_large_models_have_no_such_limits(tiny):
    large = replace(tiny, checkpoint=COGVIDEOX_5B)
    assert request.cannot_draw(large, "two black circles on a white background") == ()


def test_words_are_put_where_they_belong():
    choose, text, seen = TINY.demonstration.with_word, "", []
    for name, word in (
        ("Colours", "red"),
        ("Shapes", "circle"),
        ("Colours", "orange"),
        ("Backgrounds", "navy"),
        ("Motions", "moving up"),
        ("Motions", "growing"),
        ("Colours", "white"),
        ("Backgrounds", "black"),
    ):
        text = choose(text, name, word)
        seen.append(text)
    assert seen == [
        "a red",
        "a red circle",
        "an orange circle",
        "an orange circle on a navy background",
        "an orange circle on a navy background moving up",
        "an orange circle on a navy background growing",
        "a white circle on a navy background growing",
        "a white circle on a black background growing",
    ]
    assert choose("moving right", "Shapes", "star") == "a star moving right"
    assert choose("a ball drifting left", "Motions", "growing") == "a ball growing"
    with pytest.raises(ValueError, match="'pink' is no word of 'Colours'"):
        choose("a red circle", "Colours", "pink")
