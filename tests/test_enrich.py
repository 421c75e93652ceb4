"""Prompts are enriched by the real client, against a real server that fails in each known way."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import traceback
from dataclasses import replace

import pytest
from chat import BETTER, Endpoint, Reply
from conftest import CIRCLE

from cogvx_nb import errors, progress, reproduction, storyboard, workflow
from cogvx_nb.checkpoints import registry
from cogvx_nb.checkpoints.registry import COGVIDEOX_5B
from cogvx_nb.cli import main
from cogvx_nb.planning import chat_client, enrich, request
from cogvx_nb.results import result

KEY = "sk-test-0123456789-never-shown"
MODEL = "a-model"
TYPED = "一只红色的风筝"
BLUE = "a blue star moving up on a white background"


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No endpoint but the test's own, whatever is set for the user."""
    for name in ("COGVX_CHAT_BASE_URL", "COGVX_CHAT_MODEL", "COGVX_CHAT_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint(monkeypatch):
    with Endpoint() as running:
        monkeypatch.setenv("COGVX_CHAT_BASE_URL", running.url)
        monkeypatch.setenv("COGVX_CHAT_MODEL", MODEL)
        monkeypatch.setenv("COGVX_CHAT_KEY", KEY)
        yield running


@pytest.fixture
def failing(caplog):
    """Enrich a prompt, which must fail as promised; returns the message."""

    def run(kind: type[Exception], prompt: str = TYPED, timeout_seconds: float = 5) -> str:
        caplog.set_level(logging.DEBUG)
        with pytest.raises(errors.CogvxError) as caught:
            enrich.enrich_prompt(prompt, COGVIDEOX_5B, timeout_seconds=timeout_seconds)
        message = str(caught.value)
        assert type(caught.value) is kind, message
        assert len(message.splitlines()) == 1
        assert KEY not in message
        assert KEY not in "".join(traceback.format_exception(caught.value))
        assert KEY not in caplog.text
        return message

    return run


def test_a_prompt_is_translated_and_expanded(endpoint, caplog):
    caplog.set_level(logging.DEBUG)
    assert enrich.is_configured()
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B) == enrich.Enriched(TYPED, BETTER, MODEL)
    (sent,) = endpoint.requests
    assert sent.path == "/v1/chat/completions"
    assert sent.body["model"] == MODEL
    instruction, typed = sent.body["messages"]
    assert instruction["role"] == "system"
    assert "Translate it into English" in instruction["content"]
    assert f"at most {int(226 * enrich.WORDS_PER_TOKEN)} words" in instruction["content"]
    assert typed == {"role": "user", "content": TYPED}
    assert KEY not in json.dumps(sent.body)
    assert KEY not in caplog.text


def test_only_these_headers_are_sent(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "an-organisation")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: of another endpoint")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    enrich.enrich_prompt(TYPED, COGVIDEOX_5B)
    headers = {name.lower(): value for name, value in endpoint.requests[0].headers.items()}
    assert headers.pop("authorization") == f"Bearer {KEY}"
    assert headers.pop("user-agent").startswith("cogvx-nb/")
    assert set(headers) == set(chat_client.SENT_HEADERS)


def test_a_server_without_a_key(endpoint, monkeypatch):
    monkeypatch.delenv("COGVX_CHAT_KEY")
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B).after == BETTER
    assert endpoint.requests[0].headers.get("Authorization") is None


@pytest.mark.parametrize(
    "reply",
    [
        Reply(hang_up="close", times=1),
        Reply(hang_up="reset", times=1),
        Reply(status=500, times=1),
        Reply(status=429, times=1),
    ],
    ids=["closed", "reset", "500", "429"],
)
def test_what_may_pass_is_tried_once_more(endpoint, reply):
    endpoint.reply = reply
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B).after == BETTER
    assert len(endpoint.requests) == 2


