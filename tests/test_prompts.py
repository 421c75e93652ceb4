"""Prompts: as the model reads them, what it can't draw, styles, earlier ones."""

from __future__ import annotations

import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import prompts
import pytest
import world
from conftest import CIRCLE

from cogvx_nb.checkpoints.registry import CHECKPOINTS, COGVIDEOX_5B, TINY, TINY_I2V
from cogvx_nb.cli.main import main
from cogvx_nb.errors import RequestError
from cogvx_nb.planning import reading, request, styles
from cogvx_nb.planning.styles import Style
from cogvx_nb.results.result import read_result
from cogvx_nb.workbench import prompt_actions, prompt_history
from cogvx_nb.workbench.actions import Reply, perform


def read(tiny, text: str) -> list[tuple[str, str, str]]:
    """(text, kind, nearest word) of each span, its place counted as JavaScript does."""
    units = text.encode("utf-16-le")
    return [
        (units[2 * span.start : 2 * span.end].decode("utf-16-le"), span.kind, span.near)
        for span in reading.read_spans(tiny, text)
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
    tokens = reading.count_tokens(tiny, text)
    assert (tokens.count, tokens.limit) == (81, 63)
    assert kinds == ["known"] * 63 + ["cut"] * 18
    fits = " ".join(text.split()[:63])
    assert {kind for _, kind, _ in read(tiny, fits)} == {"known"}
    assert reading.count_tokens(tiny, fits).cut == ""


def test_counts_agree_for_a_reader(tiny):
    for text, count in (("", 0), ("red", 1), (CIRCLE, 9)):
        assert reading.count_tokens(tiny, text).count == count == len(read(tiny, text))


def test_a_keystroke_is_read_in_milliseconds(tiny):
    reading.read_spans(tiny, CIRCLE)
    text = " ".join(f"zyzz{number}va" for number in range(200))[:2000]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        reading.read_spans(tiny, text)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3


def test_the_words_to_choose_from_are_those_of_its_world():
    words = {group.name: group.words for group in TINY.demonstration.groups}
    assert words["Colours"] == tuple(world.COLOURS)
    assert words["Shapes"] == world.SHAPES
    assert words["Backgrounds"] == tuple(world.BACKGROUNDS)
    moves = [word.removeprefix("moving ").removeprefix("standing ") for word in words["Motions"]]
    assert tuple(moves) == world.MOTIONS
    assert [known.name for known in CHECKPOINTS if known.demonstration] == [
        TINY.name,
        TINY_I2V.name,
    ]


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("a blue square on a white background", "'white' is a colour of the shape only"),
        ("over a plain red backdrop, a star", "'red' is a colour of the shape only"),
        ("A STAR ON\nWHITE", "'white' is a colour of the shape only"),
        ("白色背景上一个红色的圆", "'白' is a colour of the shape only"),
        ("a black circle", "'black' is a colour of backgrounds only"),
        ("黑色的圆", "'黑' is a colour of backgrounds only"),
        ("a red circle and a star", "it draws one shape: 'circle' or 'star', or a mixture"),
        ("two stars moving up", "it draws one shape, whatever the number: 'two stars'"),
        ("三个圆", "it draws one shape, whatever the number: '三个'"),
        ("a red, green and blue star", "the shape has one colour: 'red', 'green' or 'blue', or"),
        ("a star moving up and growing", "it shows one motion: 'up' or 'growing', or a"),
        ("a star in the top corner", "where the shape is can't be chosen: 'in the top corner'"),
        ("a star moving slowly", "size and speed can't be chosen: 'slowly'"),
        ("a red star without motion", "it doesn't read 'without motion' as a denial"),
    ],
)
def test_what_it_cannot_draw_is_said(tiny, prompt, sentence):
    (said,) = reading.cannot_draw(tiny, prompt)
    assert said.startswith(sentence)
    assert said in request.make_request(tiny, prompt, allow_unknown=True).notes


def test_what_it_can_draw_is_not_denied(tiny):
    rng = random.Random(3)
    for attributes, language in itertools.product(world.EVERYTHING, ("en", "zh")):
        prompt = prompts.write(attributes, language, rng)
        said = [line for line in reading.cannot_draw(tiny, prompt) if "size and speed" not in line]
        assert not said, prompt


