"""RAM of the host that a process may fill: of the machine, and of the container or job it is in."""

from __future__ import annotations

from pathlib import Path

STATUS, OWN, GROUPS = Path("/proc/self/status"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")

LIMITS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files of a control group of version 2 and of the memory controller of version 1: the limit, what
is used, and the key of ``memory.stat`` for what of that is cache (docs.kernel.org, cgroup-v2)."""


def total_bytes() -> int:
    """All of it."""
    import psutil

    return min([psutil.virtual_memory().total, *(limit for limit, _ in _groups())])


def free_bytes() -> int:
    """What nothing else needs. What this process holds counts as free: a model that is loaded makes
    room for the next."""
    import psutil

    free = min([psutil.virtual_memory().available, *(limit - used for limit, used in _groups())])
    return min(max(free, 0) + own_bytes(), total_bytes())


def own_bytes() -> int:
    """What this process holds, pinned memory with it, without the files that it maps."""
    try:
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
    except (OSError, KeyError, ValueError):  # no Linux
        import psutil

        return psutil.Process().memory_info().rss


def _groups() -> list[tuple[int, int]]:
    """(limit, used) of each control group with a limit that this process is in, in bytes."""
    try:
        entries = [line.split(":", 2)[1:] for line in OWN.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for controllers, name in entries:
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind not in LIMITS:
            continue
        root = GROUPS / kind
        folder = root / name.lstrip("/")
        # In a container the name can be that of the host, where its own group is the root.
        for group in dict.fromkeys([folder, *folder.parents, root]):
            if group.is_relative_to(root):
                found += _group(group, *LIMITS[kind])
    return found


def _group(folder: Path, limit: str, used: str, cache: str) -> list[tuple[int, int]]:
    try:
        most = int((folder / limit).read_text())
        now = int((folder / used).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [(most, now - int(stat.get(cache, 0)))]
    except (OSError, ValueError):  # no such group, or no limit: "max"
        return []
