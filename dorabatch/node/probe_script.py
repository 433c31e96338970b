"""Reads the machine it runs on and prints one line of JSON; runs on the node.

Needs a bare Python 3.7 or newer, writes nothing to disk and never imports dorabatch:
gpu_probe ships this file's text, with pynvml's source inside, over SSH.
"""

from __future__ import annotations

import base64
import functools
import importlib
import importlib.abc
import importlib.util
import json
import os
import platform
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any

PYNVML_SOURCE = ""
MIB = 1 << 20


class ShippedModule(importlib.abc.InspectLoader):
    """Loads a module from text that came along."""

    def __init__(self, source: str) -> None:
        self.source = source

    def get_source(self, fullname: str) -> str:
        """The module's text."""
        return self.source


def read_text(path: str) -> str:
    """A file's text, or nothing when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def parse_core_list(text: str) -> set[int]:
    """The core numbers of a kernel list such as 0-3,8."""
    cores: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        cores.update(range(int(first), int(last or first) + 1))
    return cores


def usable_cores() -> list[int]:
    """Cores that a container can be given."""
    cores = set(os.sched_getaffinity(0))
    for path in (
        "/sys/fs/cgroup/cpuset.cpus.effective",
        "/sys/fs/cgroup/cpuset/cpuset.effective_cpus",
    ):
        allowed = parse_core_list(read_text(path))
        if cores & allowed:
            cores &= allowed
    return sorted(cores)


def cpu_model() -> str:
    """The name that the processor gives itself."""
    match = re.search(r"(?m)^model name\s*:\s*(.+)$", read_text("/proc/cpuinfo"))
    return match.group(1).strip() if match else platform.machine()


def memory_mib() -> int:
    """Installed memory, or the limit of the machine's own control group."""
    match = re.search(r"(?m)^MemTotal:\s+(\d+) kB", read_text("/proc/meminfo"))
    total = int(match.group(1)) // 1024 if match else 0
    for path in (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ):
        limit = read_text(path).strip()
        if limit.isdigit() and 0 < int(limit) // MIB < total:
            total = int(limit) // MIB
    return total


def disk_free_mib() -> int | None:
    """Free space where Docker keeps images, or on / when it keeps none yet."""
    for path in ("/var/lib/docker", "/"):
        try:
            room = os.statvfs(path)
        except OSError:
            continue
        return room.f_bavail * room.f_frsize // MIB
    return None


def load_pynvml() -> Any:
    """The pynvml module: the shipped one, else the machine's own, else None."""
    if PYNVML_SOURCE:
        source = zlib.decompress(base64.b64decode(PYNVML_SOURCE)).decode("utf-8")
        loader = ShippedModule(source)
        spec = importlib.util.spec_from_loader("pynvml", loader)
        if spec is None:
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules["pynvml"] = module
        loader.exec_module(module)
        return module
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def plain(value: Any) -> str:
    """Text from NVML, which older versions give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def first_answer(nvml: Any, calls: Iterable[Callable[[], Any]]) -> Any:
    """The answer of the first call that this driver and this GPU support."""
    unsupported = (
        nvml.NVML_ERROR_NOT_SUPPORTED,
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_NO_PERMISSION,
    )
    for call in calls:
        try:
            return call()
        except nvml.NVMLError as error:
            if error.value not in unsupported:
                raise
    return None


def process_pids(nvml: Any, handle: Any) -> list[int]:
    """Processes that use the GPU, for computing or for drawing."""
    pids: set[int] = set()
    for kind in ("Compute", "Graphics"):
        names = [f"nvmlDeviceGet{kind}RunningProcesses{end}" for end in ("", "_v2")]
        calls = [getattr(nvml, name) for name in names if hasattr(nvml, name)]
        found = first_answer(nvml, [functools.partial(call, handle) for call in calls])
        pids.update(int(process.pid) for process in found or ())
    return sorted(pids)


def read_gpu(nvml: Any, index: int) -> dict[str, Any]:
    """One GPU; raises NVMLError when even its name or memory is not to be had."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    rates = first_answer(nvml, [lambda: nvml.nvmlDeviceGetUtilizationRates(handle)])
    minor = first_answer(nvml, [lambda: nvml.nvmlDeviceGetMinorNumber(handle)])
    return {
        "uuid": plain(nvml.nvmlDeviceGetUUID(handle)),
        "model": plain(nvml.nvmlDeviceGetName(handle)),
        "minor": index if minor is None else int(minor),
        "memory_mib": int(memory.total) // MIB,
        "memory_used_mib": int(memory.used) // MIB,
        "utilization_percent": None if rates is None else int(rates.gpu),
        "process_pids": process_pids(nvml, handle),
    }


def read_all_gpus(nvml: Any) -> dict[str, Any]:
    """Every GPU that answers, and a sentence about those that do not."""
    gpus: list[dict[str, Any]] = []
    problems: list[str] = []
    for index in range(int(nvml.nvmlDeviceGetCount())):
        try:
            gpus.append(read_gpu(nvml, index))
        except nvml.NVMLError as error:
            problems.append(f"GPU {index}: {error}")
    version = first_answer(nvml, [nvml.nvmlSystemGetDriverVersion])
    return {
        "gpus": gpus,
        "driver_version": None if version is None else plain(version),
        "probe": "pynvml",
        "gpu_error": "; ".join(problems) or None,
    }


def gpu_part(nvml: Any) -> dict[str, Any]:
    """What NVML says; no NVML library means a node without GPUs."""
    nothing: dict[str, Any] = {
        "gpus": [],
        "driver_version": None,
        "probe": "none",
        "gpu_error": None,
    }
    if nvml is None:
        nothing["gpu_error"] = "pynvml did not come along and is not installed here"
        return nothing
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            nothing["probe"] = "pynvml"
            nothing["gpu_error"] = f"NVML does not start: {error}"
        return nothing
    try:
        return read_all_gpus(nvml)
    except nvml.NVMLError as error:
        nothing["probe"] = "pynvml"
        nothing["gpu_error"] = f"NVML does not answer: {error}"
        return nothing
    finally:
        nvml.nvmlShutdown()


def machine_document() -> dict[str, Any]:
    """Everything about this machine, in the form that facts.parse_probe reads."""
    started = time.time()
    document = gpu_part(load_pynvml())
    document.update(
        hostname=platform.node(),
        boot_id=read_text("/proc/sys/kernel/random/boot_id").strip(),
        cores=usable_cores(),
        cpu_model=cpu_model(),
        memory_mib=memory_mib(),
        disk_free_mib=disk_free_mib(),
        started_at=started,
        printed_at=time.time(),
    )
    return document


def main() -> int:
    """Print the document."""
    sys.stdout.write(json.dumps(machine_document()) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
