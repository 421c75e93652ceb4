"""The check: on this machine, in broken environments, with damaged checkpoints and other GPUs."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import ROOT, run_cogvx
from test_notebook import execute, nbval

from cogvx_nb.check import environment, report, run, terminal
from cogvx_nb.check.report import Probe
from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import main
from cogvx_nb.errors import FfmpegError
from cogvx_nb.planning import machine, planner, probe
from cogvx_nb.planning.request import make_request
from cogvx_nb.results import video

H100 = "0, NVIDIA H100 80GB HBM3, 81559, 81008, 580.159.04, 9.0"
RTX4090 = "0, NVIDIA GeForce RTX 4090, 24564, 23300, 580.159.04, 8.9"
MIB = 2**20


@pytest.fixture(scope="session")
def tried() -> dict[str, Probe]:
    """What this environment really says, asked once: it is the slow part of a check."""
    return report.run_probes(report.PROBES)


@pytest.fixture
def quick(tried, monkeypatch) -> dict[str, Probe]:
    """A check in this process with those answers; a test may put others in their place."""
    answers = dict(tried)
    run_probes = report.run_probes

    def others(names, watch=None):
        return run_probes(names) if names is report.HUB_PROBES else answers

    monkeypatch.setattr(report, "run_probes", others)
    return answers


@pytest.fixture
def models(tiny, tmp_path, monkeypatch) -> Path:
    """A models folder of the test's own, with a copy of the embedded checkpoint."""
    folder = tmp_path / "models"
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(tiny.folder, folder / "cogvideox-tiny", ignore=ignored)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """Put an nvidia-smi on the PATH that prints some lines; old drivers don't know compute_cap."""

    def install(*lines: str, knows_capability: bool = True, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        old = 'Field "compute_cap" is not a valid field to query.'
        refuse = (
            "" if knows_capability else f"case $* in *compute_cap*) echo '{old}'; exit 2;; esac"
        )
        output = "\n".join(f"echo '{line}'" for line in lines)
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{refuse}\n{output}\nexit {code}\n")
        (folder / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def torch_for(cuda: str, *gpus: machine.Gpu, error: str = "", kernels=("sm_75", "sm_90")) -> Probe:
    """What torch built for CUDA says of itself."""
    listed = [{name: getattr(gpu, name) for name in gpu.__slots__} for gpu in gpus]
    return Probe({"cuda": cuda, "gpus": listed, "kernels": list(kernels), "error": error})


def card(free_gib: float, capability=(9, 0), index: int = 0) -> machine.Gpu:
    total = 80 * 2**30
    bf16 = capability >= (8, 0)
    return machine.Gpu(index, "card", total, int(free_gib * 2**30), capability, bf16)


def plenty_of_ram(monkeypatch) -> None:
    """128 GiB, all free, in no control group."""
    monkeypatch.setattr(probe, "host_ram", lambda: (2**37, 2**37, ""))
    monkeypatch.setattr(probe, "OWN_CGROUP", Path("/no/such/file"))


def big_checkpoint(folder: Path, known=registry.COGVIDEOX_5B) -> None:
    """A checkpoint that is whole by its headers; the weights are holes, so it takes no disk."""
    layers, heads, width, height, across = known.architecture
    config = {"num_layers": layers, "num_attention_heads": heads, "attention_head_dim": width}
    config |= {"sample_height": height, "sample_width": across, "patch_size_t": known.patch_frames}
    texts = {
        "model_index.json": {"_class_name": "CogVideoXPipeline"},
        "transformer/config.json": config,
        "scheduler/scheduler_config.json": {},
        "tokenizer/tokenizer_config.json": {},
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(text))
    for part, count in known.parameters.items():
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        tensor = {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}
        header = json.dumps({"all": tensor}).encode()
        (folder / part).mkdir(exist_ok=True)
        with (folder / part / f"{stem}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + 2 * count)


def rows_of(report: run.Report) -> dict[str, run.Row]:
    return {row.name: row for row in report.rows}


def agreed(capsys, *flags: str) -> tuple[int, dict, str]:
    """(exit code, JSON, text) of the command, which must say the same."""
    code = main(["check", *flags])
    text = capsys.readouterr().out
    assert main(["check", "--json", *flags]) == code
    summary = json.loads(capsys.readouterr().out)
    assert summary["ok"] == (code == 0) == all(row["status"] != "fail" for row in summary["rows"])
    assert text.splitlines()[-1] == summary["verdict"]
    assert summary["verdict"].startswith("ready: " if code == 0 else "not ready: ")
    width = max(len(row["name"]) for row in summary["rows"])
    for row in summary["rows"]:
        start = f"{row['status']}  {row['name']:<{width}}  "
        (line,) = [x for x in text.splitlines() if x[2:].startswith(start)]
        assert row["needed"] in line
        assert (row["fix"] == "") == (row["status"] == "pass")
        assert not row["fix"] or f"fix: {row['fix']}" in text
    return code, summary, text


def complaints(stderr: str) -> list[str]:
    """Lines but those of progress, one each half minute, on a slow machine."""
    return [line for line in stderr.splitlines() if " s  checking " not in line]


@pytest.mark.slow
def test_this_machine(tmp_path):
    done = run_cogvx("check", cwd=tmp_path)
    assert done.returncode == 0
    assert complaints(done.stderr) == []
    assert done.stdout.splitlines()[-1].startswith("ready: cogvideox-tiny can run here")
    assert "\033" not in done.stdout, "no colours unless a terminal shows them"
    for name in ("Python", "torch", "import torch", "RAM", "disk: models", "ffmpeg", "widgets"):
        assert f"✓ pass  {name} " in done.stdout


@pytest.mark.slow
def test_json_has_a_stable_schema(capsys, quick, nvidia, models):
    nvidia(H100)
    code, summary, _ = agreed(capsys, "--deep")
    assert code == 0
    assert set(summary) == {"format", "ok", "verdict", "model", "rows", "gpus"}
    assert (summary["format"], summary["model"]) == (1, "cogvideox-tiny")
    assert all(set(row) == {"name", "status", "found", "needed", "fix"} for row in summary["rows"])
    assert summary["gpus"] == [
        {
            "index": 0,
            "name": "NVIDIA H100 80GB HBM3",
            "total_bytes": 81559 * MIB,
            "free_bytes": 81008 * MIB,
            "capability": "9.0",
            "bf16": True,
            "frames": summary["gpus"][0]["frames"],
        }
    ]
    assert list(summary["gpus"][0]["frames"]) == ["13", "25", "49"]


def test_a_package_is_compared_with_what_pyproject_states():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = {row.name: row for row in environment.package_rows()}
    assert rows["Python"].needed == project["requires-python"]
    assert [f"{row.name}{row.needed}" for row in rows.values()][1:] == project["dependencies"]


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("1.9", "fail"),
        ("1.15", "pass"),
        ("1.15.0rc1", "fail"),
        ("1.100+cu1", "pass"),
        ("?", "fail"),
    ],
)
def test_versions_are_compared_as_versions(tmp_path, monkeypatch, version, status):
    old = tmp_path / "accelerate-0.dist-info"
    old.mkdir()
    (old / "METADATA").write_text(f"Metadata-Version: 2.1\nName: accelerate\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = [row for row in environment.package_rows() if row.name == "accelerate"]
    assert (row.status, row.found) == (status, version)
    assert status == "pass" or 'pip install "accelerate>=1.15"' in row.fix


def test_a_variable_that_names_a_broken_ffmpeg_is_the_remedy(monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nonexistent/ffmpeg")
    with pytest.raises(
        FfmpegError, match=r"/nonexistent/ffmpeg, which IMAGEIO_FFMPEG_EXE"
    ) as broken:
        video.try_ffmpeg()
    row = environment._ffmpeg_row(report.Probe({}, str(broken.value)))
    assert row.fix == "set IMAGEIO_FFMPEG_EXE to an ffmpeg with libx264, or unset it"
    missing = environment._ffmpeg_row(report.Probe({}, "No module named 'imageio_ffmpeg'"))
    assert 'pip install "imageio-ffmpeg' in missing.fix


def test_broken_packages_are_rows(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: no such file')")
    (tmp_path / "psutil.py").write_text("raise RuntimeError('two\\nlines')")
    (tmp_path / "packaging.py").write_text("raise ImportError('damaged')")
    (tmp_path / "imageio_ffmpeg.py").write_text("import os; os._exit(3)")
    (tmp_path / "ipywidgets.py").write_text("import os, signal; os.kill(os.getpid(), 9)")
    too_new = tmp_path / "diffusers-0.99.dist-info"
    too_new.mkdir()
    (too_new / "METADATA").write_text("Metadata-Version: 2.1\nName: diffusers\nVersion: 0.99\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "cogvx_nb", "check", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, complaints(done.stderr)) == (1, [])
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["import torch"]["found"] == "OSError: libcudart.so.13: no such file"
    assert rows["import diffusers"]["fix"] == "fix torch first, which it needs"
    assert "psutil: RuntimeError: two lines" in rows["RAM"]["found"]
    assert "GiB free" in rows["RAM"]["found"], "read without psutil all the same"
    assert "ImportError: damaged" in rows["packaging"]["found"]
    assert rows["diffusers"] | {"fix": ""} == {
        "name": "diffusers",
        "status": "warn",
        "found": "0.99, not compared",
        "needed": ">=0.42,<0.43",
        "fix": "",
    }
    assert rows["ffmpeg"]["found"] == "ended early"
    assert rows["widgets"]["found"] == "ended by signal 9"
    failed = {name for name, row in rows.items() if row["status"] == "fail"}
    assert failed >= {"import torch", "import diffusers", "RAM", "packaging", "ffmpeg"}


def test_an_environment_without_any_package():
    command = [sys.executable, "-S", "-m", "cogvx_nb", "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, complaints(done.stderr)) == (1, [])
    assert re.search("✗ fail  torch +not installed ", done.stdout)
    assert "No module named 'diffusers'" in done.stdout
    assert 'fix: python -m pip install "imageio-ffmpeg' in done.stdout
    assert "10 files whole by size" in done.stdout
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("not ready: cogvideox-tiny can't run here, fix torch, diffusers,")


def test_a_missing_model(capsys, quick, models):
    code, summary, _ = agreed(capsys, "--model", "CogVideoX-5b")
    rows = {row["name"]: row for row in summary["rows"]}
    assert (code, summary["model"], rows["model"]["status"]) == (1, "CogVideoX-5b", "fail")
    assert rows["model"]["fix"] == "cogvx download CogVideoX-5b"
    assert rows["disk: models"]["needed"] == "21.8 GB more for CogVideoX-5b"
    (models / ".incomplete" / "CogVideoX-5b").mkdir(parents=True)
    (models / ".incomplete" / "CogVideoX-5b" / "part").write_bytes(bytes(10**8))
    rows = rows_of(run.run_check("5b"))
    assert rows["disk: models"].needed == "21.7 GB more for CogVideoX-5b"
    assert "cogvx download CogVideoX-5b goes on" in rows["download CogVideoX-5b"].fix
    assert agreed(capsys, "--model", "nothing")[0] == 1


def test_a_corrupt_checkpoint(capsys, quick, models):
    weights = models / "cogvideox-tiny" / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    code, summary, text = agreed(capsys)
    assert code == 1
    assert f"has {len(whole) - 1:,} bytes of {len(whole):,}" in text
    assert summary["verdict"].endswith("fix model")

    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert agreed(capsys)[0] == 0, "sizes don't show a flipped bit"
    code, _, text = agreed(capsys, "--deep")
    assert code == 1
    assert "vae/diffusion_pytorch_model.safetensors has other content" in text

    (models / "cogvideox-tiny" / "cogvx-manifest.json").unlink()
    row = rows_of(run.run_check("tiny"))["model"]
    assert (row.status, "not verified" in row.found) == ("warn", True)
    weights.unlink()
    assert rows_of(run.run_check(str(models / "cogvideox-tiny")))["model"].status == "fail"


def test_another_checkpoint_is_a_warning_unless_asked_for(capsys, quick, models):
    (models / "CogVideoX-5b").mkdir()
    code, summary, _ = agreed(capsys)
    assert code == 0
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows["checkpoint CogVideoX-5b"]["status"] == "warn"
    assert agreed(capsys, "--model", "5b")[0] == 1


def test_a_gpu_that_torch_is_not_built_for(capsys, quick, nvidia):
    nvidia(H100)
    code, summary, text = agreed(capsys)
    assert code == 0, "the embedded model runs on the CPU"
    assert "NVIDIA H100 80GB HBM3, 79.1 of 79.6 GiB free, compute capability 9.0, bf16" in text
    rows = {row["name"]: row for row in summary["rows"]}
    assert rows["torch and driver"]["status"] == "warn"
    assert rows["torch and driver"]["fix"].endswith("https://download.pytorch.org/whl/cu130")
    assert rows_of(run.run_check("5b"))["torch and driver"].status == "fail"


@pytest.mark.parametrize(
    ("cuda", "driver", "status", "words"),
    [
        ("13.0", "580.65.06", "pass", ""),
        ("13.0", "570.124.06", "fail", "driver 580.65.06 or newer, or: python -m pip install"),
        ("13.0", "570.124.06", "fail", "whl/cu126"),
        ("12.6", "525.60.13", "pass", ""),
        ("12.8", "470.182.03", "fail", "a newer driver: no torch>=2.11 is built for this one"),
        ("11.8", "470.182.03", "pass", ""),
    ],
)
def test_the_driver_against_the_build(quick, nvidia, cuda, driver, status, words):
    known = not driver.startswith("470")  # whose nvidia-smi has no compute_cap
    line = f"0, NVIDIA A100, 81559, 81008, {driver}" + ", 8.0" * known
    nvidia(line, knows_capability=known)
    quick["torch"] = torch_for(cuda, card(79))
    row = rows_of(run.run_check("5b"))["torch and driver"]
    assert (row.status, driver in row.found) == (status, True)
    assert words in row.fix


def test_what_keeps_torch_from_a_gpu(quick, nvidia):
    def row():
        return rows_of(run.run_check("5b"))["torch and driver"]

    nvidia(H100, H100.replace("0, ", "1, ", 1))
    quick["torch"] = torch_for("13.0", error="RuntimeError: CUDA error")
    assert "torch sees no GPU: RuntimeError: CUDA error" in row().found
    quick["torch"] = torch_for("13.0", card(79))
    assert (row().status, row().found) == ("warn", "torch sees 1 of 2 GPUs")
    quick["torch"] = torch_for("13.0", card(31, (7, 0)), card(31, (7, 0), 1))
    assert "no kernels for card (compute capability 7.0)" in row().found
    assert "whl/cu126" in row().fix
    nvidia("NVIDIA-SMI has failed because it could not talk to the driver", code=9)
    assert (row().status, "NVIDIA-SMI has failed" in row().found) == ("fail", True)


@pytest.mark.parametrize(
    ("free_gib", "verdict", "how"),
    [
        (79, "fits", "49 frames: fits"),
        (22, "fits with offload", "(text_encoder_offload)"),
        (15.5, "fits with offload", "(group_offload)"),
        (5, "fits with offload", "(group_offload, VAE in tiles)"),
        (2, "does not fit", "49 frames: does not fit"),
    ],
)
def test_frames_by_gpu(monkeypatch, quick, nvidia, free_gib, verdict, how):
    plenty_of_ram(monkeypatch)
    nvidia(H100)
    quick["torch"] = torch_for("13.0", card(free_gib))
    report = run.run_check("auto")
    assert report.gpus[0].frames == dict.fromkeys(("13", "25", "49"), verdict)
    row = rows_of(report)["GPU 0: CogVideoX-5b"]
    assert how in row.found
    assert row.status == ("warn" if verdict == "does not fit" else "pass")
    assert "8, 12 or 18 GB" in row.needed


def test_the_big_model_on_a_big_gpu(capsys, monkeypatch, quick, nvidia, models):
    plenty_of_ram(monkeypatch)
    big_checkpoint(models / "CogVideoX-5b")
    nvidia(H100)
    quick["torch"] = torch_for("13.0", card(79))
    code, summary, text = agreed(capsys)
    assert (code, summary["verdict"]) == (0, "ready: CogVideoX-5b can run here, on a GPU")
    assert "cogvx download CogVideoX-5b, which checks every file" in text
    quick["torch"] = torch_for("13.0", card(2))
    assert agreed(capsys)[1]["model"] == "cogvideox-tiny"
    code, summary, _ = agreed(capsys, "--model", "CogVideoX-5b")
    assert (code, summary["verdict"].endswith("fix plan")) == (1, True)


def test_torch_is_asked_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(
        "print('noise')\n"
        "class version: cuda = '13.0'\n"
        "class cuda:\n"
        "    is_available = staticmethod(lambda: True)\n"
        "    device_count = staticmethod(lambda: 1)\n"
        "    mem_get_info = staticmethod(lambda index: (10, 20))\n"
        "    memory_reserved = staticmethod(lambda index: 0)\n"
        "    get_per_process_memory_fraction = staticmethod(lambda index: 1.0)\n"
        "    get_device_capability = staticmethod(lambda index: (8, 6))\n"
        "    get_device_name = staticmethod(lambda index: 'x')\n"
        "    get_arch_list = staticmethod(lambda: ['sm_80'])\n"
        "def get_num_threads(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (attempt,) = report.run_probes(["torch"]).values()
    gpu = machine.Gpu(0, "x", 20, 10, (8, 6), True)
    seen, _ = environment.probe_without_torch(attempt)
    assert (seen.gpus, seen.threads) == ((gpu,), 3)
    assert (attempt.error, attempt.value["cuda"]) == ("", "13.0")


def test_check_and_planner_see_the_same_machine(quick, tmp_path, monkeypatch):
    (tmp_path / "own").write_text("0::/job\n")
    (tmp_path / "job").mkdir()
    for name, content in (("max", 2 * 2**30), ("current", 0), ("stat", "anon 1")):
        (tmp_path / "job" / f"memory.{name}").write_text(f"{content}\n")
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled" / "list.txt").write_text("blocks of one kind\nof another\n")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(probe, "CGROUP_ROOT", tmp_path)
    for limited in (False, True):
        own = tmp_path / "own" if limited else Path("/no/such/file")
        monkeypatch.setattr(probe, "OWN_CGROUP", own)
        checked, error = environment.probe_without_torch(quick["torch"])
        planned = probe.probe_machine()
        threads = {"threads": 1}  # those of this process are the tests'
        if not limited:  # other processes take and free RAM meanwhile
            threads |= {"ram_free_bytes": planned.ram_free_bytes}
        assert error == ""
        assert dataclasses.replace(checked, **threads) == dataclasses.replace(planned, **threads)
        assert (checked.ram_bytes == checked.ram_free_bytes == 2 * 2**30) == limited
        assert checked.versions["torch"]
        assert checked.compiled == ("blocks of one kind", "of another")


def test_the_plan_is_that_of_a_request_without_options(quick, tiny):
    seen, _ = environment.probe_without_torch(quick["torch"])
    asked = make_request(tiny, "a red circle moving right on a black background")
    plan = planner.plan_request(asked, seen)
    assert rows_of(run.run_check("tiny"))["plan"].found == str(plan)


def test_without_psutil_ram_is_that_of_the_planner_too(monkeypatch, quick, tmp_path):
    total = probe.ram_total_bytes()
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert probe.ram_total_bytes() == total
    row = rows_of(run.run_check("tiny"))["RAM"]
    assert "psutil: " in row.found
    monkeypatch.setattr(probe, "STATUS", tmp_path / "none")
    monkeypatch.setattr(probe, "MEMINFO", tmp_path / "none")
    assert rows_of(run.run_check("tiny"))["RAM"].found.startswith("0.0 of 0.0 GiB free")


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(404)  # an answer all the same
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_hubs_are_asked_only_when_told(capsys, monkeypatch, quick, models):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://user:secret@127.0.0.1:1")
        assert "hub" not in rows_of(run.run_check())
        code, summary, text = agreed(capsys, "--online")
        server.shutdown()
    rows = {row["name"]: row for row in summary["rows"]}
    assert (code, rows["hub huggingface"]["status"]) == (0, "pass")
    assert (rows["hub modelscope"]["status"], "secret" in text) == ("warn", False)
    code, summary, _ = agreed(capsys, "--online", "--model", "5b")
    rows = {row["name"]: row for row in summary["rows"]}
    assert {rows["hub huggingface"]["status"], rows["hub modelscope"]["status"]} == {"fail"}


def test_the_table_escapes_what_it_shows(quick, monkeypatch):
    row = run.Row("<b>", "fail", "<script>", "a & b", "'x'")
    page = report.check_table(run.Report((row,), (), "m", "v", False)).data
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert report.TINTS["fail"] in page
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "markupsafe", None)
        page = report.check_table(run.Report((row,), (), "m", "v", False)).data
        assert page.startswith("<pre>✗ fail  &lt;b&gt;")
        assert "<script>" not in page


def test_a_terminal_gets_lines_that_fit_and_no_colour_unasked():
    rows = [run.Row(f"package {n}", "pass", "1.0", ">=1") for n in range(20)]
    rows += [run.Row("GPU", "warn", "none " * 30, "a card " * 20, "buy one " * 20)]
    shown = run.Report((*rows,), (), "m", "not ready: " + "word " * 30, False)
    for width in (60, 100, 200):
        lines = terminal.terminal_lines(shown, width)
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split())
        assert "package 0 1.0, package 1 1.0" in text
        assert all(part in text for part in ("needs a card", "fix: buy one", "not ready: word"))
        assert "\033" not in text
    coloured = terminal.terminal_lines(shown, 100, colour=True)
    assert "\033[33m!" in "\n".join(coloured)
    assert coloured[-1].startswith("\033[31m")


@pytest.mark.slow
def test_01_under_papermill_and_nbval(tmp_path):
    path = ROOT / "notebooks" / "01_check_env.ipynb"
    # A model that no machine has, so that the verdict doesn't depend on the RAM that is free.
    notebook, copy = execute(tmp_path, "-r", "model", "CogVideoX-6b", path=path)
    (marked,) = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert "not ready: CogVideoX-6b" in marked.outputs[0].text
    tables = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert report.TINTS["fail"] in tables[0]
    done = nbval(copy)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_folder_that_shares_components_is_whole_without_them():
    folder = ROOT / "models" / "cogvideox-tiny-i2v"
    row = run._folder_row("checkpoint", folder, False, "fail")
    found = "2 files whole by size, the others are cogvideox-tiny's"
    assert (row.status, row.found) == ("pass", found)
