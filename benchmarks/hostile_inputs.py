"""Inputs that no command should break on: names, files, flags, variables, streams.

``python benchmarks/hostile_inputs.py [--only WORDS] [--streams]`` gives each input to the command
line, in a process that many inputs share, and prints a table: the door, how many inputs, and how
many ended in a traceback, an internal error, a hang of more than 10 s, more than one line, or as if
all were well (exit code 0) though the input can't be. ``--streams`` also starts the command with
standard streams that are closed, full or of a narrow encoding. The exit code is 1 if any did.

A row more: an entry in ``NAMES``, ``JSON_FILES``, ``WORDS`` or ``COMMANDS_BY_VARIABLE``, or another
function in ``DOORS``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 10
"""Seconds after which an input counts as one that hangs."""

PROMPT = "a red circle moving right on a black background"

NAMES = {
    "user": "~nosuchuser/x",
    "nobody": "~nosuchuser",
    "long part": "x" * 300,
    "long part in a folder": f"new/{'y' * 300}/x",
    "long part, Chinese": "红" * 90,
    "long path": "d/" * 2500 + "x",
    "long path, one part": "x" * 5000,
    "no UTF-8": "\udcff\udcfe",
    "half a character": "\ud800",
    "NUL": "a\0b",
    "slash at the end": "folder/",
    "slashes at the end": "new/folder//",
    "loop": "loop/x",
    "in a file": "file/x",
    "in a pipe": "pipe/x",
    "line break": "a\nb",
    "carriage return": "a\rb",
    "line separator": "a\u2028b",
    "escape": "a\x1b[31mb",
    "bell": "\a",
    "in /proc": "/proc/self/nosuch/x",
    "in /dev/full": "/dev/full/x",
    "in /dev/null": "/dev/null/x",
}
"""Names that can't be, of a file to be read and of one to be made; a door adds its suffix."""

SPECIAL = {
    "empty": "",
    "loop itself": "loop",
    "pipe": "pipe",
    "folder": "folder",
    "root": "/",
    "here": ".",
    "above": "..",
    "dangling": "dangling",
    "null": "/dev/null",
    "zero": "/dev/zero",
    "full": "/dev/full",
    "random": "/dev/urandom",
    "file": "file",
    "no file": "nosuch",
    "huge": "huge",
    "dash": "-",
    "star": "*",
    "braces": "{}",
    "format": "%03d",
    "home": "~",
}
"""Names of what exists but isn't what a door reads."""

JSON_FILES = {
    "empty": b"",
    "null": b"null",
    "number": b"1e999",
    "list": b"[]",
    "text": b'"x"',
    "object": b"{}",
    "brackets": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "no UTF-8": b"\xff\xfe{}",
    "NUL": b"\0" * 1000,
    "cut": b'{"format": 3, "rows": [',
    "rows are numbers": b'{"format": 3, "rows": [1, 2]}',
    "rows are null": b'{"format": 3, "rows": [null]}',
    "rows are lists": b'{"format": 3, "rows": [[]]}',
    "rows are empty": b'{"format": 3, "rows": [{}]}',
    "nothing but rows": b'{"format": 3, "rows": []}',
    "a format of the future": b'{"format": 999, "rows": []}',
    "a format that is a list": b'{"format": [], "rows": []}',
    "former format": b'{"format": 2, "rows": [{"placement": []}]}',
    "huge number": b'{"format": 3, "rows": [' + b"9" * 5000 + b"]}",
    "NaN": b'{"format": NaN, "rows": []}',
    "many keys": json.dumps({str(n): n for n in range(10_000)}).encode(),
}
"""Content of files that should be JSON."""

