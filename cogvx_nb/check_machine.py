"""Memory, disks and hubs, looked at without torch, as rows of a check."""

from __future__ import annotations

import os
import platform
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from . import settings
from .attempts import Attempt
from .check_packages import INSTALL, requirement
from .check_report import FAIL, PASS, WARN, Row
from .planning import machine
from .planning.machine import Gpu, Machine
from .text import one_line

GIB = 2**30

OUTPUT_BYTES = 10**9
"""Free disk wanted for results: twenty videos of 49 frames at 480 × 720 if nothing compressed
them, 51 MB each."""

ONLINE_PATIENCE = 3
"""Seconds that a hub has to answer."""


def look(torch: Attempt) -> tuple[Machine, str]:
    """The machine as the planner sees it, and what kept psutil from reading its RAM.

    Args:
        torch: what torch said of its GPUs. Others can't be used, so a plan must not count on them.
    """
    (total, free), error = _ram()
    gpus = (Gpu(**g | {"capability": tuple(g["capability"])}) for g in torch.value.get("gpus", ()))
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    cores = machine.cores()
    return Machine(system, cores, cores, total, free, tuple(gpus), {}), error


def ram_row(here: Machine, error: str, needed_bytes: int, needed: str) -> Row:
    """RAM against what a model's weights take on their way to the device."""
    found = f"{here.ram_free_bytes / GIB:.1f} of {here.ram_bytes / GIB:.1f} GiB free"
    if error:
        force = "" if "No module named" in error else "--force-reinstall "
        fix = f'{INSTALL} {force}"{requirement("psutil")}"'
        return Row("RAM", FAIL, f"{found}, but psutil: {error}", "psutil, to read it", fix)
    if here.ram_free_bytes < needed_bytes:
        return Row("RAM", FAIL, found, needed, "close other programs, or take a larger machine")
    return Row("RAM", PASS, found, needed)


def _ram() -> tuple[tuple[int, int], str]:
    """((bytes in all, bytes free), why psutil couldn't say so)."""
    try:
        import psutil

        memory = psutil.virtual_memory()
        return (memory.total, memory.available), ""
    except Exception as failure:  # a broken package may raise anything
        error = one_line(failure)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        return (kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024), error
    except (OSError, ValueError, KeyError, IndexError):
        return (0, 0), error


def disk_row(name: str, folder: Path, needed_bytes: int, needed: str, bad: str) -> Row:
    """Room where a folder is or would be."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free at {folder}"
    if not os.access(place, os.W_OK):
        return Row(
            name,
            bad,
            f"{place} can't be written",
            needed,
            "change its permissions, or move it (COGVX_HOME)",
        )
    if free < needed_bytes:
        return Row(name, bad, found, needed, "make room, or move the folder (COGVX_HOME)")
    return Row(name, PASS, found, needed)


def hub_rows() -> list[Row]:
    """Whether each hub, or the mirror that is set for it, answers."""
    addresses = {name: settings.endpoint(name) for name in ("modelscope", "huggingface")}
    said: dict[str, str] = {}
    # Daemons: looking up a host name has no time limit of its own.
    threads = [
        threading.Thread(target=lambda n=n, a=a: said.update({n: _ask(a)}), daemon=True)
        for n, a in addresses.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(ONLINE_PATIENCE + 1)
    rows = []
    for name, address in addresses.items():
        parts = urlsplit(address)
        host = f"{parts.scheme}://{parts.hostname}"  # an address may carry a password
        error = said.get(name, f"no answer in {ONLINE_PATIENCE} s")
        fix = "check the network, the proxy (HTTPS_PROXY) or the mirror (HF_ENDPOINT)"
        if error:
            rows.append(Row(f"hub {name}", WARN, f"{host}: {error}", "an answer", fix))
        else:
            rows.append(Row(f"hub {name}", PASS, f"{host} answers"))
    return rows


def _ask(address: str) -> str:
    """Why an address doesn't answer; empty if it does."""
    if urlsplit(address).scheme not in ("http", "https"):
        return "not an http or https address"
    try:
        asked = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "cogvx"})
        urllib.request.urlopen(asked, timeout=ONLINE_PATIENCE).close()
    except urllib.error.HTTPError as error:
        return f"answers {error.code}" if error.code >= 500 else ""  # 4xx is an answer too
    except urllib.error.URLError as error:
        return str(error.reason)[:200]
    except (OSError, ValueError) as error:
        return one_line(error)
    return ""