def test_large_models_have_no_such_limits(tiny):
    large = replace(tiny, checkpoint=COGVIDEOX_5B)
    assert reading.cannot_draw(large, "two black circles on a white background") == ()


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
    with pytest.raises(ValueError, match="is no word of 'Colours'"):
        choose("a red circle", "Colours", "pink")


# --- styles, history and what the page asks ------------------------------------------------------


def test_styles_are_composed_as_stable_diffusion_webui_does():
    around = Style("film", "a film of {prompt}, grainy", "blurry")
    behind = Style("plain", "on a black background")
    assert around.apply(" a star ") == ("a film of a star, grainy", "blurry")
    assert behind.apply("a star", "red") == ("a star, on a black background", "red")
    assert behind.apply("") == ("on a black background", "")
    assert Style("twice", "{prompt} and {prompt}").apply("{prompt}")[0] == "{prompt} and {prompt}"
    with pytest.raises(RequestError, match="has 2007 characters; at most 2000"):
        around.apply("a" * 1989)


def test_styles_are_kept_in_a_file_that_one_can_share(outputs):
    assert styles.read_styles() == ()
    hostile = Style("=cmd()</script>", 'a \u202e "quoted",\nlined {prompt}', "<img onerror=x>")
    styles.save_style(Style("a", "first"))
    styles.save_style(hostile)
    assert styles.save_style(Style("a", "second")) == (Style("a", "second"), hostile)
    assert styles.read_styles() == (Style("a", "second"), hostile)
    head = (outputs / "styles.csv").read_bytes()
    assert head.startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert styles.delete_style("a") == (hostile,)
    with pytest.raises(RequestError, match="style = 'a': is not in "):
        styles.find_style("a")


def test_styles_of_other_programs_are_read(outputs):
    outputs.mkdir(parents=True)
    text = 'name,prompt,negative_prompt\n--- films ---,,\nFilm,"{prompt}, 35mm",\nold,only\n'
    (outputs / "styles.csv").write_text(text)
    found = styles.read_styles()
    assert [style.name for style in found] == ["--- films ---", "Film", "old"]
    assert found[1].apply("a star")[0] == "a star, 35mm"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prompt\na\n", "line 1 of styles.csv = 'prompt': name the columns name,prompt"),
        (b"name,prompt\na,b\n,c\n", "line 3 of styles.csv = '': a style needs a name"),
        (b"name,prompt\na,b\n\na,c\n", "line 4 of styles.csv = 'a': is there twice"),
        (b'name,prompt\n"a\nb",c\n', "line 2 of styles.csv = 'a\\nb': a style needs a name"),
        (b'name,prompt\na,"b\n', "line 2 of styles.csv = '': can't be read: its quotes"),
        (b"name,prompt\na," + b"b" * 2001, "line 2 of styles.csv, prompt = 'bbb"),
        (b"name,prompt\na,\xff", "is not UTF-8 text"),
        (b"name,prompt\n" + b"x" * 2**22, "it is larger than 4 MB|larger than"),
    ],
)
def test_what_is_wrong_with_a_file_of_styles_is_one_line(outputs, content, words):
    outputs.mkdir(parents=True)
    path = outputs / "styles.csv"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        styles.save_style(Style("new", "x"))
    assert any(part in str(caught.value) for part in words.split("|"))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content, "a file that can't be read is not replaced"


def test_styles_are_applied_from_the_command_line(outputs, capsys):
    styles.save_style(Style("night", "{prompt} on a navy background", "red"))
    styles.save_style(Style("still", "standing still"))
    size = ["--height", "32", "--width", "48", "--allow-untrained-size", "--steps", "2"]
    named = ["--style", "night", "--style", "still"]
    assert main(["generate", "--prompt", "a star", "--model", "tiny", *size, *named]) == 0
    recorded = read_result(capsys.readouterr().out.strip()).settings.request
    assert recorded.prompt == "a star on a navy background, standing still"
    assert recorded.negative_prompt == "red"
    assert main(["generate", "--prompt", "a star", "--style", "nigth"]) == 2
    assert "did you mean 'night'?" in capsys.readouterr().err