WORDS = (
    ["genrate"],
    ["generate", "--promt", PROMPT],
    ["generate", "--prompt"],
    ["generate", "--prompt", "-x"],
    ["generate"],
    ["generate", "--prompt", PROMPT, "--frames", "9" * 5000],
    ["generate", "--prompt", PROMPT, "--frames", "1e3"],
    ["generate", "--prompt", PROMPT, "--seed", "-0x1"],
    ["generate", "--prompt", PROMPT, "--guidance", "inf"],
    ["generate", "--prompt", PROMPT, "--speed", "turbbo"],
    ["generate", "--prompt", PROMPT, "--fallback", "redcue"],
    ["generate", "--prompt", PROMPT, "--attention", "x" * 500],
    ["generate", "--prompt", PROMPT, "--model", "CogVideo5b"],
    ["generate", "--prompt", "\udcff"],
    ["generate", "--prompt", "x" * 100_000],
    ["generate", "--prompt", PROMPT, "surplus"],
    ["list", "--limit", "-1"],
    ["list", "--limit", "x"],
    ["list", "--serch", "x"],
    ["list", "--export", "a.txt"],
    ["show", "a", "b"],
    ["run"],
    ["run", "nosuch"],
    ["run", "03_generate", "-p", "promt", "x"],
    ["run", "03_generate", "-p", "prompt"],
    ["run", "03_generate", "-p", "frames", "many"],
    ["sweep"],
    ["sweep", "stauts"],
    ["sweep", "status", "nosuch"],
    ["sweep", "status", "../x"],
    ["sweep", "report"],
    ["sweep", "report", "nosuch"],
    ["sweep", "cancel"],
    ["sweep", "cancel", "nosuch"],
    ["sweep", "run"],
    ["sweep", "run", "--shard", "0/0", "file"],
    ["sweep", "run", "--workers", "-1", "file"],
    ["bench", "compare"],
    ["bench", "compare", "a"],
    ["bench", "reprot"],
    ["bench", "--frames", "x", "--weights", "random"],
    ["bench", "--repeats", "0", "--weights", "random"],
    ["download", "CogVideoX5b"],
    ["download", "--source", "hugingface"],
    ["download", "--endpoint", "ftp://x"],
    ["download", "--endpoint", "http://"],
    ["download", "--endpoint", "http://["],
    ["download", "--endpoint", "http://h:99999"],
    ["download", "--endpoint", "x" * 3000],
    ["download", "--endpoint", "http://a b"],
    ["download", "--endpoint", "\n"],
    ["verify", "--repiar"],
    ["verify", "nosuch"],
    ["check", "--modle", "x"],
    ["--verison"],
    ["\udcff"],
    ["x" * 10_000],
    [""],
    ["--"],
    ["-"],
)
"""Command lines that can't be."""

COMMANDS_BY_VARIABLE = {
    "COGVX_HOME": (["list"], ["verify"], ["generate", "--prompt", PROMPT]),
    "COGVX_OUTPUTS_DIR": (["list"], ["sweep", "status"], ["generate", "--prompt", PROMPT]),
    "COGVX_MODELS_DIR": (["verify"], ["generate", "--prompt", PROMPT], ["download"]),
}
"""Variables that name folders, each tried with every one of ``NAMES``, and who reads them."""

ENDPOINTS = {
    "HF_ENDPOINT": ("ftp://x", "http://[", "http://u:s3cr3t@h:x", " ", "http://h:0"),
    "MODELSCOPE_ENDPOINT": ("ftp://x", "http://[", "http://u:s3cr3t@h:x", "\t", "http://h:0"),
}
PROXIES = ("socks5://u:s3cr3t@h:1", "http://u:s3cr3t@[", "://s3cr3t@", "x y", "http://h:99999")


@dataclass(frozen=True)
class Input:
    """Something that is given to the command line."""

    door: str
    name: str
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    refused: bool = True  # whether the exit code can't be 0


def named_inputs() -> Iterator[Input]:
    """Every name, through every door that takes one."""
    made = {
        ".mp4": {
            "generate --output": ["generate", "--prompt", PROMPT, "--output"],
        },
        ".csv": {"list --export": ["list", "--export"]},
        ".html": {"bench report --output": ["bench", "report", "bench.json", "--output"]},
        ".json": {"bench --output": ["bench", "--weights", "random", "--output"]},
        ".ipynb": {"run --output-notebook": ["run", "mine.ipynb", "--output-notebook"]},
    }
    for suffix, doors in made.items():
        for door, arguments in doors.items():
            for name, text in NAMES.items():
                at_end = text.endswith("/")
                given = text if at_end else f"{text}{suffix}"
                yield Input(door, name, [*arguments, given], files=BOOK | BENCH)
    for door, arguments in READ.items():
        for name, text in (NAMES | SPECIAL).items():
            yield Input(door, name, [*arguments, text], files=BENCH)
    for name, text in NAMES.items():
        download = ["download", "--source", "huggingface", "--endpoint", "http://127.0.0.1:9"]
        if "/" not in text[-1] and name not in SHOWABLE:
            yield Input("download --models-dir", name, [*download, "--models-dir", text])


