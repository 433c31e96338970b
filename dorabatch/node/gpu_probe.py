"""Builds the probe that runs on a node, and runs it on this machine when asked.

`python -m dorabatch.node.gpu_probe` prints this machine's JSON; `--print-script`
prints the script for a bare `python3 -`. Never opens a connection, installs nothing.
"""

import base64
import importlib.util
import json
import sys
import zlib
from functools import cache
from pathlib import Path

from dorabatch.errors import NodeError, invariant
from dorabatch.node import probe_script

_SLOT = 'PYNVML_SOURCE = ""\n'

# Runs where the node has no python3; prints `key=value` lines. One query of
# nvidia-smi per line kind, and the same fields as the Python probe.
SHELL_PROBE = r"""
now() { date +%s.%N; }
echo "started_at=$(now)"
echo "hostname=$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id)"
echo "cores=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
echo "cpu_model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)"
echo "memory_kib=$(sed -n 's/^MemTotal:[[:space:]]*\([0-9]*\) kB/\1/p' /proc/meminfo)"
for place in /var/lib/docker /; do
  free=$(df -Pk $place 2>/dev/null | sed -n '2p') && [ -n "$free" ] && break
done
echo "disk=$free"
if command -v nvidia-smi >/dev/null 2>&1; then
  echo "has_smi=yes"
  fields=uuid,name,index,memory.total,memory.used,utilization.gpu,driver_version
  nvidia-smi --query-gpu=$fields --format=csv,noheader,nounits >/dev/null 2>&1 \
    || echo "gpu_error=$(nvidia-smi 2>&1 | head -n 1)"
  nvidia-smi --query-gpu=$fields --format=csv,noheader,nounits 2>/dev/null \
    | sed -n 's/^GPU-/gpu=GPU-/p'
  nvidia-smi --query-compute-apps=gpu_uuid,pid --format=csv,noheader 2>/dev/null \
    | sed -n 's/^GPU-/process=GPU-/p'
fi
echo "printed_at=$(now)"
"""

# The node's login shell may be anything, so the choice is made inside `sh -c`.
PYTHON_COMMAND = "sh -c 'command -v python3 >/dev/null || exit 127; exec python3 -'"
SHELL_COMMAND = "sh -s"


@cache
def script_text() -> str:
    """Return the self-contained Python probe, pynvml's source included."""
    source = Path(probe_script.__file__).read_text(encoding="utf-8")
    invariant(source.count(_SLOT) == 1, "the probe has one slot for pynvml's source")
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise NodeError(
            "pynvml is not installed beside the daemon, so no node can be probed for "
            "GPUs; install the package nvidia-ml-py"
        )
    packed = zlib.compress(Path(spec.origin).read_bytes(), 9)
    text = base64.b64encode(packed).decode("ascii")
    return source.replace(_SLOT, f'PYNVML_SOURCE = "{text}"\n')


def document_of_shell_probe(text: str) -> str:
    """Turn SHELL_PROBE's lines into the JSON that facts.parse_probe reads."""
    values: dict[str, str] = {}
    gpus: list[dict[str, object]] = []
    pids: dict[str, list[int]] = {}
    driver: str | None = None
    for line in text.splitlines():
        key, _, value = line.partition("=")
        cells = [cell.strip() for cell in value.split(",")]
        if key == "gpu" and len(cells) == 7:
            gpus.append(_gpu_of_cells(cells, pids.setdefault(cells[0], [])))
            driver = cells[6]
        elif key == "process" and len(cells) == 2 and cells[1].isdigit():
            pids.setdefault(cells[0], []).append(int(cells[1]))
        else:
            values[key] = value.strip()
    disk = values.get("disk", "").split()
    return json.dumps(
        {
            "hostname": values.get("hostname"),
            "boot_id": values.get("boot_id"),
            "cores": sorted(probe_script.parse_core_list(values.get("cores", ""))),
            "cpu_model": values.get("cpu_model"),
            "memory_mib": (_number(values.get("memory_kib")) or 0) // 1024,
            "disk_free_mib": int(disk[3]) // 1024 if _is_disk_line(disk) else None,
            "gpus": gpus,
            "driver_version": driver,
            "probe": "nvidia-smi" if "has_smi" in values else "none",
            "gpu_error": values.get("gpu_error"),
            "started_at": _clock(values.get("started_at", "")),
            "printed_at": _clock(values.get("printed_at", "")),
        }
    )


def _gpu_of_cells(cells: list[str], pids: list[int]) -> dict[str, object]:
    return {
        "uuid": cells[0],
        "model": cells[1],
        "minor": _number(cells[2]),
        "memory_mib": _number(cells[3]),
        "memory_used_mib": _number(cells[4]),
        "utilization_percent": _number(cells[5]),
        "process_pids": pids,
    }


def _is_disk_line(words: list[str]) -> bool:
    return len(words) >= 4 and words[3].isdigit()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _clock(text: str) -> float | None:
    """Seconds since the epoch; a `date` without %N knows whole seconds only."""
    seconds, _, fraction = text.partition(".")
    if not seconds.isdigit():
        return None
    return float(text) if fraction.isdigit() else int(seconds) + 0.5


def main(arguments: list[str]) -> int:
    """Print this machine's facts, or the script."""
    if arguments == ["--print-script"]:
        sys.stdout.write(script_text())
        return 0
    if arguments:
        sys.stderr.write(
            f"gpu_probe: unknown argument {arguments[0]!r}; known is --print-script\n"
        )
        return 2
    return probe_script.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
