"""Looks at this machine: GPUs, free memory (of its container or job too), versions, compiler."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

from .. import settings
from ..errors import SettingsError
from ..imports import importing
from ..text import error_line
from .machine import Gpu, Machine

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "imageio-ffmpeg",
    "torchao",
    "flash-attn-4",
    "sageattention",
)


def probe_machine() -> Machine:
    """Describe this machine. Loads torch."""
    settings.prepare_torch()
    with importing:
        import torch

    return describe_machine(cuda_gpus(torch), torch.get_num_threads())


def describe_machine(gpus: tuple[Gpu, ...], threads: int, limits: Limits | None = None) -> Machine:
    """This machine, with the GPUs and the CPU threads that torch reports. Loads no torch.

    Args:
        limits: those of the process that would generate, as ``process_limits`` returns them; by
            default of this one.
    """
    limits = process_limits() if limits is None else limits
    return Machine(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=usable_cores(),
        threads=threads,
        ram_bytes=ram_total_bytes(limits),
        ram_free_bytes=ram_free_bytes(limits),
        gpus=gpus,
        versions={name: installed_version(name) for name in PACKAGES},
        compiled=_compiled_keys(),
        compiler=_has_compiler(),
    )


def cuda_gpus(torch) -> tuple[Gpu, ...]:
    """GPUs that torch sees, with the memory that it could allocate."""
    if not torch.cuda.is_available():
        return ()
    gpus = []
    for index in range(torch.cuda.device_count()):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        # What this process holds counts as free, since a loaded model makes room for the next;
        # otherwise a warm kernel would plan its second video smaller than its first.
        free_bytes += torch.cuda.memory_reserved(index)
        share = torch.cuda.get_per_process_memory_fraction(index)  # 1 by default
        free_bytes = min(free_bytes, int(share * total_bytes))
        capability = torch.cuda.get_device_capability(index)
        name = torch.cuda.get_device_name(index)
        others = [other for other in range(torch.cuda.device_count()) if other != index]
        reaches = tuple(o for o in others if torch.cuda.can_device_access_peer(index, o))
        memory, bf16 = (total_bytes, free_bytes), capability >= (8, 0)
        gpus.append(Gpu(index, name, *memory, capability, bf16, reaches))
    return tuple(gpus)


def run_nvidia_smi(*arguments: str) -> subprocess.CompletedProcess | None:
    """Run the NVIDIA driver's own tool; None where there is none.

    Raises:
        OSError, subprocess.TimeoutExpired: if it can't be run, or hangs.
    """
    if not (program := shutil.which("nvidia-smi")):
        return None
    return subprocess.run([program, *arguments], capture_output=True, timeout=60, check=False)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_compiler() -> bool:
    return importlib.util.find_spec("triton") is not None and settings.c_compiler() is not None


def _compiled_keys() -> tuple[str, ...]:
    try:
        return tuple(settings.compiled_list().read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError, SettingsError):  # none, damaged, or no folder for it
        return ()


def remember_compiled(key: str) -> None:
    """Note that code was compiled, for the next plan; see ``plan.compiled_key``."""
    if key in _compiled_keys():
        return
    path = settings.compiled_list()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{key}\n")


def installed_version(package: str) -> str | None:
    """Version of an installed package by its metadata; None if it isn't installed."""
    try:
        return importlib.metadata.version(package) or "of unknown version"
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


MEMINFO = Path("/proc/meminfo")
STATUS = Path("/proc/self/status")
OWN_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")

LIMITS = {
    "": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "memory": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}
"""By controller, for cgroup version 2 and 1: the files of the limits and of the memory in use, and
the key of reclaimable cache in ``memory.stat`` (docs.kernel.org, cgroup-v2). A process beyond
``memory.high``, as systemd's MemoryHigh sets it, is slowed down until it hardly runs."""

Limits = list[tuple[int, int]]
"""Limits of memory and how much of each is used, in bytes."""


def host_ram() -> tuple[int, int, str]:
    """(bytes in all, bytes free, why psutil failed) of the host, whatever its cgroups allow.

    If psutil is missing or broken they come from ``/proc/meminfo``; 0 where there is none.
    """
    try:
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available, ""
    except Exception as failure:  # a broken package may raise anything
        error = error_line(failure)
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024, error
    except (OSError, ValueError, KeyError, IndexError):
        return 0, 0, error


def ram_total_bytes(limits: Limits | None = None) -> int:
    """RAM of this machine, or the limit of its cgroup or of this process."""
    total, _, _ = host_ram()
    limits = process_limits() if limits is None else limits
    return min([total, *(limit for limit, _ in [*_cgroup_limits(), *limits])])


def ram_free_bytes(limits: Limits | None = None) -> int:
    """RAM that no other process needs.

    What this process holds counts as free, since a loaded model makes room for the next.
    """
    _, free, _ = host_ram()
    limits = process_limits() if limits is None else limits
    free = min([free, *(limit - used for limit, used in [*_cgroup_limits(), *limits])])
    return min(max(free, 0) + ram_own_bytes(), ram_total_bytes(limits))


def process_limits() -> Limits:
    """Limits of this process's address space and data, as ``ulimit -v`` and ``-d`` set them.

    Libraries such as torch take gigabytes of the first, so they must be loaded when it is asked.
    """
    with contextlib.suppress(ImportError, OSError, KeyError, ValueError):  # no Linux
        import resource

        status = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        kinds = ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData"))
        pairs = [
            (resource.getrlimit(kind)[0], int(status[name].split()[0]) * 1024)
            for kind, name in kinds
        ]
        return [(limit, used) for limit, used in pairs if limit != resource.RLIM_INFINITY]
    return []


def ram_own_bytes() -> int:
    """RAM of this process, pinned memory included, mapped files not."""
    try:
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
    except (OSError, KeyError, ValueError):  # no Linux
        with contextlib.suppress(Exception):  # a broken package may raise anything
            import psutil

            return psutil.Process().memory_info().rss
        return 0


def _cgroup_limits() -> Limits:
    """(limit, used) in bytes of each cgroup of this process that has a limit."""
    try:
        entries = [line.split(":", 2)[1:] for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:
        return []
    limits = []
    for controllers, name in entries:
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind not in LIMITS:
            continue
        root = CGROUP_ROOT / kind
        folder = root / name.lstrip("/")
        # In a container the path can be that on the host, while its own cgroup is the root.
        for group in dict.fromkeys([folder, *folder.parents, root]):
            if group.is_relative_to(root):
                limits += _read_cgroup(group, *LIMITS[kind])
    return limits


def _read_cgroup(folder: Path, names: tuple[str, ...], used: str, cache: str) -> Limits:
    limits = []
    for name in names:
        with contextlib.suppress(OSError, ValueError):  # no such cgroup, or its limit is "max"
            limit_bytes = int((folder / name).read_text())
            used_bytes = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            limits.append((limit_bytes, used_bytes - int(stat.get(cache, 0))))
    return limits