READ = {
    "show": ["show"],
    "reproduce": ["reproduce"],
    "verify": ["verify"],
    "run": ["run"],
    "sweep": ["sweep", "run"],
    "sweep status": ["sweep", "status"],
    "sweep report": ["sweep", "report"],
    "bench report": ["bench", "report"],
    "bench compare": ["bench", "compare", "bench.json"],
    "generate --model": ["generate", "--prompt", PROMPT, "--model"],
    "check --model": ["check", "--model"],
}
"""Doors that read what is named."""

SHOWABLE = ("line break", "carriage return", "line separator", "escape", "bell")
"""Names that can be those of a folder that exists."""

BENCH = {"bench.json": b'{"format": 3, "rows": []}'}
BOOK = {
    "mine.ipynb": json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python"}},
            "cells": [],
        }
    ).encode()
}


def file_inputs() -> Iterator[Input]:
    """Every content of a JSON file, where one is read."""
    for name, content in JSON_FILES.items():
        yield Input(
            "bench report FILE", name, ["bench", "report", "a.json"], files={"a.json": content}
        )
        model = {f"m/{path}": content for path in ("model_index.json", "transformer/config.json")}
        yield Input(
            "model_index.json", name, ["generate", "--prompt", PROMPT, "--model", "m"], files=model
        )
        listed = {"m/cogvx-manifest.json": content}
        yield Input("cogvx-manifest.json", name, ["verify", "m"], files=listed)
        yield Input("notebook", name, ["run", "a.ipynb"], files={"a.ipynb": content})
        if name != "object":  # a sweep of one video
            yield Input("sweep's file", name, ["sweep", "a.yaml"], files={"a.yaml": content})


VALUES = (None, "x", -1, [], {}, 1e308, True, float("nan"), [1], {"a": 1}, 0, "\ud800", "x" * 9999)
"""Put in place of a value of a JSON file."""


def changed_inputs(count: int = 60) -> Iterator[Input]:
    """A benchmark and the settings of a video, each with one value changed."""
    chance = random.Random(0)
    report = json.loads((DATA / "reference_h100.json").read_text())
    report["rows"] = report["rows"][:2]
    for number in range(count):
        name, content = change_one(report, chance)
        compare = ["bench", "compare", "a.json", "a.json"]
        files = {"a.json": content}
        yield Input("bench compare, changed", f"{number}: {name}", compare, {}, files, False)
    if "COGVX_SAMPLE" not in os.environ:
        return
    video = Path(os.environ["COGVX_SAMPLE"])
    settings = json.loads(video.with_suffix(".json").read_text())
    for number in range(count):
        name, content = change_one(settings, chance)
        files = {"a.mp4": video.read_bytes(), "a.json": content}
        yield Input("show, changed", f"{number}: {name}", ["show", "a.mp4"], {}, files, False)
    for name, content in JSON_FILES.items():
        files = {"a.mp4": video.read_bytes(), "a.json": content}
        yield Input("show, sidecar", name, ["show", "a.mp4"], {}, files, False)


DATA = Path(__file__).parent.parent / "cogvx_nb" / "data"


