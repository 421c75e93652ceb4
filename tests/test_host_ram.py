"""RAM that a process may fill, in a container and out of one."""

from __future__ import annotations

import mmap
from pathlib import Path

import psutil
import pytest
import torch

from cogvx_nb.pipeline import failures
from cogvx_nb.planning import probe

GIB = 2**30


def test_this_machine():
    total, free = probe.ram_total_bytes(), probe.ram_free_bytes()
    assert 0 < free <= total <= psutil.virtual_memory().total


def test_own_memory_is_free_and_mapped_files_are_not(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(bytes(100 * 2**20))
    before = probe.ram_own_bytes()
    mapped = torch.from_file(str(path), shared=False, size=100 * 2**20, dtype=torch.uint8)
    assert mapped.sum() == 0
    assert probe.ram_own_bytes() - before < 20 * 2**20
    # Of the system, for the C library could give out what it kept of memory that was freed.
    with mmap.mmap(-1, 100 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(b"1" * len(held))
        assert probe.ram_own_bytes() - before > 90 * 2**20


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes a control group's files and says that this process is in it."""
    monkeypatch.setattr(probe, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(probe, "OWN_CGROUP", tmp_path / "own")

    def write(own: str, folder: str, **files: str) -> None:
        (tmp_path / "own").write_text(own)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            Path(tmp_path / folder / name.replace("__", ".")).write_text(text)

    return write


def test_a_container_has_its_limit(groups):
    stat = f"anon 5\ninactive_file {GIB // 4}\n"
    used = {"memory__max": f"{2 * GIB}\n", "memory__current": f"{GIB}\n", "memory__stat": stat}
    groups("0::/\n", "", **used)
    assert probe.ram_total_bytes() == 2 * GIB
    free = min(int(1.25 * GIB) + probe.ram_own_bytes(), 2 * GIB)
    assert abs(probe.ram_free_bytes() - free) < 2**24, "but for what this process took meanwhile"


def test_a_job_has_the_limit_of_a_group_above_it(groups):
    groups("0::/slurm/job_1/step_0\n", "slurm/job_1/step_0", memory__max="max\n")
    used = {"memory__max": f"{3 * GIB}\n", "memory__current": "0\n", "memory__stat": "anon 1\n"}
    groups("0::/slurm/job_1/step_0\n", "slurm/job_1", **used)
    assert probe.ram_total_bytes() == 3 * GIB


def test_the_older_kind_of_group(groups):
    used = {
        "memory__limit_in_bytes": f"{2 * GIB}\n",
        "memory__usage_in_bytes": f"{GIB}\n",
        "memory__stat": f"total_inactive_file {GIB}\n",
    }
    groups("5:memory:/docker/abc\n1:name=systemd:/x\n0::/\n", "memory", **used)
    assert probe.ram_free_bytes() == 2 * GIB


def test_without_groups_it_is_the_machine(groups):
    groups("", "empty")
    assert probe.ram_total_bytes() == psutil.virtual_memory().total


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_runs_out_in_other_places_too(text):
    assert failures.is_out_of_memory(RuntimeError(text))
    assert not failures.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not failures.is_out_of_memory(ValueError(text))


def test_a_group_that_would_be_slowed_down_has_that_limit(groups):
    used = {"memory__current": f"{GIB}\n", "memory__stat": "anon 1\n"}
    groups("0::/\n", "", memory__max=f"{4 * GIB}\n", memory__high=f"{2 * GIB}\n", **used)
    assert probe.ram_total_bytes() == 2 * GIB


def test_a_process_has_its_own_limit(groups):
    import resource

    groups("", "empty")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**50, before[1]))
    try:
        ((limit, used),) = probe.process_limits()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert limit == 2**50
    assert 0 < used < limit
    assert probe.ram_total_bytes([(GIB, 0)]) == GIB
    assert probe.ram_free_bytes([(GIB, GIB // 2)]) <= GIB // 2 + probe.ram_own_bytes()