TALKATIVE = "Wrong: {key} is not known.\nAsk for another one."
FAILURES = {
    "401": (Reply(TALKATIVE, status=401), errors.ChatDenied, r"\(401\): correct COGVX_CHAT_KEY"),
    "403": (Reply(TALKATIVE, status=403), errors.ChatDenied, r"\(403\): correct COGVX_CHAT_KEY"),
    "404": (
        Reply("model 'a-model' not found", status=404),
        errors.ChatFailed,
        r"no model 'a-model'.*\(404, model 'a-model' not found\): correct COGVX_CHAT_MODEL",
    ),
    "429": (
        Reply("Slow down, {key}", status=429, headers={"Retry-After": "30"}),
        errors.ChatBusy,
        r"asks to wait 30 s \(429, Slow down, …\): try again then, or check your quota",
    ),
    "429 until a date": (
        Reply(status=429, body=b"", headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}),
        errors.ChatBusy,
        r"asks to wait \(429\): try again",
    ),
    "400": (
        Reply(body=b'{"detail": "no such field"}', status=400),
        errors.ChatFailed,
        r"refused the request \(400, no such field\): check COGVX_CHAT_MODEL",
    ),
    "500": (
        Reply(TALKATIVE, status=500),
        errors.ChatFailed,
        r"failed \(500, Wrong: … is not known\. Ask for another one\.\): try again later",
    ),
    "502 with a page": (
        Reply(body=b"<html>Bad gateway</html>", status=502),
        errors.ChatFailed,
        r"failed \(502\): try again later",
    ),
    "500 at length": (
        Reply("word " * 100, status=500),
        errors.ChatFailed,
        r"failed \(500, (word )+w?o?r?d?…\): try again later",
    ),
    "closed": (Reply(hang_up="close"), errors.ChatUnreachable, "see that its server runs"),
    "reset": (Reply(hang_up="reset"), errors.ChatUnreachable, "see that its server runs"),
    "malformed": (
        Reply(body=b'{"choices": [{"mess'),
        errors.BadAnswer,
        "something that is no JSON.*correct COGVX_CHAT_BASE_URL",
    ),
    "deep": (Reply(body=b"[" * 200_000), errors.BadAnswer, "correct COGVX_CHAT_BASE_URL"),
    "empty": (Reply(body=b""), errors.BadAnswer, "no JSON.*correct COGVX_CHAT_BASE_URL"),
    "a page": (
        Reply(body=b"\n<!doctype html><title>Log in</title>"),
        errors.BadAnswer,
        "a web page.*correct COGVX_CHAT_BASE_URL",
    ),
    "other JSON": (
        Reply(body=b'{"status": "ok"}'),
        errors.BadAnswer,
        "JSON of another kind.*correct COGVX_CHAT_BASE_URL",
    ),
    "no choices": (Reply(body=b'{"choices": []}'), errors.BadAnswer, "JSON of another kind"),
    "null": (
        Reply(body=b'{"choices": [{"message": {"content": null}}]}'),
        errors.BadAnswer,
        "no text.*set COGVX_CHAT_MODEL",
    ),
    "no content": (Reply(" \n"), errors.BadAnswer, "no text.*set COGVX_CHAT_MODEL"),
    "only dots": (Reply("..."), errors.BadAnswer, "no text"),
    "refusal": (Reply(refusal="No."), errors.BadAnswer, "declined.*reword it"),
    "filtered": (Reply(finish="content_filter"), errors.BadAnswer, "declined.*reword it"),
    "sorry": (Reply("I’m sorry, but I can’t help."), errors.BadAnswer, "declined.*reword it"),
    "cut off": (Reply(finish="length"), errors.BadAnswer, "cut off.*raise the limit"),
    "endless": (
        Reply(body=b" " * (chat_client.MAX_ANSWER_BYTES + 1)),
        errors.BadAnswer,
        "more than 1024 KiB.*set COGVX_CHAT_MODEL",
    ),
    "long": (Reply("word " * 500), errors.BadAnswer, "2499 characters, where 2000 are the most"),
    "untranslated": (Reply(TYPED * 3), errors.BadAnswer, "another language than English"),
    "JSON in it": (Reply('{"prompt": "A kite."}'), errors.BadAnswer, "with JSON instead"),
    "a page in it": (Reply("<!DOCTYPE html><p>A kite"), errors.BadAnswer, "with a web page"),
    "endless thought": (Reply("<think>A kite, so"), errors.BadAnswer, "code or thoughts"),
    "the key in it": (Reply("A kite, {key}"), errors.BadAnswer, "its key.*set COGVX_CHAT_MODEL"),
}


@pytest.mark.parametrize(("reply", "kind", "words"), FAILURES.values(), ids=FAILURES)
def test_failures(endpoint, failing, reply, kind, words):
    endpoint.reply = reply
    message = failing(kind)
    assert re.search(words, message), message
    assert MODEL in message or endpoint.url in message
    assert all(one.prompt == TYPED for one in endpoint.requests)


def test_a_key_is_wanted(endpoint, failing, monkeypatch):
    monkeypatch.delenv("COGVX_CHAT_KEY")
    endpoint.reply = Reply(status=401)
    assert failing(errors.ChatDenied).endswith("wants a key (401): set COGVX_CHAT_KEY")


def test_no_answer_in_time(endpoint, failing):
    endpoint.reply = Reply(wait=5)
    message = failing(errors.ChatUnreachable, timeout_seconds=0.2)
    assert "did not answer within 0.2 s: try again, or set COGVX_CHAT_MODEL to" in message