def change_one(content: dict, chance: random.Random) -> tuple[str, bytes]:
    """Where a value of a copy was changed, and the copy as JSON."""
    changed = json.loads(json.dumps(content))
    part, path = changed, []
    while True:
        key = chance.choice([*part] if isinstance(part, dict) else range(len(part)))
        path.append(str(key))
        inner = part[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            part[key] = chance.choice(VALUES)
            return ".".join(path), json.dumps(changed).encode()
        part = inner


def word_inputs() -> Iterator[Input]:
    for words in WORDS:
        yield Input("words", " ".join(words)[:40], list(words))


def variable_inputs() -> Iterator[Input]:
    """Every name in every variable that names a folder, and addresses that can't be."""
    for variable in COMMANDS_BY_VARIABLE:
        for name, text in NAMES.items():
            if (
                "\0" in text
                or "\ud800" in text
                or "slash" in name
                or "/proc" in text
                or "/dev" in text
            ):
                continue  # a variable can't hold it, or a folder of that name is only missing
            if name in (*SHOWABLE, "in a file", "in a pipe"):
                continue
            for command in COMMANDS_BY_VARIABLE[variable]:
                yield Input(variable, f"{name}: {command[0]}", command, {variable: text})
    for variable, values in ENDPOINTS.items():
        source = "huggingface" if variable == "HF_ENDPOINT" else "modelscope"
        for value in values:
            if value.strip():
                yield Input(variable, value, ["download", "--source", source], {variable: value})
    for variable in ("ALL_PROXY", "https_proxy"):
        for value in PROXIES:
            environment = {variable: value, "HF_HUB_DISABLE_TELEMETRY": "1"}
            command = ["download", "--source", "huggingface"]
            yield Input(variable, value, command, environment)


DOORS = (named_inputs, file_inputs, changed_inputs, word_inputs, variable_inputs)


def all_inputs() -> list[Input]:
    return [given for door in DOORS for given in door()]


@dataclass(frozen=True)
class Outcome:
    """What an input did."""

    code: int
    out: str
    err: str
    seconds: float

    def problem(self, given: Input) -> str:
        """What is wrong with it; empty if nothing is."""
        shown = self.out + self.err
        if self.seconds > PATIENCE * (6 if given.door.startswith("check") else 1):
            return "hang"  # a check tries what takes half a minute to import, once
        if "Traceback" in shown or 'File "' in shown:
            return "traceback"
        if "internal error" in shown:
            return "internal error"
        if "s3cr3t" in shown:
            return "secret shown"
        if given.refused and self.code == 0:
            return "exit code 0"
        lines = [line for line in self.err.splitlines() if line.startswith("cogvx")]
        if self.code not in (0, 1, 2) or (self.code == 2 and not shown):
            return f"exit code {self.code}"
        return "lines" if len(lines) > 1 else ""


def make_place(folder: Path, given: Input) -> None:
    """Files, a folder, a pipe, a loop and a dangling link to name."""
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_text("text")
    with (folder / "huge").open("wb") as file:
        file.truncate(2**33)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    for name, content in given.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def run_input(given: Input) -> Outcome:
    """Give an input to the command line in this process, in a folder of its own."""
    from huggingface_hub.utils import close_session

    from cogvx_nb.cli.main import main

    close_session()  # its client reads the proxies when it is made
    home, before = Path.cwd(), dict(os.environ)
    out, err, start = io.StringIO(), io.StringIO(), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        make_place(folder, given)
        try:
            os.chdir(folder)
            if "COGVX_HOME" not in given.environment:
                os.environ["COGVX_OUTPUTS_DIR"] = f"{place}/outputs"
            os.environ.update(given.environment)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(given.arguments)
        finally:
            os.environ.clear()
            os.environ.update(before)
            os.chdir(home)
    return Outcome(code, out.getvalue(), err.getvalue(), time.perf_counter() - start)


WARM = (
    ["run", "mine.ipynb", "--output-notebook", "~nosuchuser/x.ipynb"],
    ["sweep", "nosuch"],
    ["bench", "compare", "nosuch", "nosuch"],
    ["download", "--endpoint", "ftp://x"],
    ["list"],
)
"""Commands that import what takes seconds, before anything is timed."""


def _serve(pipe) -> None:
    from cogvx_nb.planning import probe

    os.environ.pop("COGVX_OUTPUTS_DIR", None)
    _answer_probes_once()
    probe.probe_machine()
    for words in WARM:
        run_input(Input("", "", words, files=BOOK))
    while True:
        given = pipe.recv()
        try:
            pipe.send(run_input(given))
        except BaseException as error:  # what reaches the caller of main is a traceback
            pipe.send(Outcome(1, "", f"Traceback: {type(error).__name__}: {error}", 0.0))


def _answer_probes_once() -> None:
    """What a check tries in children takes half a minute: once is enough."""
    from cogvx_nb.check import report

    run_probes, answers = report.run_probes, {}

    def answer(names) -> dict:
        if not answers:
            answers.update(run_probes(names))
        return answers

    report.run_probes = answer


class Server:
    """A process that runs inputs one after the other, and a new one after each that hangs."""

    def __init__(self) -> None:
        self._process = None

    def run(self, given: Input) -> Outcome:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            self._slow = True
        self._pipe.send(given)
        patience = 120 if self._slow or given.arguments[:1] == ["check"] else PATIENCE + 2
        self._slow = False
        try:
            if self._pipe.poll(patience):
                return self._pipe.recv()
        except EOFError:
            self.close()
            return Outcome(1, "", "Traceback: the process ended", 0.0)
        self.close()
        return Outcome(1, "", "", float("inf"))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


STREAMS = {
    "stdout full": ">/dev/full",
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "stderr full": "2>/dev/full",
    "both full": ">/dev/full 2>/dev/full",
    "both closed": ">&- 2>&-",
    "all closed": "<&- >&- 2>&-",
    "stdin closed": "<&-",
    "reader gone": "| true",
    "reader gone, both": "2>&1 | true",
}
"""Redirections of a shell."""

LOCALES = {
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "unbuffered": {"PYTHONUNBUFFERED": "1"},
}

STREAMED = (
    ["list"],
    ["--help"],
    ["--version"],
    [],
    ["genrate"],
    ["show", "nosuch.mp4"],
    ["sweep", "status"],
    ["generate", "--prompt", PROMPT, "--frames", "-1"],
    ["verify", "nosuch 红"],
)
"""Commands that are started with each of ``STREAMS`` and ``LOCALES``."""


def stream_rows() -> Iterator[tuple[str, str, Outcome]]:
    """Door, name and outcome of each command with each kind of stream, in processes."""
    for words in STREAMED:
        for name, redirection in STREAMS.items():
            yield "streams", f"{name}: {' '.join(words)[:30]}", run_shell(words, redirection, {})
        for name, variables in LOCALES.items():
            yield "locales", f"{name}: {' '.join(words)[:30]}", run_shell(words, "", variables)


def run_shell(words: list[str], redirection: str, variables: dict[str, str]) -> Outcome:
    """Run a command in a shell; what it still prints comes through the shell's own streams."""
    script = f'"$@" {redirection}'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "cogvx_nb", *words]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COGVX_OUTPUTS_DIR": f"{folder}/outputs"} | variables
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(1, "", "", float("inf"))
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Outcome(done.returncode, out, err, (time.perf_counter() - start) / 3)  # it starts Python


