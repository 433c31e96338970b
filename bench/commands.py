"""How long the commands take, beside a Python that does nothing.

    python -m bench.commands [--runs 15] [--pending 10000] [--json]

Starts a private dorad, measures it empty, fills it over its API and measures again.
Never asks a daemon that it did not start. Exit status 1 over a budget.
"""

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.dorad_process import BenchError, private_dorad
from bench.submit import fill

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "#!/bin/sh\n#DSUB --image busybox --time 5m\ntrue\n"
BASE = "python -c pass"
RATIOS_MAX = {"dstat, empty queue": 2.0, "dsub script": 3.0, "dsub command": 3.0}
FULL = "dstat, full queue"
FULL_JSON = "dstat --json, full queue"
MILLISECONDS_MAX = {FULL: 60.0, FULL_JSON: 300.0}
FULL_QUEUE = 10_000
_CLIENTS = 4

Times = dict[str, list[float]]


def milliseconds(argv: list[str], environ: dict[str, str]) -> float:
    """Run it once; its standard output goes through a pipe and is read."""
    start = time.perf_counter()
    done = subprocess.run(argv, env=environ, capture_output=True, check=False)
    spent = (time.perf_counter() - start) * 1000
    if done.returncode:
        raise BenchError(f"{argv} failed: {done.stderr.decode()}")
    return spent


def take_turns(
    lines: dict[str, list[str]], environ: dict[str, str], runs: int
) -> Times:
    """Times of each command line, taken in turns; the first time is one too many."""
    times: Times = {name: [] for name in lines}
    for _ in range(runs + 1):
        for name, argv in lines.items():
            times[name].append(milliseconds(argv, environ))
    return times


def measure(runs: int, pending: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds and the ratio to an empty Python of the same rounds."""
    # As pip installs it: PYTHONDONTWRITEBYTECODE would have every run compile again.
    compileall.compile_dir(ROOT / "dorabatch", quiet=1)
    folder = Path(sys.executable).parent
    base = {BASE: [sys.executable, "-c", "pass"]}
    dstat, dsub = str(folder / "dstat"), str(folder / "dsub")
    with private_dorad() as dorad:
        environ = {**os.environ, "DORABATCH_SOCKET": str(dorad.socket)}
        script = dorad.folder / "job.sh"
        script.write_text(SCRIPT)
        empty = {
            "dstat, empty queue": [dstat],
            "dstat --json, empty queue": [dstat, "--json"],
            "dstat --help": [dstat, "--help"],
        }
        found = summed_up(take_turns({**base, **empty}, environ, runs))
        fill(dorad.socket, pending, _CLIENTS)
        full = {FULL: [dstat], FULL_JSON: [dstat, "--json"]}
        found |= summed_up(take_turns({**base, **full}, environ, runs))
        submit = {
            "dsub script": [dsub, str(script)],
            "dsub command": [dsub, "--image", "busybox", "--", "true"],
        }
        found |= summed_up(take_turns({**base, **submit}, environ, runs))
    return found


def summed_up(times: Times) -> dict[str, dict[str, float]]:
    """Medians without the first time, which is reported beside them."""
    base = statistics.median(times[BASE][1:])
    rows = {}
    for name, (first, *found) in times.items():
        median = statistics.median(found)
        rows[name] = {
            "median_ms": round(median, 2),
            "ratio": round(median / base, 2),
            "first_ms": round(first, 2),
        }
    return rows


def over_budget(
    found: dict[str, dict[str, float]], *, is_full: bool = True
) -> list[str]:
    """Names of what took longer than it may; times count for the full queue only."""
    slow = [n for n, most in RATIOS_MAX.items() if found[n]["ratio"] > most]
    if is_full:
        slow += [n for n, ms in MILLISECONDS_MAX.items() if found[n]["median_ms"] > ms]
    return slow


def main() -> int:
    """Measure and print; 1 when a command is over its budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--pending", type=int, default=FULL_QUEUE)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.runs, options.pending)
    slow = over_budget(found, is_full=options.pending >= FULL_QUEUE)
    if options.json:
        result = {"pending": options.pending, "times": found, "over_budget": slow}
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        for name, row in found.items():
            mark = "   over budget" if name in slow else ""
            sys.stdout.write(
                f"{name:28}{row['median_ms']:9.2f} ms{row['ratio']:7.2f} x"
                f"   first {row['first_ms']:.2f} ms{mark}\n"
            )
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
