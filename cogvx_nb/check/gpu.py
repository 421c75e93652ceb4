"""GPUs and their driver by nvidia-smi, and what fits each GPU by the planner. Loads no torch."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace

from ..checkpoints import registry
from ..checkpoints.registry import Checkpoint
from ..errors import DoesNotFit
from ..planning import planner
from ..planning.machine import Gpu, Machine
from ..planning.probe import run_nvidia_smi
from ..text import GIB, error_line
from .environment import INSTALL, requirement
from .report import FITS, OFFLOAD, PASS, TOO_SMALL, WARN, Probe, Row, format_capability

MIB = 2**20

REFERENCE = "8, 12 or 18 GB for 13, 25 or 49 frames (an estimate)"

MINIMUM_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""Oldest Linux driver that runs builds of each CUDA major version. Source: NVIDIA's CUDA
compatibility, docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, and the
release notes of the toolkits."""

BUILDS = {12: "cu126", 13: "cu130"}
"""Folder of download.pytorch.org/whl with torch for each CUDA major version. The required torch is
no longer built for CUDA 11."""

FIELDS = ("index", "name", "memory.total", "memory.free", "driver_version", "compute_cap")
"""Queried fields of nvidia-smi. Old drivers, such as 470, don't know the last one."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver, by nvidia-smi."""

    version: str  # empty if nvidia-smi failed
    gpus: tuple[Gpu, ...]  # all GPUs, also those that torch can't use
    error: str = ""  # why nvidia-smi failed


def nvidia_smi() -> Driver | None:
    """Query the driver; None if no NVIDIA driver is installed."""
    error = ""
    for fields in (FIELDS, FIELDS[:-1]):
        query = f"--query-gpu={','.join(fields)}"
        try:
            done = run_nvidia_smi(query, "--format=csv,noheader,nounits")
        except (OSError, subprocess.TimeoutExpired) as failure:
            return Driver("", (), error_line(failure))
        if done is None:
            return None
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        if done.returncode == 0:
            pairs = [pair for line in lines if (pair := _parse_gpu(line, len(fields)))]
            version = pairs[0][1] if pairs else ""
            return Driver(version, tuple(gpu for gpu, _ in pairs), "" if pairs else "no GPU listed")
        error = error or (lines or done.stderr.decode(errors="replace").splitlines() or [""])[0]
    return Driver("", (), error[:300] or f"nvidia-smi ended with code {done.returncode}")


def _parse_gpu(line: str, fields: int) -> tuple[Gpu, str] | None:
    """GPU and driver version of a line of nvidia-smi's CSV; None if it is another kind of line."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != fields or not values[0].isdigit():
        return None
    # Some cards report [N/A] instead of a number.
    total, free = (int(v) * MIB if v.isdigit() else 0 for v in values[2:4])
    major, _, minor = (values[5] if fields == len(FIELDS) else "").partition(".")
    able = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return Gpu(int(values[0]), values[1], total, free, able, able >= (8, 0)), values[4]


def driver_row(torch: Probe, driver: Driver | None, bad: str) -> Row:
    """Whether torch's build runs on the driver.

    Args:
        bad: status of problems that keep a GPU from being used.
    """
    name, build = "torch and driver", torch.value.get("cuda")
    has = f"torch for CUDA {build}" if build else "torch without CUDA"
    has = "torch doesn't load" if torch.error else has
    if driver is None and torch.error:
        return Row(name, WARN, f"{has}, no NVIDIA driver", "", "fix torch first")
    if driver is None:
        seen = len(torch.value.get("gpus", ()))
        return Row(name, PASS, f"{has}, {f'{seen} GPU' if seen else 'no NVIDIA driver'}")
    if driver.error:
        fix = "restart after a driver update, or install NVIDIA's driver again; then nvidia-smi"
        return Row(name, bad, f"{has}; nvidia-smi: {driver.error}", "a driver that answers", fix)
    has = f"{has}, driver {driver.version}"
    if not build:
        return Row(name, bad, has, "torch built for CUDA, to use the GPU", _torch_build(driver))
    least = MINIMUM_DRIVER.get(int(build.split(".")[0]), "")
    if _parse_numbers(driver.version) < _parse_numbers(least):
        fix = f"install NVIDIA's driver {least} or newer, or: {_torch_build(driver)}"
        return Row(name, bad, has, f"driver {least} or newer for this build", fix)
    needed = f"driver {least} or newer" if least else ""
    return _visible_gpus(torch, driver, bad) or Row(name, PASS, has, needed)


def _visible_gpus(torch: Probe, driver: Driver, bad: str) -> Row | None:
    """The row if torch doesn't see or can't use all GPUs although build and driver match."""
    name, seen, listed = "torch and driver", len(torch.value["gpus"]), len(driver.gpus)
    needed = f"{listed} GPU{'s' * (listed > 1)}"
    if not seen:
        reason = f": {torch.value['error']}" if torch.value["error"] else ""
        fix = "unset CUDA_VISIBLE_DEVICES if it hides them; restart after a driver update"
        return Row(name, bad, f"torch sees no GPU{reason}", needed, fix)
    if old := _missing_kernels(torch):
        fix = f"a build that still has them: {_torch_build(driver, 12)}"
        return Row(name, bad, f"torch has no kernels for {old}", "kernels for every GPU", fix)
    if seen < listed:
        fix = "unset CUDA_VISIBLE_DEVICES to use all of them"
        return Row(name, WARN, f"torch sees {seen} of {listed} GPUs", needed, fix)
    return None


def _torch_build(driver: Driver, newest: int = max(BUILDS)) -> str:
    """The command that installs torch for a driver."""
    able = [
        major
        for major in BUILDS
        if _parse_numbers(driver.version) >= _parse_numbers(MINIMUM_DRIVER[major])
    ]
    able = [major for major in able if major <= newest]
    if not able:
        return f"a newer driver: no {requirement('torch')} is built for this one"
    url = f"https://download.pytorch.org/whl/{BUILDS[max(able)]}"
    return f'{INSTALL} --force-reinstall "{requirement("torch")}" --index-url {url}'


def _missing_kernels(torch: Probe) -> str:
    """Name of a GPU that is older than every architecture in torch's build; empty if none is."""
    built = [k.removeprefix("sm_").rstrip("af") for k in torch.value["kernels"] if k[:3] == "sm_"]
    oldest = min((int(k) for k in built if k.isdigit()), default=0)
    for gpu in torch.value["gpus"]:
        major, minor = gpu["capability"]
        if 10 * major + minor < oldest:
            return f"{gpu['name']} (compute capability {major}.{minor})"
    return ""


