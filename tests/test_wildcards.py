"""Wildcards: what they are read as, what a seed makes of them, and what is kept of it."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from conftest import CIRCLE

from cogvx_nb import reproduction, workflow
from cogvx_nb.cli import summary
from cogvx_nb.errors import RequestError, ResultError, SpecError
from cogvx_nb.planning import request
from cogvx_nb.planning.step_prompts import texts_by_step
from cogvx_nb.planning.wildcard_syntax import escape, is_template, without_picks
from cogvx_nb.planning.wildcards import expand
from cogvx_nb.results import records
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.sweep import driver
from cogvx_nb.workbench import prompt_actions
from cogvx_nb.workbench.draft import Draft
from cogvx_nb.workbench.kept_job import read_kept_job
from cogvx_nb.workbench.kept_queue import KeptQueue, restore_job

SMALL = {"height": 32, "width": 48, "allow_untrained_size": True, "frames": 5, "steps": 2}
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


def test_files_that_double_are_bounded(folder):
    for number in range(15):
        (folder / f"d{number}.txt").write_text(f"__d{number + 1}____d{number + 1}__\n")
    (folder / "d15.txt").write_text("{|}\n")
    with pytest.raises(RequestError, match="more than 200 picks"):
        expand("__d0__", 1)


def test_a_request_has_the_text_and_keeps_the_template(tiny):
    one = request.make_request(tiny, TEMPLATE, seed=7)
    assert (one.prompt, one.template) == (expand(TEMPLATE, 7), TEMPLATE)
    assert one.asked["prompt"] == one.prompt
    drawn = request.make_request(tiny, TEMPLATE, seed=-1)
    assert drawn.prompt == expand(TEMPLATE, drawn.seed)
    assert request.make_request(tiny, CIRCLE).template == ""
    text = request.make_request(tiny, "a {red|blue} circle", template="", allow_unknown=True)
    assert (text.prompt, text.template) == ("a {red|blue} circle", "")


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
        return workflow.generate_video(TEMPLATE, folder / "outputs/a.mp4", seed=5, **SMALL)


def test_a_video_is_made_again_without_the_files(video, monkeypatch):
    kept = json.loads(video.sidecar.read_text("utf-8"))
    text = kept["request"]["prompt"]
    assert re.fullmatch(r"a \w+ circle moving (left|right) on a black background", text)
    assert kept["template"] == TEMPLATE
    monkeypatch.setenv("COGVX_WILDCARDS_DIR", "/nowhere")
    again = reproduction.reproduce(video)
    assert again.same_frames
    assert again.generated.request.template == TEMPLATE


def test_the_template_is_shown_and_found(video, monkeypatch):
    assert "template" in " ".join(summary.summary_lines(video))
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(video.path.parent))
    catalogue = Catalogue()
    catalogue.refresh()
    assert [entry.path for entry in catalogue.find("__way__")] == [video.path]


def test_settings_from_before_have_braces_as_text(video, tiny):
    content = json.loads(video.sidecar.read_text("utf-8"))
    del content["template"], content["request"]["guidance_schedule"]
    content["request"]["prompt"] = "a {red|blue} circle"
    sidecar = records.read_settings(content)
    assert sidecar.request.prompt == r"a \{red|blue} circle"
    assert request.make_request(tiny, sidecar.request.prompt).template == ""


def test_the_form_takes_the_text_of_a_result(video, tiny):
    draft = Draft([], tiny, {})
    draft.load(video.settings)
    assert draft.request().prompt == video.settings.request.prompt


def test_a_job_that_waited_keeps_its_text(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "outputs"))
    from cogvx_nb.workbench.jobs import Job

    one = request.make_request(tiny, TEMPLATE, seed=7)
    KeptQueue().keep(Job(one, None))
    (path,) = (tmp_path / "outputs/.queue").glob("*.json")
    monkeypatch.setenv("COGVX_WILDCARDS_DIR", "/nowhere")
    restored = restore_job(read_kept_job(path)).request
    assert (restored.prompt, restored.template) == (one.prompt, TEMPLATE)


def test_the_page_counts_the_text_of_the_seed(tiny):
    text = "a {red|blue big} circle qqq"
    shown = prompt_actions.reading(tiny, text, 3)
    assert shown["count"] == prompt_actions.reading(tiny, expand(text, 3))["count"]
    start, end, _kind, _near = shown["spans"][-1]
    assert text[start:end] in "qqq"
    assert "zzzz" in prompt_actions.reading(tiny, "__zzzz__", 3)["summary"]
    assert without_picks("\U0001f600 {\U0001f600|b} c").endswith("c")
    assert len(without_picks("{\U0001f600|b} c")) == 8


def test_each_run_of_a_sweep_has_the_text_of_its_seed(video):
    values = {"steps": 2, "allow_untrained_size": True}
    listed = driver.prepare_sweep({"parameters": values, "prompts": [TEMPLATE], "seeds": 6})[2]
    assert [run.varied["prompt"] for run in listed] == [expand(TEMPLATE, 42 + n) for n in range(6)]
    assert len({run.varied["prompt"] for run in listed}) > 2
    assert {run.expected.template for run in listed} == {TEMPLATE}
    with pytest.raises(SpecError, match=r"row 2 of prompts.*no file zzzz.txt"):
        driver.prepare_sweep({"prompts": [CIRCLE, "__zzzz__"]})


def test_a_run_that_draws_its_seed_may_have_any_text_of_its_template(video):
    (run,) = driver.prepare_sweep({"parameters": SMALL | {"prompt": TEMPLATE, "seed": -1}})[2]
    run.expected.check(video.settings)
    for wrong in ({"template": ""}, {"template": "{a|b}"}):
        with pytest.raises(ResultError, match="something else"):
            run.expected.check(replace(video.settings, **wrong))
