"""Prompts that change by steps: how they are read, and what the denoising loop makes of them."""

import pytest
import torch
from conftest import CIRCLE

from cogvx_nb.errors import PromptUnknown, RequestError
from cogvx_nb.pipeline import loader
from cogvx_nb.pipeline.generate import generate_frames
from cogvx_nb.planning import planner, reading, request, step_prompts
from cogvx_nb.planning.step_cache import HALVES
from cogvx_nb.planning.step_prompts import texts_by_step
from cogvx_nb.workbench import prompt_actions

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True, "frames": 9}
CHANGING = "a [red circle:blue square:0.5] moving right on a black background"


def texts(prompt: str, steps: int = 10) -> dict[int, str]:
    return {step: one.text for step, one in texts_by_step(prompt, steps).items()}


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a [red:blue:0.4] circle", {0: "a red circle", 4: "a blue circle"}),
        ("a [red:blue:3] circle", {0: "a red circle", 3: "a blue circle"}),
        ("[a:b:.2] [c:d:0.7]", {0: "a c", 2: "b c", 7: "b d"}),
        ("[a:b:0.5] [c:d:5]", {0: "a c", 5: "b d"}),
        ("[a [x:y:0.3]:b:0.6]", {0: "a x", 3: "a y", 6: "b"}),
        ("[x [a:b:0.5]] y", {0: "[x a] y", 5: "[x b] y"}),
        ("cat[: on a mat:0.5]", {0: "cat", 5: "cat on a mat"}),
        ("cat[ on a mat::0.5]", {0: "cat on a mat", 5: "cat"}),
        ("[a:b:0]", {0: "b"}),
        ("[a:b:1]", {0: "a"}),
        ("[a:b:40]", {0: "a"}),
        ("[same:same:0.5]", {0: "same"}),
        (r"\[a:b:0.4] c\:d", {0: "[a:b:0.4] c:d"}),
        (r"[\[x\]:b\:c:0.5]", {0: "[x]", 5: "b:c"}),
    ],
)
def test_changes_by_steps_are_read(prompt, read):
    assert texts(prompt) == read


@pytest.mark.parametrize(
    "prompt",
    ["[a] b", "[ratio 16:9] x", "[A:B", "a: b: c", "]:[", "[00:12:30] a cat", "[1:2:3,5]", ""],
)
def test_other_brackets_are_text(prompt):
    assert texts(prompt) == {0: prompt}
    assert step_prompts.escape(prompt) == prompt


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a [b:c:x] d", "'x'"),
        ("[a:b:]", "''"),
        ("[a:b:1.5]", "'1.5'"),
        ("[a:b:-0.5]", "'-0.5'"),
        ("[a:b:nan]", "'nan'"),
        ("[a:b:1001]", "'1001'"),
        ("[a:b:c:0.5]", "3 colons"),
        ("[a:b:0.5 c", "isn't closed"),
        ("".join(f"[a:b:{n}]" for n in range(1, 30)), "changes 28 times: at most 19"),
    ],
)
def test_wrong_changes_are_refused_in_a_line_that_names_them(tiny, prompt, named):
    with pytest.raises(RequestError, match=r"^prompt = ") as caught:
        request.make_request(tiny, prompt, allow_unknown=True)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match=r"^negative_prompt = "):
        request.make_request(tiny, CIRCLE, negative_prompt=prompt)


def test_an_escaped_prompt_means_its_text():
    for prompt in (CHANGING, r"\[a:b:0.3]", "[a:b:x]", r"c:\dogs\[1]", "[[a:b:2]:c:3]"):
        assert texts(step_prompts.escape(prompt)) == {0: prompt}


def test_deep_and_many_brackets_are_read_at_once():
    assert len(texts("[" * 50 + ":a:.5]" * 50)) == 2
    with pytest.raises(RequestError, match="is in 1499 brackets: write") as caught:
        texts("[" * 1500 + ":a:.5]" * 1500)
    assert len(str(caught.value)) < 400
    assert texts("[" * 2000) == {0: "[" * 2000}


def test_each_text_is_read_as_a_prompt_of_its_own(tiny):
    asked = request.make_request(tiny, "a [red:blew:0.5] circle", negative_prompt="[blur:a:2]")
    assert [note for note in asked.notes if "'blew'" in note and "'red'" not in note]
    assert asked.prompt == "a [red:blew:0.5] circle"
    assert not [note for note in asked.notes if "[" in note or "0.5" in note]
    with pytest.raises(PromptUnknown):
        request.make_request(tiny, "a red circle[:zyzzyva foo bar baz qux quux:0.5]")
    (late,) = (n for n in request.make_request(tiny, "a [red:blue:60] circle").notes if "60" in n)
    assert late == "the prompt changes after 60 steps, and 50 are done: give a number below"
    asked = request.make_request(tiny, "0: a red circle, 24: a blue circle", allow_unknown=True)
    assert [note for note in asked.notes if "one text for all frames" in note]


def test_the_page_shows_the_tokens_of_all_texts_in_their_places(tiny):
    text = "😀 a [red:blue square:0.4] circel"
    units = text.encode("utf-16-le")
    read = [
        (units[2 * span.start : 2 * span.end].decode("utf-16-le"), span.kind)
        for span in reading.read_spans(tiny, text)
    ]
    assert read == [
        ("😀", "unknown"),
        ("a", "known"),
        ("red", "known"),
        ("blue", "known"),
        ("square", "known"),
        ("circel", "unknown"),
    ]
    assert prompt_actions.reading(tiny, text)["count"] == 5
    assert "'x'" in prompt_actions.reading(tiny, "[a:b:x]")["summary"]


@pytest.fixture
def seen(tiny, here):
    """Numbers of the texts of each call of the transformer, and the frames."""

    def seen(prompt, step_cache="", **values):
        asked = request.make_request(tiny, prompt, **SMALL | values)
        plan = planner.plan_request(asked, here)
        loaded = loader.load_pipeline(planner.replace(plan, step_cache=step_cache))
        calls, known = [], {}

        def note(module, args, given):
            given = given["encoder_hidden_states"]
            key = [text.numpy().tobytes() for text in given]
            calls.append([known.setdefault(one, len(known)) for one in key])

        hook = loaded.pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return calls, torch.from_numpy(generate_frames(asked, loaded).frames)
        finally:
            hook.remove()

    return seen


def test_the_text_changes_at_its_step(seen):
    calls, frames = seen(CHANGING, steps=4, negative_prompt="[red:blue:3]")
    assert calls == [[0, 1]] * 2 + [[0, 2]] + [[3, 2]]
    _, first = seen("a red circle moving right on a black background", steps=4)
    assert not torch.equal(frames, first)
    calls, _ = seen(CHANGING, steps=4, guidance=1)
    assert calls == [[0]] * 2 + [[1]] * 2


def test_a_step_cache_computes_all_where_the_text_changes(seen):
    calls, _ = seen(CHANGING.replace("0.5", "13"), HALVES, steps=20)
    changed = next(n for n, call in enumerate(calls) if 2 in call)
    assert calls[changed] == [0, 2]  # neither clip of it is made of the former text's
    assert not [call for call in calls[changed:] if 1 in call]
    same, _ = seen(CHANGING.replace(":blue square:0.5", "::1"), HALVES, steps=20)
    assert len(calls) == len(same) + 1  # step 13 is none that it computes anyway