def test_an_answer_without_end_in_sight(endpoint, failing):
    endpoint.reply = Reply(pause=0.05)
    message = failing(errors.ChatUnreachable, timeout_seconds=3)
    assert "was still answering when the time was up: try again" in message


def test_an_answer_that_stops_half_way(endpoint, failing):
    endpoint.reply = Reply(pause=5)
    message = failing(errors.ChatUnreachable, timeout_seconds=0.2)
    assert "did not answer within 0.2 s" in message


def test_the_key_follows_no_redirect(endpoint, failing):
    with Endpoint() as other:
        address = f"{other.url}/chat/completions"
        for status in (302, 307):
            endpoint.reply = Reply(status=status, headers={"Location": address})
            message = failing(errors.ChatFailed)
            assert f"({status}), which is not followed: set COGVX_CHAT_BASE_URL" in message
        assert other.requests == []


def test_nobody_listens(endpoint, failing, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("COGVX_CHAT_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
        message = failing(errors.ChatUnreachable)
    assert "Connection refused" in message
    assert "COGVX_CHAT_BASE_URL is right" in message


@pytest.mark.parametrize("variable", ["COGVX_CHAT_BASE_URL", "HTTP_PROXY"])
def test_an_address_that_cannot_be(endpoint, failing, monkeypatch, variable):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(variable, "ftp://a..b" if variable == "HTTP_PROXY" else "http://a..b/v1")
    assert "COGVX_CHAT_BASE_URL is right" in failing(errors.ChatUnreachable)


def test_a_path_that_is_wrong(endpoint, failing, monkeypatch):
    monkeypatch.setenv("COGVX_CHAT_BASE_URL", endpoint.origin)
    assert "(404, Not Found)" in failing(errors.ChatFailed)


def test_not_configured(failing):
    assert not enrich.is_configured()
    message = failing(errors.EnrichError)
    assert "set COGVX_CHAT_BASE_URL and COGVX_CHAT_MODEL" in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("COGVX_CHAT_MODEL", " "),
        ("COGVX_CHAT_BASE_URL", "127.0.0.1:11434"),
        ("COGVX_CHAT_BASE_URL", f"http://user:{KEY}@127.0.0.1/v1"),
        ("COGVX_CHAT_BASE_URL", f"http://127.0.0.1/v1?key={KEY}"),
        ("COGVX_CHAT_KEY", f"{KEY}\nX-Other: header"),
    ],
)
def test_settings_that_cannot_be(endpoint, failing, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    message = failing(errors.SettingsError)
    assert message.startswith(variable)
    assert endpoint.requests == []


def test_without_the_package():
    code = """
import sys
sys.modules["openai"] = None
from cogvx_nb import errors
from cogvx_nb.checkpoints import registry
from cogvx_nb.planning import enrich
try:
    enrich.enrich_prompt("a kite", registry.COGVIDEOX_5B)
except errors.EnrichError as error:
    print(error)
"""
    environment = {
        "COGVX_CHAT_BASE_URL": "http://127.0.0.1:9/v1",
        "COGVX_CHAT_MODEL": MODEL,
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert 'needs the openai package: pip install -e ".[enrich]"' in done.stdout


@pytest.mark.parametrize("prompt", ["", " \n", "x" * 2001, "\udcff"])
def test_prompts_that_are_not_sent(endpoint, failing, prompt):
    assert failing(errors.RequestError, prompt).startswith("prompt = ")
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (f'"{BETTER}"', BETTER),
        (f"“{BETTER}”", BETTER),
        (f"**Prompt:** {BETTER}\n", BETTER),
        (f"Here it is:\n```text\n{BETTER}\n```", BETTER),
        (f"<think>A kite,\nred.</think>\n\n{BETTER}", BETTER),
        (BETTER.replace(". ", ".\n\n"), BETTER),
        ("A\u0000 \u202ekite\u200b", "A kite"),
        ('"A kite" and "a star"', '"A kite" and "a star"'),
    ],
)
def test_what_models_put_around_a_prompt_goes(endpoint, answer, text):
    endpoint.reply = Reply(answer)
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B).after == text


def test_a_prompt_is_asked_for_once(endpoint, monkeypatch):
    first = enrich.enrich_prompt(TYPED, COGVIDEOX_5B)
    endpoint.reply = Reply("Another kite.")
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B) == first
    assert len(endpoint.requests) == 1
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B, again=True).after == "Another kite."
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B).after == "Another kite."
    assert len(endpoint.requests) == 2
    enrich.enrich_prompt(f"{TYPED} ", COGVIDEOX_5B)
    monkeypatch.setenv("COGVX_CHAT_MODEL", "another")
    enrich.enrich_prompt(TYPED, COGVIDEOX_5B)
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"I'm sorry, no.", b"x" * 10_000, None], ids=lambda c: f"{c!r:.9}"
)
def test_a_damaged_answer_is_asked_for_again(endpoint, outputs, content):
    enrich.enrich_prompt(TYPED, COGVIDEOX_5B)
    (path,) = (outputs / ".enriched").iterdir()
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert enrich.enrich_prompt(TYPED, COGVIDEOX_5B).after == BETTER
    assert len(endpoint.requests) == 2


