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
from cogvx_nb.planning import request


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
    [(1, 13), (13, 13), (16, 13), (19, 13), (20, 25), (37, 25), (38, 49), (49, 49), (200, 49)],
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
        ("seed", -1),
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
        assert request.count_tokens(tiny, prompt).unknown == 0


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
    tokens = request.count_tokens(like_5b, "a panda eats bamboo")
    assert tokens.unknown == 0
    assert tokens.limit == 226
    assert request.make_request(like_5b, "a panda eats bamboo").notes == ()


def test_the_end_of_a_long_prompt_is_shown(tiny):
    prompt = CIRCLE + ", a red circle" * 40 + " tail"
    tokens = request.count_tokens(tiny, prompt)
    assert tokens.count > tokens.limit == tiny.checkpoint.text_tokens
    assert tokens.cut.endswith("tail")
    assert prompt.endswith(tokens.cut)
    assert "has no effect" in str(request.make_request(tiny, prompt))
