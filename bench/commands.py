"""How long the commands take, beside a Python that does nothing.

Asks the daemon at DORABATCH_SOCKET, or else a small server with canned answers that
it starts itself. Submits real workloads when it asks a daemon, and never cancels
them: use one that is there to be measured.

    python bench/commands.py [--runs 30] [--json FILE]
"""

import argparse
import compileall
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "tests" / "cli" / "peer.py"
SCRIPT = "#!/bin/sh\n#DSUB --image busybox --time 5m\ntrue\n"
BASE = "python -c pass"
RATIOS_MAX = {"dstat": 2.0, "dsub script": 3.0, "dsub command": 3.0}


@contextmanager
def daemon(home: Path) -> Iterator[str]:
    """The socket to ask: the one that is set, or that of a canned peer."""
    given = os.environ.get("DORABATCH_SOCKET")
    if given:
        yield given
        return
    path = home / "peer.sock"
    process = subprocess.Popen([sys.executable, PEER, path, home])
    try:
        wait_for(path)
        yield str(path)
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path) -> None:
    """Wait until somebody listens there."""
    for _ in range(500):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("the canned peer did not start")


def command_lines(home: Path) -> dict[str, list[str]]:
    """What is measured, by the name under which it is reported."""
    folder = Path(sys.executable).parent
    script = home / "job.sh"
    script.write_text(SCRIPT)
    return {
        BASE: [sys.executable, "-c", "pass"],
        "dstat": [str(folder / "dstat")],
        "dstat -u -s --limit": [
            str(folder / "dstat"),
            "-u",
            "x",
            "-s",
            "PD",
            "--limit=9",
        ],
        "dsub script": [str(folder / "dsub"), str(script)],
        "dsub command": [str(folder / "dsub"), "--image", "busybox", "--", "true"],
        "dstat --help": [str(folder / "dstat"), "--help"],
    }


def milliseconds(argv: list[str], environ: dict[str, str]) -> float:
    """Run it once."""
    start = time.perf_counter()
    done = subprocess.run(argv, env=environ, capture_output=True, check=False)
    spent = (time.perf_counter() - start) * 1000
    if done.returncode:
        raise SystemExit(f"{argv} failed: {done.stderr.decode()}")
    return spent


def measure(runs: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds and the ratio to an empty Python, taken in turns."""
    # As pip installs it: PYTHONDONTWRITEBYTECODE would have every run compile again.
    compileall.compile_dir(ROOT / "dorabatch", quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with daemon(home) as path:
            environ = {**os.environ, "DORABATCH_SOCKET": path}
            lines = command_lines(home)
            times: dict[str, list[float]] = {name: [] for name in lines}
            for _ in range(runs + 1):  # the first round only warms up
                for name, argv in lines.items():
                    times[name].append(milliseconds(argv, environ))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    base = medians[BASE]
    return {
        name: {"median_ms": round(median, 2), "ratio": round(median / base, 2)}
        for name, median in medians.items()
    }


def main() -> int:
    """Measure and print; 1 when a command is over its budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = measure(options.runs)
    for name, row in results.items():
        budget = f"   budget {RATIOS_MAX[name]}" if name in RATIOS_MAX else ""
        print(f"{name:22}{row['median_ms']:8.2f} ms{row['ratio']:7.2f} x{budget}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    over = [n for n, most in RATIOS_MAX.items() if results[n]["ratio"] > most]
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