def test_the_embedded_model_is_not_for_it(endpoint, capsys, outputs):
    code = main.main(["generate", "--enrich", "--prompt", CIRCLE, "--model", "tiny"])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert "model = 'cogvideox-tiny': its prompts can't be enriched" in printed.err
    assert endpoint.requests == []
    assert not outputs.exists()


def test_both_prompts_are_shown(endpoint, capsys, monkeypatch):
    let_in = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (COGVIDEOX_5B, let_in))
    endpoint.reply = Reply(BLUE)
    with progress.Progress() as shown:
        enriched, _ = workflow.prepare_request("a kite", shown, model="tiny", enrich=True)
    assert (enriched.prompt, enriched.enriched_from) == (BLUE, "a kite")
    lines = capsys.readouterr().err
    assert f"prompt before: a kite\nprompt after ({MODEL}): {BLUE}\n" in lines
    typed, _ = workflow.prepare_request(CIRCLE, model="tiny", enrich=False)
    assert (typed.prompt, typed.enriched_from) == (CIRCLE, "")


def test_from_the_command_to_a_video_that_can_be_made_again(endpoint, capsys, monkeypatch, outputs):
    """The whole workflow, with the embedded model, as no other can run in tests."""
    let_in = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (COGVIDEOX_5B, let_in))
    endpoint.reply = Reply(BLUE)
    flags = ["--model", "tiny", "--steps", "2", "--enrich", "--prompt", TYPED]
    assert main.main(["generate", *flags]) == 0
    printed = capsys.readouterr()
    path = printed.out.strip()
    settings = result.read_result(path).settings
    assert (settings.request.prompt, settings.enriched_from) == (BLUE, TYPED)
    assert main.main(["reproduce", path]) == 0
    assert "identical" in capsys.readouterr().out
    assert len(endpoint.requests) == 1
    assert KEY not in printed.out + printed.err
    assert len([*outputs.rglob("*.mp4"), *outputs.rglob("*.json")]) == 2
    assert not [
        file
        for file in outputs.rglob("*.*")
        if file.is_file() and KEY.encode() in file.read_bytes()
    ]


def test_a_failure_makes_no_video(endpoint, capsys, monkeypatch, outputs):
    let_in = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (COGVIDEOX_5B, let_in))
    endpoint.reply = Reply(TALKATIVE, status=401)
    flags = ["--debug", "--model", "tiny", "--enrich", "--prompt", TYPED]
    assert main.main(["generate", *flags]) == 1
    errors_shown = capsys.readouterr().err
    assert "correct COGVX_CHAT_KEY" in errors_shown
    assert KEY not in errors_shown
    assert not outputs.exists()


def test_both_are_kept_in_the_sidecar_and_the_mp4(endpoint, make):
    typed = "une étoile bleue\nqui monte"
    saved = result.save_result(make(BLUE, enriched_from=typed))
    assert saved.settings.request.prompt == BLUE
    assert json.loads(saved.sidecar.read_text("utf-8"))["enriched_from"] == typed
    saved.sidecar.unlink()
    alone = result.read_result(saved.path)  # from the mp4
    assert alone.settings.enriched_from == typed
    again = reproduction.reproduce(alone)
    assert again.identical
    assert again.generated.request.enriched_from == typed
    assert endpoint.requests == []


def test_a_prompt_as_typed_says_nothing_of_it(make):
    assert "enriched_from" not in result.describe_video(make()).as_json()


def test_a_row_that_goes_on_is_not_enriched_once_more(endpoint, monkeypatch):
    let_in = replace(registry.TINY, enrichable=True)
    monkeypatch.setattr(registry, "CHECKPOINTS", (COGVIDEOX_5B, let_in))
    endpoint.reply = Reply(BLUE)
    rows = [{"prompt": "a kite"}, {"transition": "continue", "frames": 4}]
    first, second = storyboard.check_rows(rows, model="tiny", enrich=True)
    assert first.prompt == second.prompt == BLUE
    assert len(endpoint.requests) == 1


def test_what_was_typed_is_checked(tiny):
    with pytest.raises(errors.RequestError, match="enriched_from"):
        request.make_request(tiny, CIRCLE, enriched_from="x" * 2001)
