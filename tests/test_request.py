"""Requests: what is adjusted, what is refused, and what the message says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
from conftest import CIRCLE

from cogvx_nb.checkpoints import registry
from cogvx_nb.errors import PromptUnknown, RequestError
from cogvx_nb.planning import attentions, planner, reading, request, requirements


@pytest.fixture(scope="session")
def like_5b(tiny, tmp_path_factory) -> registry.Model:
    """The 5B's facts over a folder whose tokenizer is, like the 5B's, a lone ``spiece.model``."""
    folder = tmp_path_factory.mktemp("5b")
    (folder / "tokenizer").mkdir()
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(["a panda eats bamboo in a quiet forest", CIRCLE] * 40))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "tokenizer" / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    Path(folder / "tokenizer" / "spiece.vocab").unlink()
    (folder / "model_index.json").write_text(
        json.dumps({"tokenizer": ["transformers", "T5Tokenizer"]})
    )
    return replace(tiny, checkpoint=registry.COGVIDEOX_5B, folder=folder)


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        (1, 9),
        (13, 13),
        (15, 13),
        (16, 17),
        (17, 17),
        (21, 17),
        (38, 41),
        (49, 49),
        (53, 49),
        (200, 201),
    ],
)
def test_frames_snap_to_the_nearest_ties_down(tiny, asked, used):
    wanted = request.make_request(tiny, CIRCLE, frames=asked)
    assert wanted.frames == used
    assert wanted.asked["frames"] == asked
    assert [change.field for change in wanted.adjustments] == (["frames"] if asked != used else [])
    assert ("adjusted: frames" in str(wanted)) == (asked != used)


def test_sizes_snap_to_the_native_one(tiny, like_5b):
    wanted = request.make_request(tiny, CIRCLE, height=480, width=720)
    assert (wanted.height, wanted.width) == (96, 144)
    assert [(c.asked, c.used) for c in wanted.adjustments] == [(480, 96), (720, 144)]
    wanted = request.make_request(like_5b, CIRCLE, height=720, width=1280)
    assert (wanted.height, wanted.width) == (480, 720), "never to an untrained size"


def test_untrained_sizes_only_when_allowed(like_5b):
    wanted = request.make_request(
        like_5b, CIRCLE, height=720, width=1280, allow_untrained_size=True
    )
    assert (wanted.height, wanted.width) == (720, 1280)
    assert wanted.allowed == ("allow_untrained_size",)
    assert "outside the model's training" in str(wanted)
    wanted = request.make_request(
        like_5b, CIRCLE, height=1080, width=1920, allow_untrained_size=True
    )
    assert (wanted.height, wanted.width) == (1072, 1920)
    assert [change.field for change in wanted.adjustments] == ["height"]


@pytest.mark.parametrize(
    "values",
    [{"frames": 20}, {"height": 100}, {"width": 100}, {"height": 480, "width": 720}],
    ids=str,
)
def test_strict_refuses_what_would_be_adjusted(tiny, values):
    with pytest.raises(RequestError) as caught:
        request.make_request(tiny, CIRCLE, strict=True, **values)
    assert str(next(iter(values.values()))) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t"),
        ("prompt", None),
        ("prompt", "a" * 2001),
        ("prompt", "\ud800"),
        ("negative_prompt", 3),
        ("frames", 0),
        ("frames", -5),
        ("frames", 13.5),
        ("frames", "13"),
        ("frames", True),
        ("steps", 0),
        ("steps", 1001),
        ("guidance", float("nan")),
        ("guidance", float("inf")),
        ("guidance", -1),
        ("seed", -2),
        ("variation_strength", 1.01),
        ("seed", 2**53),
        ("height", 0),
        ("width", 10**9),
    ],
)
def test_bad_values_are_named(tiny, field, value):
    with pytest.raises(RequestError) as caught:
        request.make_request(tiny, **{"prompt": CIRCLE, field: value})
    assert caught.value.field == field
    assert caught.value.exit_code == 2
    assert field in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_limits_of_the_seed(tiny):
    assert request.make_request(tiny, CIRCLE, seed=2**53 - 1).seed == 2**53 - 1
    assert request.make_request(tiny, CIRCLE, seed=0).seed == 0


def test_steps_that_leave_noise_are_noted(tiny):
    assert "steps do not divide" in str(request.make_request(tiny, CIRCLE, steps=60))
    assert request.make_request(tiny, CIRCLE, steps=50).notes == ()


def test_both_languages_of_the_embedded_checkpoint_are_known(tiny):
    for prompt in (
        CIRCLE,
        "灰色背景上一颗红色的星星正在变大",
        "a blue ball drifts to the right over black",
    ):
        assert reading.count_tokens(tiny, prompt).unknown == 0


def test_a_prompt_that_is_mostly_unknown_is_refused(tiny):
    with pytest.raises(PromptUnknown, match="one coloured shape") as caught:
        request.make_request(tiny, "zyzzyva quokka axolotl")
    assert caught.value.exit_code == 2
    wanted = request.make_request(tiny, "zyzzyva quokka axolotl", allow_unknown=True)
    assert wanted.allowed == ("allow_unknown",)


@pytest.mark.parametrize("prompt", ["一只大熊猫在竹林中吃竹子", "a panda 一只大熊猫在竹林中吃竹子"])
def test_chinese_is_refused_where_the_tokenizer_has_none(like_5b, prompt):
    with pytest.raises(PromptUnknown, match="English") as caught:
        request.make_request(like_5b, prompt)
    assert "CogVideoX-5b" in str(caught.value)


def test_a_tokenizer_that_is_only_a_spiece_model(like_5b):
    assert [p.name for p in (like_5b.folder / "tokenizer").iterdir()] == ["spiece.model"]
    tokens = reading.count_tokens(like_5b, "a panda eats bamboo")
    assert tokens.unknown == 0
    assert tokens.limit == 225
    assert request.make_request(like_5b, "a panda eats bamboo").notes == ()


def test_the_end_of_a_long_prompt_is_shown(tiny):
    prompt = CIRCLE + ", a red circle" * 40 + " tail"
    tokens = reading.count_tokens(tiny, prompt)
    assert tokens.count > tokens.limit == tiny.checkpoint.text_tokens - 1
    assert tokens.cut.endswith("tail")
    assert prompt.endswith(tokens.cut)
    assert "has no effect" in str(request.make_request(tiny, prompt))


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a red circel moving right", "'circel' (did you mean 'circle'?)"),
        (
            "a bluee squar, Rigth",
            "'bluee' (did you mean 'blue'?), 'squar' (did you mean 'square'?), ",
        ),
        ("a red circle zyzzyva moving right zyzzyva", "'zyzzyva'"),
        ("a red circle 龘 moving right", "'龘'"),
        ("a red circle moving right, " + "x" * 90, f"'{'x' * 30}…'"),
    ],
)
def test_unknown_words_are_named_with_the_nearest_known(tiny, prompt, named):
    (note,) = request.make_request(tiny, prompt, allow_unknown=True).notes
    assert note.startswith(f"unknown to cogvideox-tiny and ignored in the prompt: {named}")
    (note,) = request.make_request(tiny, CIRCLE, negative_prompt=prompt).notes
    assert note.startswith(f"unknown to cogvideox-tiny and ignored in the negative prompt: {named}")


def test_only_so_many_words_are_named(tiny):
    words = [f"zyzzyva{letter}" for letter in "abcdefghijkl"]
    (note,) = request.make_request(tiny, CIRCLE, negative_prompt=" ".join(words)).notes
    assert note.endswith(f"{', '.join(map(repr, words[:8]))}, 4 more")


def test_words_of_another_script_have_none_near(like_5b):
    text = "a panda eats 竹"
    (note,) = request.make_request(like_5b, text).notes
    assert note == "unknown to CogVideoX-5b and ignored in the prompt: '竹'"


@pytest.mark.parametrize(
    ("negative", "values", "notes"),
    [
        ("a blue square", {}, []),
        (" \t ", {"guidance": 1.0}, []),
        ("", {"guidance": 0}, []),
        ("a blue square", {"guidance": 1}, ["has no effect at guidance 1: raise it above 1"]),
        ("模糊", {"guidance": 0.5}, ["has no effect at guidance 0.5: raise it above 1"]),
        ("模糊", {}, ["has no effect, all of it is unknown to cogvideox-tiny: '模', '糊'"]),
        ("blue square " * 60, {}, ["has 120 tokens and cogvideox-tiny reads 63; this end"]),
        (
            "blurry " + "blue " * 80,
            {},
            ["unknown to cogvideox-tiny and ignored in", "has 81 tokens"],
        ),
    ],
)
def test_a_negative_prompt_that_cannot_act_is_noted(tiny, negative, values, notes):
    found = request.make_request(tiny, CIRCLE, negative_prompt=negative, **values).notes
    assert len(found) == len(notes)
    for note, part in zip(found, notes, strict=True):
        assert part in note
        assert "negative prompt" in note


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("sagee", "is unknown, did you mean 'sage'?"),
        ("flash-4", "is unknown, did you mean 'flash4'?"),
        ("SDPA", "is unknown, did you mean 'sdpa'?"),
        ("", "is unknown; use one of auto, sdpa, flash4, sage1, flash, "),
    ],
)
def test_an_unknown_attention_is_refused_at_once(tiny, name, remedy):
    with pytest.raises(RequestError) as caught:
        request.make_request(tiny, CIRCLE, attention=name)
    assert str(caught.value).startswith(f"attention = {name!r}: {remedy}")


def test_an_unknown_prompt_is_refused_with_a_word_of_it(tiny):
    with pytest.raises(PromptUnknown, match=r"most of it, such as 'catt', is unknown"):
        request.make_request(tiny, "a catt")


@pytest.mark.parametrize("name", ["stock", "sdpa", "flash4", "sage1", "_native_math", "sage_hub"])
def test_known_attentions_are_taken_on_any_machine(tiny, name):
    assert request.make_request(tiny, CIRCLE, attention=name).attention == name


def test_the_attentions_are_those_of_diffusers():
    from diffusers.models.attention_dispatch import AttentionBackendName

    assert set(attentions.BACKENDS) == {backend.value for backend in AttentionBackendName}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"speed": "exact"}, ""),
        (
            {"speed": "turbo", "steps": 8},
            "turbo changes nothing here, the video is made as with exact: 8-bit quantization pays "
            "off on a GPU only; sparse attention needs a GPU of compute capability 9.0 or 10.0, "
            "and half precision; the step cache needs 20 steps or more: 8 are too few",
        ),
        (
            {"speed": "turbo"},
            "turbo does without a part here: 8-bit quantization pays off on a GPU only; sparse "
            "attention needs a GPU of compute capability 9.0 or 10.0, and half precision",
        ),
        (
            {"speed": "fast"},
            "fast changes nothing here, the video is made as with exact: 8-bit quantization pays "
            "off on a GPU only",
        ),
    ],
)
def test_a_speed_that_brings_nothing_says_why(tiny, here, values, text):
    cpu = replace(here, gpus=())
    plan = planner.plan_request(request.make_request(tiny, CIRCLE, **values), cpu)
    assert requirements.missing_speed_ups(plan.speed, plan.speed_ups, plan.reasons) == text