def test_prompts_are_remembered_once_and_found(outputs):
    for prompt, negative in (("A Red circle", ""), ("一颗星", "blurry"), ("a star", "")):
        prompt_history.remember_prompt(prompt, negative)
    prompt_history.remember_prompt("A Red circle", "")
    assert [past.prompt for past in prompt_history.read_prompts()] == [
        "A Red circle",
        "a star",
        "一颗星",
    ]
    assert [past.prompt for past in prompt_history.read_prompts("CIRCLE ｒｅｄ")] == [
        "A Red circle"
    ]
    assert [past.prompt for past in prompt_history.read_prompts("blurry")] == ["一颗星"]
    prompt_history.forget_prompt("a star")
    assert len(prompt_history.read_prompts()) == 2


def test_so_many_prompts_are_remembered(outputs, monkeypatch):
    monkeypatch.setattr(prompt_history, "MOST", 3)
    for number in range(5):
        prompt_history.remember_prompt(f"star {number}")
    kept = [past.prompt for past in prompt_history.read_prompts()]
    assert kept == ["star 4", "star 3", "star 2"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2, "prompts": []}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_history_is_put_aside(outputs, content):
    outputs.mkdir(parents=True)
    (outputs / ".prompts.json").write_bytes(content)
    assert prompt_history.read_prompts() == ()
    assert (outputs / ".prompts.json.damaged").read_bytes() == content
    prompt_history.remember_prompt("a star")
    assert len(prompt_history.read_prompts()) == 1


class DeskOfTiny:
    """As much of a desk as these actions use: the form's checkpoint, and threads."""

    def __init__(self, model) -> None:
        self.form = SimpleNamespace(model=model, filled={"seed": 1})

    def in_background(self, work):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work)


def ask(model, action: str, **arguments):
    """The data of the reply to an action, or its refusal."""
    replies = []
    message = {"action": action, "arguments": arguments}
    perform(prompt_actions.ACTIONS, DeskOfTiny(model), message, b"", replies.append)
    (reply,) = replies
    assert json.dumps(getattr(reply, "data", None)) is not None
    return reply.data if isinstance(reply, Reply) else reply.sentence.text


def test_the_page_asks_how_a_prompt_is_read(tiny):
    for _ in range(2):  # the first time in a thread
        read = ask(tiny, "prompt.read", text="red circel")
        assert read == {
            "spans": [[0, 3, "known", ""], [4, 10, "unknown", "circle"]],
            "count": 2,
            "limit": 63,
            "summary": "2 of 63 tokens",
        }
    assert "must be text" in ask(tiny, "prompt.read", text=7)


def test_the_page_asks_for_words_and_styles_and_earlier_prompts(tiny, outputs):
    words = ask(tiny, "prompt.words")
    assert words["sentence"].startswith("a small demonstration model")
    assert words["groups"][1] == {"name": "Shapes", "words": list(world.SHAPES)}
    assert ask(replace(tiny, checkpoint=COGVIDEOX_5B), "prompt.words")["groups"] == []
    chosen = ask(tiny, "prompt.choose", text="a red circle", group="Shapes", word="star")
    assert chosen == {"text": "a red star"}
    assert "no word of" in ask(tiny, "prompt.choose", text="", group="Shapes", word="cat")
    saved = ask(tiny, "styles.save", name=" film ", prompt="{prompt}, film")["styles"]
    assert saved == [{"name": "film", "prompt": "{prompt}, film", "negative_prompt": ""}]
    applied = ask(tiny, "styles.apply", name="film", prompt="a star", negative_prompt="red")
    assert applied == {"prompt": "a star, film", "negative_prompt": "red"}
    assert "is empty" in ask(tiny, "styles.save", name="none")
    assert ask(tiny, "styles.list")["styles"] == saved
    assert ask(tiny, "styles.delete", name="film")["styles"] == []
    prompt_history.remember_prompt("a star")
    found = ask(tiny, "prompt.history", search="STAR")
    assert (found["count"], found["prompts"][0]["prompt"]) == (1, "a star")
    assert ask(tiny, "prompt.forget", prompt="a star") is None
    assert ask(tiny, "prompt.history")["prompts"] == []
