"""Submissions a second through a private dorad, each on disk before its answer.

    python -m bench.submit [--count 8000] [--clients 8] [--json]

Client processes speak HTTP on kept connections, one request at a time each. The zone
has no nodes, so everything stays queued. Exit status 1 below the target.
"""

import argparse
import json
import socket
import sys
import time
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path

from bench.dorad_process import BenchError, private_dorad, read_answer, submission

PER_SECOND_MIN = 1000.0
OPTIONS = {
    "image": "busybox",
    "gpus": 1,
    "gpu_models": ["Tesla V100-SXM2-16GB"],
    "cmd": ["python", "train.py"],
    "time": "1h",
}
_CREATED = 201


def submit_many(
    path: Path, count: int, options: Mapping[str, object] = OPTIONS
) -> list[float]:
    """Submit one after the other; the seconds each took."""
    took = []
    request = submission(options)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(request)
            status, body = read_answer(connection)
            took.append(time.perf_counter() - began)
            if status != _CREATED:
                raise BenchError(f"dorad answers {status}: {body.decode()}")
    return took


def _client(work: tuple[Path, int]) -> list[float]:
    return submit_many(*work)


def fill(path: Path, count: int, clients: int) -> tuple[float, list[float]]:
    """(wall seconds, seconds of each submission) from several processes at once."""
    share = count // clients
    # spawn: a fork would carry this process's threads' locks along.
    with get_context("spawn").Pool(clients) as pool:
        pool.map(_client, [(path, 1)] * clients, chunksize=1)
        began = time.perf_counter()
        found = pool.map(_client, [(path, share)] * clients, chunksize=1)
        seconds = time.perf_counter() - began
    return seconds, [one for part in found for one in part]


def measure(count: int, clients: int) -> dict[str, float]:
    """Rate and latencies; raises BenchError when a submission is not on record."""
    with private_dorad() as dorad:
        seconds, took = fill(dorad.socket, count, clients)
        status = json.loads(dorad.run("dora", "status", "--json"))
    accepted = len(took) + clients
    if status["live_workloads"] != accepted:
        raise BenchError(
            f"{accepted} submissions were answered, {status['live_workloads']} are "
            "on record"
        )
    ordered = sorted(took)
    return {
        "submitted": len(took),
        "clients": clients,
        "seconds": round(seconds, 3),
        "per_second": round(len(took) / seconds, 1),
        "median_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.count, options.clients)
    found["per_second_min"] = PER_SECOND_MIN
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0 if found["per_second"] >= PER_SECOND_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
