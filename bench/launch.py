"""Container starts a second: through dorad, and by the Docker SDK on the node itself.

    python -m bench.launch [--count 60] [--threads 8] [--rounds 3] [--json]

Needs root: it makes a node with its own sshd and dockerd (tests/cluster) and removes
it. dorad reaches the node over SSH, and also stops, logs and removes what it started;
the SDK sits on the node's Docker socket and only creates and starts. Both run in the
same call, in turns. Exit status 1 when dorad's rate is below 0.8 of the SDK's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import docker

from bench.dorad_process import (
    BenchError,
    Dorad,
    get_json,
    private_dorad,
)
from bench.submit import submit_many
from tests.cluster import Cluster

RATIO_MIN = 0.8
NODE = "n1"
IMAGE = "busybox:latest"
OPTIONS = {"image": IMAGE, "cmd": ["true"], "cpus": "10m", "memory": "64Mi"}
NANO_CPUS = 10_000_000
MEMORY_BYTES = 64 * 2**20
_WAIT_SECONDS = 120.0
_PAUSE_SECONDS = 0.1


def sdk_rate(socket: Path, count: int, threads: int, prefix: str) -> float:
    """Starts a second of the Docker SDK, from the first create to the last start."""
    client = docker.APIClient(base_url=f"unix://{socket}", version="auto")
    host = client.create_host_config(
        nano_cpus=NANO_CPUS, mem_limit=MEMORY_BYTES, network_mode="bridge"
    )

    def start(number: int) -> None:
        name = f"{prefix}-{number}"
        made = client.create_container(IMAGE, ["true"], name=name, host_config=host)
        client.start(made["Id"])

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(start, range(count)))
        seconds = time.perf_counter() - began
        list(
            pool.map(
                lambda number: client.remove_container(
                    f"{prefix}-{number}", force=True
                ),
                range(count),
            )
        )
    client.close()
    return count / seconds


def dorad_rate(dorad: Dorad, count: int) -> float:
    """Starts a second of dorad, from the first placement to the last start on record.

    The node is closed while they are submitted, so that all wait when it opens.
    """
    dorad.run("dnode", "cordon", NODE)
    before = {row["id"] for row in _rows(dorad)}
    submit_many(dorad.socket, count, OPTIONS)
    dorad.run("dnode", "uncordon", NODE)
    _wait_for_all(dorad)
    ids = [row["id"] for row in _rows(dorad) if row["id"] not in before]
    if len(ids) != count:
        raise BenchError(f"{count} workloads were submitted, {len(ids)} are on record")
    placed, started = [], []
    for number in ids:
        record = get_json(dorad.socket, f"/v1/workloads/{number}")
        if record["outcome"] != "done":
            raise BenchError(f"workload {number}: {record['reason']}")
        placed.append(_moment(record, "place"))
        started.append(_moment(record, "start"))
    return count / (max(started) - min(placed)).total_seconds()


def _moment(record: dict[str, Any], kind: str) -> datetime:
    return min(
        datetime.fromisoformat(event["at"])
        for event in record["events"]
        if event["kind"] == kind
    )


def _rows(dorad: Dorad) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_json(
        dorad.socket, "/v1/workloads?all=1&render=json"
    )
    return found


def _wait_for_all(dorad: Dorad) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while get_json(dorad.socket, "/v1/status")["live_workloads"]:
        if time.monotonic() > until:
            raise BenchError(f"not all ended within {_WAIT_SECONDS:.0f} s")
        time.sleep(_PAUSE_SECONDS)


def measure(count: int, threads: int, rounds: int) -> dict[str, Any]:
    """Rates of both, in turns; the first round of each only warms up."""
    with (
        tempfile.TemporaryDirectory(prefix="dorabatch-bench-") as folder,
        Cluster([NODE], directory=Path(folder) / "cluster") as cluster,
    ):
        node = cluster.nodes[NODE]
        settings = {
            "ssh": {"key_file": str(cluster.client_key)},
            "node": {"launches_at_once": threads},
        }
        with private_dorad(settings) as dorad:
            _add_node(dorad, node.address, node.host_key_fingerprint)
            ours, theirs = [], []
            for turn in range(rounds + 1):
                ours.append(dorad_rate(dorad, count if turn else threads))
                size = count if turn else threads
                theirs.append(sdk_rate(node.docker_socket, size, threads, f"s{turn}"))
    return {
        "containers": count,
        "threads": threads,
        "rounds": rounds,
        "dorad_per_second": [round(rate, 2) for rate in ours[1:]],
        "sdk_per_second": [round(rate, 2) for rate in theirs[1:]],
        "ratio": round(statistics.median(ours[1:]) / statistics.median(theirs[1:]), 3),
    }


def _add_node(dorad: Dorad, address: str, fingerprint: str) -> None:
    dorad.run("dnode", "add", address, "--name", NODE, "--fingerprint", fingerprint)
    until = time.monotonic() + _WAIT_SECONDS
    while get_json(dorad.socket, "/v1/status")["nodes_ready"] < 1:
        if time.monotonic() > until:
            raise BenchError("the node was never ready")
        time.sleep(_PAUSE_SECONDS)


def main() -> int:
    """Measure and print; 1 below the target."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.count, options.threads, options.rounds)
    found["ratio_min"] = RATIO_MIN
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0 if found["ratio"] >= RATIO_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
