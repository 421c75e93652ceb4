"""Wildcards: what they are read as, what a seed makes of them, and what is kept of it."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from conftest import CIRCLE
from test_page import Shown

from cogvx_nb import reproduction, workflow
from cogvx_nb.cli import summary
from cogvx_nb.cli.main import main
from cogvx_nb.errors import RequestError, ResultError, SpecError
from cogvx_nb.planning import request
from cogvx_nb.planning.step_prompts import texts_by_step
from cogvx_nb.planning.wildcard_syntax import escape, is_template, without_picks
from cogvx_nb.planning.wildcards import expand
from cogvx_nb.results import records
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.side_by_side import differing_settings
from cogvx_nb.storyboard import make_storyboard
from cogvx_nb.sweep import driver
from cogvx_nb.workbench import page_state, prompt_actions, prompt_history
from cogvx_nb.workbench.board import BoardRow, common_values
from cogvx_nb.workbench.draft import Draft
from cogvx_nb.workbench.jobs import Job
from cogvx_nb.workbench.kept_job import read_kept_job
from cogvx_nb.workbench.kept_queue import KeptQueue, restore_job

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True, "frames": 5, "steps": 2}
NEGATIVE = "{red|blue|green|yellow|white} star"
TEMPLATE = "a {red|blue|green|yellow|white} circle moving __way__ on a black background"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    files = {
        "way": "# ways\nleft\nright\n\nup\ndown\n",
        "colour": "red\nblue\n",
        "columns": "three\n",
        "shapes/round": "circle\n",
        "nested": "{dark |}__colour__ __shapes/round__\n",
        "heavy": "0::never\n3::often\nonce\n",
        "empty": "# nothing\n\n",
        "loop": "x\n__loop_back__\n",
        "loop_back": "__loop__\n",
        "long": "x" * 1500,
        "broken": "fine\n{a|b\n",
    }
    for name, text in files.items():
        path = tmp_path / "wildcards" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (tmp_path / "wildcards" / "latin.txt").write_bytes(b"gr\xfcn\n")
    (tmp_path / "wildcards" / "large.txt").write_text("word\n" * 300_000)
    (tmp_path / "secret.txt").write_text("secret\n")
    (tmp_path / "wildcards" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setenv("COGVX_WILDCARDS_DIR", str(tmp_path / "wildcards"))
    return tmp_path / "wildcards"


def made(template: str, seeds: int = 200) -> set[str]:
    return {expand(template, seed) for seed in range(seeds)}


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("{a|b} c", {"a c", "b c"}),
        ("{very |}red", {"very red", "red"}),
        ("{a|{b|c}d}", {"a", "bd", "cd"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("{-1$$a|b}", {"a", "b"}),
        ("{2-$$+$$a|b}", {"a+b", "b+a"}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("{0::a|b}", {"b"}),
        ("__colour__", {"red", "blue"}),
        ("{2$$ $$__colour__}", {"red blue", "blue red"}),
        ("__col*__", {"red", "blue", "three"}),
        ("__nested__", {f"{d}{c} circle" for d in ("dark ", "") for c in ("red", "blue")}),
        ("__heavy__", {"often", "once"}),
        (r"{a\|b|c} \{x|y\}", {r"a\|b \{x|y\}", r"c \{x|y\}"}),
        ("{[a:b:0.4]|c}", {"[a:b:0.4]", "c"}),
        ("{_|_}_colour_{_|_}", {r"\_\_colour\_\_"}),  # not read a second time
    ],
)
def test_a_template_makes_each_of_its_texts_and_no_other(template, texts):
    assert made(template) == texts
    assert all(expand(text, seed=1) == text for text in texts)


def test_a_seed_makes_the_same_text_everywhere():
    words = [expand("{a|b|c|d|e|f|g|h} {2$$-$$1|2|3|4}", seed) for seed in (0, 1, 42, 2**53 - 1)]
    assert words == ["a 4-2", "a 2-1", "g 2-1", "f 1-3"]


def test_weights_are_shares():
    counts = Counter(expand("{3::a|b}", seed) for seed in range(2000))
    assert 0.7 < counts["a"] / 2000 < 0.8


@pytest.mark.parametrize(
    "text",
    ["{red} a", "a | b", "} {", "f(x) {1, 2}", "____", "a_b__", r"\{a|b\}", r"\__a__", "$$ 5", ""],
)
def test_other_braces_and_underscores_are_text(text):
    assert not is_template(text)
    assert expand(text, 1) == escape(text) == text


@pytest.mark.parametrize(
    "text", ["{a|b}", r"\{a|b}", "__x__", "{a|b", r"[a:b:c] \ {x|\y}", "___x__"]
)
def test_an_escaped_text_is_read_as_it_is(text):
    from cogvx_nb.planning import step_prompts

    escaped = escape(step_prompts.escape(text))
    assert not is_template(escaped)
    assert [one.text for one in texts_by_step(escaped, 10).values()] == [text]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{red|blue circle", r"isn't closed by }"),
        ("__color__", r"no file color.txt; did you mean __colour__"),
        ("__zzzz__", r"\\_\\_ for plain underscores"),
        ("{x|__zzzz__}", "no file zzzz.txt"),
        ("__loop__", "loop → loop_back → loop"),
        ("__empty__", "has no entries"),
        ("__latin__", "line 1 is not UTF-8"),
        ("__large__", "1,500,000 bytes"),
        ("__broken__", "line 2: .*isn't closed"),
        ("__link__", "no file link.txt"),
        ("__../secret__", "must name a file inside"),
        ("__/etc/passwd__", "must name a file inside"),
        ("__.hidden__", "must name a file inside"),
        ("{3$$a|b}", "picks 3 of 2"),
        ("{1-3$$a|b}", "picks 3 of 2"),
        ("{3$$__colour__}", "picks 3 of 2"),
        ("{3-2$$a|b}", "smaller number first"),
        ("{0::a|0::b}", "weights of 0"),
        ("${x={a|b}}", "variable"),
        ("{a|" * 25 + "}" * 25, "more than 20 braces"),
        ("__long____long__", "more than 2000 characters"),
        ("{|}", "empty"),
    ],
)
def test_what_cannot_be_is_one_line_whatever_the_seed(tiny, template, said):
    for seed in (1, 2, 3):
        with pytest.raises(RequestError, match=said) as caught:
            request.make_request(tiny, template, seed=seed)
        line = str(caught.value)
        assert "\n" not in line
        assert line.startswith("prompt = ")
        if template != "{|}":  # which makes an empty text
            with pytest.raises(RequestError, match=said) as caught:
                request.make_request(tiny, CIRCLE, negative_prompt=template, seed=seed)
            assert str(caught.value) == f"negative_{line}"


def test_files_that_double_are_bounded(folder):
    for number in range(15):
        (folder / f"d{number}.txt").write_text(f"__d{number + 1}____d{number + 1}__\n")
    (folder / "d15.txt").write_text("{|}\n")
    with pytest.raises(RequestError, match="more than 200 picks"):
        expand("__d0__", 1)


def test_a_request_has_the_text_and_keeps_the_template(tiny):
    one = request.make_request(tiny, TEMPLATE, negative_prompt=NEGATIVE, seed=7)
    assert one.texts == {"prompt": expand(TEMPLATE, 7), "negative_prompt": expand(NEGATIVE, 7)}
    assert one.templates == {"prompt": TEMPLATE, "negative_prompt": NEGATIVE}
    assert {name: one.asked[name] for name in one.texts} == one.texts
    for typed in ((TEMPLATE, ""), (CIRCLE, NEGATIVE)):
        drawn = request.make_request(tiny, typed[0], negative_prompt=typed[1], seed=-1)
        assert tuple(drawn.texts.values()) == tuple(expand(text, drawn.seed) for text in typed)
        assert list(drawn.templates) == ["prompt" if typed[1] == "" else "negative_prompt"]
    assert request.make_request(tiny, CIRCLE).templates == {}
    text = request.make_request(tiny, "a {red|blue} circle", templates={}, allow_unknown=True)
    assert (text.prompt, text.templates) == ("a {red|blue} circle", {})


def test_wildcards_come_before_changes_by_steps(tiny):
    one = request.make_request(tiny, "a [{red|red}:__colour__:0.5] circle", seed=3, steps=4)
    colour = expand("{red|red}:__colour__", 3).partition(":")[2]
    assert one.texts_by_step[0][-1] == "a red circle"
    assert one.texts_by_step.get(2, ("a red circle",))[-1] == f"a {colour} circle"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("wild")
        patch.setenv("COGVX_OUTPUTS_DIR", str(folder / "outputs"))
        patch.setenv("COGVX_WILDCARDS_DIR", str(folder))
        (folder / "way.txt").write_text("left\nright\n")
        return workflow.generate_video(
            TEMPLATE, folder / "outputs/a.mp4", seed=5, negative_prompt=NEGATIVE, **SMALL
        )


def test_a_video_is_made_again_without_the_files(video, monkeypatch):
    kept = json.loads(video.sidecar.read_text("utf-8"))
    text = kept["request"]["prompt"]
    assert re.fullmatch(r"a \w+ circle moving (left|right) on a black background", text)
    assert kept["request"]["negative_prompt"] == expand(NEGATIVE, 5)
    assert kept["templates"] == {"prompt": TEMPLATE, "negative_prompt": NEGATIVE}
    monkeypatch.setenv("COGVX_WILDCARDS_DIR", "/nowhere")
    again = reproduction.reproduce(video)
    assert again.same_frames
    assert again.generated.request.templates == kept["templates"]


def test_the_template_is_shown_and_found(video, monkeypatch, tmp_path):
    shown = f"{TEMPLATE}; without {NEGATIVE}"
    assert f"template   {shown}" in summary.summary_lines(video)
    assert f"template: {shown}" in page_state.roll_row("a.mp4", video).lines
    plain = replace(video, settings=replace(video.settings, templates={}))
    assert differing_settings([video, plain]) == {
        "template": (TEMPLATE, "–"),
        "negative template": (NEGATIVE, "–"),
    }
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(video.path.parent))
    catalogue = Catalogue()
    catalogue.refresh()
    (found,) = catalogue.find("__way__")
    assert found.path == video.path
    assert main(["list", "--export", str(tmp_path / "a.csv")]) == 0
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text("utf-8-sig").splitlines())
    assert (row["template"], row["negative_template"]) == (TEMPLATE, NEGATIVE)


def test_settings_from_before_have_braces_as_text(video, tiny):
    content = json.loads(video.sidecar.read_text("utf-8"))
    del content["templates"]
    texts = {"prompt": "a {red|blue} circle", "negative_prompt": "{red|blue} star"}
    content["request"] |= texts | {"prompt": "a red circle"}
    between = records.read_settings(content | {"template": TEMPLATE})  # wildcards of prompts alone
    assert (between.request.prompt, between.templates) == ("a red circle", {"prompt": TEMPLATE})
    assert between.request.negative_prompt == r"\{red|blue} star"
    content["request"] |= texts
    del content["request"]["guidance_schedule"]
    sidecar = records.read_settings(content)
    assert sidecar.request.prompt == r"a \{red|blue} circle"
    assert sidecar.request.negative_prompt == r"\{red|blue} star"
    assert request.make_request(tiny, sidecar.request.prompt).templates == {}


def test_a_video_from_before_wildcards_of_negative_prompts_is_made_again(tmp_path):
    made = workflow.generate_video(
        CIRCLE, tmp_path / "a.mp4", negative_prompt=r"a \{red|blue} star", **SMALL
    )
    content = json.loads(made.sidecar.read_text("utf-8"))
    assert content.pop("templates") == {}
    content["request"]["negative_prompt"] = "a {red|blue} star"
    before = replace(made, settings=records.read_settings(content | {"template": ""}))
    assert before.settings.request.negative_prompt == r"a \{red|blue} star"
    assert reproduction.reproduce(before).same_frames


def test_the_form_takes_the_text_of_a_result(video, tiny):
    draft = Draft([], tiny, {})
    draft.load(video.settings)
    recorded = video.settings.request
    assert draft.request().texts == {
        "prompt": recorded.prompt,
        "negative_prompt": recorded.negative_prompt,
    }


def test_a_job_that_waited_keeps_its_text(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "outputs"))
    one = request.make_request(tiny, TEMPLATE, negative_prompt=NEGATIVE, seed=7)
    KeptQueue().keep(Job(one, None))
    (path,) = (tmp_path / "outputs/.queue").glob("*.json")
    monkeypatch.setenv("COGVX_WILDCARDS_DIR", "/nowhere")
    restored = restore_job(read_kept_job(path)).request
    assert (restored.texts, restored.templates) == (one.texts, one.templates)
    before = json.loads(path.read_text("utf-8"))
    del before["templates"]
    path.write_text(json.dumps(before | {"template": TEMPLATE}), "utf-8")
    assert restore_job(read_kept_job(path)).request.templates == {"prompt": TEMPLATE}


def test_a_job_from_before_keeps_its_braces(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "outputs"))
    one = request.make_request(tiny, CIRCLE, negative_prompt="blue")
    KeptQueue().keep(Job(one, None, board=(BoardRow("a [b:c:2] circle"),)))
    (path,) = (tmp_path / "outputs/.queue").glob("*.json")
    before = json.loads(path.read_text("utf-8"))
    del before["templates"]
    before["values"] |= {"prompt": "a {red|blue} circle", "negative_prompt": "{red|blue} star"}
    path.write_text(json.dumps(before), "utf-8")
    restored = restore_job(read_kept_job(path))
    assert restored.request.templates == {}
    texts = {"prompt": r"a \{red|blue} circle", "negative_prompt": r"\{red|blue} star"}
    assert restored.request.texts == texts
    assert restored.board[0].prompt == "a [b:c:2] circle", "changes by steps were known"
    path.write_text(json.dumps(before | {"template": ""}), "utf-8")  # wildcards of prompts alone
    kept = read_kept_job(path).values
    assert (kept["prompt"], kept["negative_prompt"]) == (
        "a {red|blue} circle",
        texts["negative_prompt"],
    )
    del before["values"]["guidance_schedule"]
    path.write_text(json.dumps(before), "utf-8")
    assert read_kept_job(path).board[0].prompt == r"a \[b:c:2\] circle"


def test_pieces_of_a_storyboard_from_before_have_braces_as_text(video):
    content = json.loads(video.sidecar.read_text("utf-8"))
    del content["templates"]
    piece = {"name": "a.mp4", "frames": "0" * 64, "content": "", "transition": "cut"}
    content["pieces"] = [piece | {"prompt": "a [b:c:2] circle"}, piece | {"prompt": "{a|b} star"}]
    assert records.read_settings(content).pieces[1].prompt == r"\{a|b} star"
    later = records.read_settings(content | {"template": ""})
    assert [one.prompt for one in later.pieces] == ["a [b:c:2] circle", "{a|b} star"]
    del content["request"]["guidance_schedule"]
    assert records.read_settings(content).pieces[0].prompt == r"a \[b:c:2\] circle"


def test_the_page_counts_the_text_of_the_seed(tiny):
    text = "a {red|blue big} circle qqq"
    shown = prompt_actions.reading(tiny, text, 3)
    assert shown["count"] == prompt_actions.reading(tiny, expand(text, 3))["count"]
    start, end, _kind, _near = shown["spans"][-1]
    assert text[start:end] in "qqq"
    assert "zzzz" in prompt_actions.reading(tiny, "__zzzz__", 3)["summary"]
    wrong = prompt_actions.reading(tiny, "__zzzz__", 3, "negative_prompt")["summary"]
    assert wrong.startswith("negative_prompt = ")
    assert without_picks("\U0001f600 {\U0001f600|b} c").endswith("c")
    assert len(without_picks("{\U0001f600|b} c")) == 8


def test_the_page_asks_by_field_and_remembers_what_was_typed(tiny, outputs):
    shown = Shown(tiny, {})
    shown.session.queue.pause()
    read = {"text": "{red|zzzz", "field": "negative_prompt"}
    summary = shown.ask("prompt.read", read)["data"]["summary"]
    assert summary.startswith("negative_prompt = '{red|zzzz'")
    assert shown.submit(prompt=TEMPLATE, negative_prompt=NEGATIVE, seed=5)["data"]["ids"]
    (past,) = prompt_history.read_prompts()
    assert (past.prompt, past.negative_prompt) == (TEMPLATE, NEGATIVE)
    shown.close()


def test_each_run_of_a_sweep_has_the_text_of_its_seed(video):
    values = {"steps": 2, "allow_untrained_size": True}
    values["negative_prompt"] = NEGATIVE
    listed = driver.prepare_sweep({"parameters": values, "prompts": [TEMPLATE], "seeds": 6})[2]
    negative = [run.varied["negative_prompt"] for run in listed]
    assert negative == [expand(NEGATIVE, 42 + n) for n in range(6)]
    assert [run.varied["prompt"] for run in listed] == [expand(TEMPLATE, 42 + n) for n in range(6)]
    assert len({run.varied["prompt"] for run in listed}) > 2
    typed = {"prompt": TEMPLATE, "negative_prompt": NEGATIVE}
    assert all(run.expected.templates == typed for run in listed)
    with pytest.raises(SpecError, match=r"row 2 of prompts.*no file zzzz.txt"):
        driver.prepare_sweep({"prompts": [CIRCLE, "__zzzz__"]})


def test_a_run_that_draws_its_seed_may_have_any_text_of_its_template(video):
    typed = {"prompt": TEMPLATE, "negative_prompt": NEGATIVE}
    (run,) = driver.prepare_sweep({"parameters": SMALL | typed | {"seed": -1}})[2]
    run.expected.check(video.settings)
    for wrong in ({}, typed | {"prompt": "{a|b}"}, {"prompt": TEMPLATE}):
        with pytest.raises(ResultError, match="something else"):
            run.expected.check(replace(video.settings, templates=wrong))


def test_each_piece_of_a_storyboard_has_the_texts_of_its_seed(tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "outputs"))
    rows = [
        {"prompt": CIRCLE, "frames": 9, "seed": 5},
        {"prompt": TEMPLATE, "frames": 4, "transition": "continue", "seed": 6},
    ]
    values = SMALL | {"model": "tiny", "negative_prompt": NEGATIVE}
    del values["frames"]
    pieces = [piece.result.settings for piece in make_storyboard(rows, **values).pieces]
    assert [one.request.negative_prompt for one in pieces] == [expand(NEGATIVE, n) for n in (5, 6)]
    assert pieces[1].request.prompt == expand(TEMPLATE, 6)
    assert pieces[1].templates == {"prompt": TEMPLATE, "negative_prompt": NEGATIVE}


def test_a_storyboard_of_the_page_has_the_form_s_template(tiny):
    first = request.make_request(tiny, CIRCLE, negative_prompt=NEGATIVE, seed=5)
    assert common_values(first)["negative_prompt"] == NEGATIVE