def _gpu_row(gpu: Gpu) -> Row:
    """Name, memory and precision of a GPU."""
    able, precision = format_capability(gpu), "bf16" if gpu.bf16 else "no bf16, so float16"
    known = f"compute capability {able}, {precision}" if able else "compute capability unknown"
    memory = f"{gpu.free_bytes / GIB:.1f} of {gpu.total_bytes / GIB:.1f} GiB free"
    needed = "compute capability 8.0 or newer for bf16, what the 5B was trained in"
    if gpu.bf16:
        return Row(f"GPU {gpu.index}", PASS, f"{gpu.name}, {memory}, {known}")
    fix = "float16 is used instead, and the frames are checked; a newer GPU has bf16"
    return Row(f"GPU {gpu.index}", WARN, f"{gpu.name}, {memory}, {known}", needed, fix)


def gpu_rows(gpus: tuple[Gpu, ...], machine: Machine, subject: Checkpoint | None) -> list[Row]:
    """Each GPU and what fits it; without one, what runs on the CPU."""
    if not gpus:
        return [_cpu_row(machine)]
    rows = []
    for gpu in gpus:
        rows.append(_gpu_row(gpu))
        frames, summary = fitting_frames(gpu, machine, subject)
        if frames:
            status = PASS if all(verdict != TOO_SMALL for verdict in frames.values()) else WARN
            fix = "close what holds its memory, ask for fewer frames, or take a larger GPU"
            name = f"GPU {gpu.index}: {subject.name}"
            rows.append(Row(name, status, summary, REFERENCE, fix if status == WARN else ""))
    return rows


def _cpu_row(machine: Machine) -> Row:
    big = registry.COGVIDEOX_5B
    try:
        fitted = planner.predict_plan(big, replace(machine, gpus=()), big.frames[0])
        large = f"{big.name} too, in {fitted.peak_bytes / GIB:.0f} GiB of RAM, for hours"
    except DoesNotFit:
        large = f"{big.name} needs more RAM than there is"
    state = f"none: on the CPU {registry.TINY.name} runs in seconds; {large}"
    fix = f"for {big.name}, a machine with an NVIDIA GPU"
    return Row("GPU", WARN, state, REFERENCE, fix)


def fitting_frames(
    gpu: Gpu, machine: Machine, subject: Checkpoint | None
) -> tuple[dict[str, str], str]:
    """Verdict by number of frames, and the same in a line, for one GPU."""
    if subject is None:
        return {}, ""
    verdicts, summaries = {}, []
    for frames in subject.frames:
        try:
            fitted = planner.predict_plan(subject, replace(machine, gpus=(gpu,)), frames)
        except DoesNotFit:
            verdicts[str(frames)], how = TOO_SMALL, ""
        else:
            whole = not (fitted.offload.offloads or fitted.tiled)
            verdicts[str(frames)] = FITS if whole else OFFLOAD
            tiles = ", VAE in tiles" if fitted.tiled else ""
            how = "" if whole else f" ({fitted.placement}{tiles})"
        summaries.append(f"{frames} frames: {verdicts[str(frames)]}{how}")
    return verdicts, "; ".join(summaries)


def _parse_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