def main(inputs: Callable[[], Iterable[Input]] = all_inputs) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="doors or names that hold this")
    parser.add_argument("--streams", action="store_true", help="also streams, in processes")
    parser.add_argument("--sample", help="a video, whose settings are changed too")
    parser.add_argument("--verbose", action="store_true", help="print what each input prints")
    options = parser.parse_args()
    if options.sample:
        os.environ["COGVX_SAMPLE"] = str(Path(options.sample).absolute())
    tried, faults, server = Counter(), [], Server()

    def record(door: str, name: str, outcome: Outcome, problem: str) -> None:
        tried[door] += 1
        if options.verbose or problem:
            last = (outcome.err or outcome.out).strip().splitlines()
            text = (last[-1] if last else "").encode("ascii", "backslashreplace").decode()
            print(
                f"{problem or 'ok':15} {outcome.code} {door}: {name!a:.60}: {text[:200]}",
                flush=True,
            )
        if problem:
            faults.append((door, problem))

    for given in inputs():
        if options.only in f"{given.door}: {given.name}":
            outcome = server.run(given)
            record(given.door, given.name, outcome, outcome.problem(given))
    server.close()
    if options.streams:
        for door, name, outcome in stream_rows():
            problem = outcome.problem(Input(door, name, [], refused=False))
            allowed = problem.startswith("exit code") or problem == "lines"
            record(door, name, outcome, "" if allowed else problem)
    kinds = Counter(faults)
    print(f"{'door':25} inputs  problems")
    for door, count in tried.items():
        named = ", ".join(f"{n} {kind}" for (at, kind), n in kinds.items() if at == door)
        print(f"{door:25} {count:6}  {named or '0'}")
    print(f"{'all':25} {tried.total():6}  {len(faults)}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
