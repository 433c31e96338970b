"""`dstat` beside people who follow logs, through a private dorad.

    python -m bench.followers [--followers 500] [--runs 100] [--json]

Submits one workload that nobody can start, opens so many connections that follow its
log, and runs `dstat` as a process, in turns with the same beside nobody. The followers
wait for a log that does not begin. Exit status 1 when 99 of 100 took longer than the
target, or a follower was not let in.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.dorad_process import BenchError, private_dorad, read_answer, submission
from bench.submit import OPTIONS

P99_MS_MAX = 200.0
_NAME = "quiet"
_FOLLOW = f"GET /v1/workloads/{_NAME}/log?follow=1 HTTP/1.1\r\nHost: d\r\n\r\n".encode()
_SETTLE_SECONDS = 2.0


def submit_quiet(path: Path) -> None:
    """A workload that waits: the zone has no nodes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(submission({**OPTIONS, "name": _NAME}))
        status, body = read_answer(connection)
    if status != 201:
        raise BenchError(f"dorad answers {status}: {body.decode()}")


def follow(path: Path, count: int, stack: ExitStack) -> list[socket.socket]:
    """So many connections that follow the log, until the stack is closed."""
    made = []
    for _ in range(count):
        one = stack.enter_context(socket.socket(socket.AF_UNIX))
        one.connect(str(path))
        one.sendall(_FOLLOW)
        made.append(one)
    return made


def refused(followers: list[socket.socket]) -> int:
    """How many were answered, which a follower of a quiet log is not."""
    count = 0
    for one in followers:
        one.setblocking(False)
        try:
            count += bool(one.recv(1, socket.MSG_PEEK)) or 1
        except BlockingIOError:
            continue
    return count


def dstat_seconds(path: Path, runs: int) -> list[float]:
    """The seconds of whole `dstat` processes, shortest first."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(
            [Path(sys.executable).parent / "dstat"],
            env={"DORABATCH_SOCKET": str(path)},
            capture_output=True,
            check=True,
        )
        took.append(time.perf_counter() - began)
    return sorted(took)


def measure(count: int, runs: int) -> dict[str, float]:
    """Milliseconds of `dstat`, beside nobody and beside the followers."""
    settings = {"api": {"streams_per_user": count, "connections_per_user": count + 16}}
    with private_dorad(settings) as dorad, ExitStack() as stack:
        submit_quiet(dorad.socket)
        alone = dstat_seconds(dorad.socket, runs)
        followers = follow(dorad.socket, count, stack)
        time.sleep(_SETTLE_SECONDS)
        beside = dstat_seconds(dorad.socket, runs)
        gone = refused(followers)
        threads = len(list(Path(f"/proc/{dorad.pid}/task").iterdir()))
    if gone:
        raise BenchError(f"{gone} of {count} followers were not let in")
    return {
        "followers": count,
        "runs": runs,
        "threads": threads,
        "alone_median_ms": _milliseconds(alone, 0.5),
        "alone_p99_ms": _milliseconds(alone, 0.99),
        "beside_median_ms": _milliseconds(beside, 0.5),
        "beside_p99_ms": _milliseconds(beside, 0.99),
    }


def _milliseconds(took: list[float], share: float) -> float:
    return round(took[int((len(took) - 1) * share)] * 1000, 2)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.followers, options.runs)
    found["p99_ms_max"] = P99_MS_MAX
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0 if found["beside_p99_ms"] <= P99_MS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
