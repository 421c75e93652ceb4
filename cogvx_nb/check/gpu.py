"""GPUs and their driver, asked without torch, and what the planner says fits each of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace

from ..checkpoints import registry
from ..checkpoints.registry import Checkpoint
from ..errors import DoesNotFit
from ..planning import machine, planner
from ..planning.machine import Gpu, Machine
from ..text import GIB, error_line
from .environment import INSTALL, requirement
from .probes import Probe
from .report import FITS, OFFLOAD, PASS, TOO_SMALL, WARN, Row, format_capability

MIB = 2**20

REFERENCE = "8 / 12 / 18 GB for 13 / 25 / 49 frames by the guide this began with (not measured)"

MINIMUM_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""Oldest Linux driver for builds of each CUDA major version. Source: NVIDIA's CUDA compatibility,
docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, and the toolkits'
release notes."""

BUILDS = {12: "cu126", 13: "cu130"}
"""Folder of download.pytorch.org/whl with torch for each CUDA major version. The torch that is
needed here is no longer built for CUDA 11."""

FIELDS = ("index", "name", "memory.total", "memory.free", "driver_version", "compute_cap")
"""What nvidia-smi is asked for. Drivers such as 470 don't know the last one."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What nvidia-smi says.

    Attributes:
        version: of the driver; empty where nvidia-smi failed.
        gpus: all GPUs, also those that torch can't use.
        error: why nvidia-smi failed.
    """

    version: str
    gpus: tuple[Gpu, ...]
    error: str = ""


def nvidia_smi() -> Driver | None:
    """Ask the driver; None where no NVIDIA driver is installed."""
    error = ""
    for fields in (FIELDS, FIELDS[:-1]):
        query = f"--query-gpu={','.join(fields)}"
        try:
            done = machine.run_nvidia_smi(query, "--format=csv,noheader,nounits")
        except (OSError, subprocess.TimeoutExpired) as failure:
            return Driver("", (), error_line(failure))
        if done is None:
            return None
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        if done.returncode == 0:
            found = [gpu for line in lines if (gpu := _parse_gpu(line, len(fields)))]
            version = found[0][1] if found else ""
            return Driver(version, tuple(gpu for gpu, _ in found), "" if found else "no GPU listed")
        error = error or (lines or done.stderr.decode(errors="replace").splitlines() or [""])[0]
    return Driver("", (), error[:300] or f"nvidia-smi ended with code {done.returncode}")


def _parse_gpu(line: str, fields: int) -> tuple[Gpu, str] | None:
    """(GPU, driver version) of a line of nvidia-smi's CSV; None if it is something else."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != fields or not values[0].isdigit():
        return None
    # A card can say [N/A] instead of a number.
    total, free = (int(v) * MIB if v.isdigit() else 0 for v in values[2:4])
    major, _, minor = (values[5] if fields == len(FIELDS) else "").partition(".")
    able = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return Gpu(int(values[0]), values[1], total, free, able, able >= (8, 0)), values[4]


def driver_row(torch: Probe, driver: Driver | None, bad: str) -> Row:
    """torch's build against the driver.

    Args:
        bad: status of what keeps a GPU from being used.
    """
    name, build = "torch and driver", torch.value.get("cuda")
    has = f"torch for CUDA {build}" if build else "torch without CUDA"
    has = "torch doesn't load" if torch.error else has
    if driver is None and torch.error:
        return Row(name, WARN, f"{has}, no NVIDIA driver", "", "mend torch first")
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
    """A row where torch doesn't see or can't use all GPUs although build and driver match."""
    name, seen, listed = "torch and driver", len(torch.value["gpus"]), len(driver.gpus)
    needed = f"{listed} GPU{'s' * (listed > 1)}"
    if not seen:
        said = f": {torch.value['error']}" if torch.value["error"] else ""
        fix = "unset CUDA_VISIBLE_DEVICES if it hides them; restart after a driver update"
        return Row(name, bad, f"torch sees no GPU{said}", needed, fix)
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
    """Name of a GPU that is older than every architecture that torch was built for."""
    built = [k.removeprefix("sm_").rstrip("af") for k in torch.value["kernels"] if k[:3] == "sm_"]
    oldest = min((int(k) for k in built if k.isdigit()), default=0)
    for gpu in torch.value["gpus"]:
        major, minor = gpu["capability"]
        if 10 * major + minor < oldest:
            return f"{gpu['name']} (compute capability {major}.{minor})"
    return ""


def _gpu_row(gpu: Gpu) -> Row:
    """What a GPU is."""
    able, precision = format_capability(gpu), "bf16" if gpu.bf16 else "no bf16, so float16"
    known = f"compute capability {able}, {precision}" if able else "compute capability unknown"
    memory = f"{gpu.free_bytes / GIB:.1f} of {gpu.total_bytes / GIB:.1f} GiB free"
    needed = "compute capability 8.0 or newer for bf16, what the 5B was trained in"
    if gpu.bf16:
        return Row(f"GPU {gpu.index}", PASS, f"{gpu.name}, {memory}, {known}")
    fix = "float16 is taken instead, and the frames are checked; a newer GPU has bf16"
    return Row(f"GPU {gpu.index}", WARN, f"{gpu.name}, {memory}, {known}", needed, fix)


def gpu_rows(gpus: tuple[Gpu, ...], here: Machine, subject: Checkpoint | None) -> list[Row]:
    """What each GPU is and what fits it; what runs without one."""
    if not gpus:
        return [_cpu_row(here)]
    made = []
    for gpu in gpus:
        made.append(_gpu_row(gpu))
        frames, said = fitting_frames(gpu, here, subject)
        if frames:
            status = PASS if all(verdict != TOO_SMALL for verdict in frames.values()) else WARN
            fix = "close what holds its memory, ask for fewer frames, or take a larger GPU"
            name = f"GPU {gpu.index}: {subject.name}"
            made.append(Row(name, status, said, REFERENCE, fix if status == WARN else ""))
    return made


def _cpu_row(here: Machine) -> Row:
    big = registry.COGVIDEOX_5B
    try:
        fitted = planner.predict_plan(big, replace(here, gpus=()), big.frames[0])
        slowly = f"{big.name} too, in {fitted.peak_bytes / GIB:.0f} GiB of RAM, for hours"
    except DoesNotFit:
        slowly = f"{big.name} not, for lack of RAM"
    found = f"none: on the CPU {registry.TINY.name} runs in seconds; {slowly}"
    fix = f"for {big.name}, a machine with an NVIDIA GPU"
    return Row("GPU", WARN, found, REFERENCE, fix)


def fitting_frames(
    gpu: Gpu, here: Machine, subject: Checkpoint | None
) -> tuple[dict[str, str], str]:
    """(verdict by number of frames, the same in a line) for one GPU on its own."""
    if subject is None or subject.cannot_run:
        return {}, ""
    verdicts, said = {}, []
    for frames in subject.frames:
        try:
            fitted = planner.predict_plan(subject, replace(here, gpus=(gpu,)), frames)
        except DoesNotFit:
            verdicts[str(frames)], how = TOO_SMALL, ""
        else:
            whole = fitted.placement == "resident" and not fitted.tiled
            verdicts[str(frames)] = FITS if whole else OFFLOAD
            tiles = ", VAE in tiles" if fitted.tiled else ""
            how = "" if whole else f" ({fitted.placement}{tiles})"
        said.append(f"{frames} frames: {verdicts[str(frames)]}{how}")
    return verdicts, "; ".join(said)


def _parse_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
