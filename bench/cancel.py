"""Submissions of others while one user cancels many, through a private dorad.

    python -m bench.cancel [--count 1000] [--queue 2000] [--json]

Fills the queue, cancels `count` of it with one request, and all the while submits one
workload after the other on a kept connection. The zone has no nodes. Exit status 1 when
a submission took longer than the target for 99 of 100, or one is not on record.
"""

import argparse
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.dorad_process import (
    BenchError,
    get_json,
    private_dorad,
    read_answer,
    submission,
)
from bench.submit import OPTIONS, fill

P99_MS_MAX = 100.0
_CLIENTS = 4


def cancel(path: Path, refs: list[str]) -> float:
    """Cancel these with one request; the seconds it took."""
    body = json.dumps({"refs": refs}).encode()
    head = f"POST /v1/cancel HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(head.encode() + body)
        status, answer = read_answer(connection)
    seconds = time.perf_counter() - began
    found = json.loads(answer)
    if status != 200 or found["cancelled"] != len(refs):
        raise BenchError(
            f"{len(refs)} to cancel: dorad answers {status} {found!s:.200}"
        )
    return seconds


def submit_while(
    path: Path, others: ThreadPoolExecutor, refs: list[str]
) -> tuple[float, list[float]]:
    """(seconds of the cancel, seconds of each submission meanwhile)."""
    request, took = submission(OPTIONS), []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        cancelling = others.submit(cancel, path, refs)
        while not cancelling.done():
            began = time.perf_counter()
            connection.sendall(request)
            read_answer(connection)
            took.append(time.perf_counter() - began)
    return cancelling.result(), sorted(took)


def measure(count: int, queue: int) -> dict[str, float]:
    """Seconds of the cancel, and what a submission took meanwhile."""
    with private_dorad() as dorad, ThreadPoolExecutor(1) as others:
        fill(dorad.socket, queue, _CLIENTS)
        rows = get_json(dorad.socket, "/v1/workloads?render=json&limit=1000000")
        refs = [str(row["id"]) for row in rows][:count]
        seconds, took = submit_while(dorad.socket, others, refs)
        left = get_json(dorad.socket, "/v1/status")["live_workloads"]
    expected = len(rows) - len(refs) + len(took)
    if left != expected:
        raise BenchError(f"{left} workloads are live, and {expected} should be")
    return {
        "cancelled": len(refs),
        "queue": len(rows),
        "seconds": round(seconds, 3),
        "submitted_meanwhile": len(took),
        "median_ms": round(took[len(took) // 2] * 1000, 2),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
        "worst_ms": round(took[-1] * 1000, 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--queue", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.count, options.queue)
    found["p99_ms_max"] = P99_MS_MAX
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0 if found["p99_ms"] <= P99_MS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
