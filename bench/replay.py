"""Replay a job log under a policy: python -m bench.replay --log FILE --capacity N.

Prints waits, bounded slow-down, fairness and use. `--against slurm-like` adds ratios.
The log is a CSV text, packed with gzip when its name ends in .gz, with the columns
submit_s, duration_s, gpus or cpus, user or group and, where known, requested_s.
Changes nothing and writes no file.
"""

import argparse
import json
import sys
from pathlib import Path

from bench.replay_log import POLICIES, Window, measure, read_log
from dorabatch.errors import UserError

EXAMPLES = """examples:
  python -m bench.replay --log philly.csv.gz --capacity 520 --policy default --json
  python -m bench.replay --log jobs.csv --capacity 64 --against slurm-like
"""


def parse_window(text: str) -> Window:
    """Days of the log: FIRST,DAYS; empty for the whole of it."""
    if not text:
        return Window()
    first, comma, days = text.partition(",")
    if not comma or not first.isdigit() or not days.isdigit() or int(days) < 1:
        raise UserError(f"--window {text!r}: write FIRST,DAYS in days, such as 35,21")
    return Window(first=int(first), days=int(days))


def known_policy(name: str) -> str:
    """The name, when there is such a policy."""
    if name not in POLICIES:
        raise UserError(f"no policy {name!r} (known: {', '.join(POLICIES)})")
    return name


def replayed(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one replay, with those of the other policy and the ratios."""
    policy = known_policy(options.policy)
    against = known_policy(options.against) if options.against else ""
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: give 0 (as logged) or more")
    jobs = read_log(
        options.log,
        capacity=options.capacity,
        window=parse_window(options.window),
        seed=options.seed,
    )
    ours = measure(jobs, options.capacity, policy)
    result: dict[str, object] = {"policy": policy, "seed": options.seed, **ours}
    if against:
        other = measure(jobs, options.capacity, against)
        result["against"] = {"policy": against, **other}
        result["ratio"] = {
            name: ours[name] / value if value else None
            for name, value in other.items()
            if name.startswith(("wait", "slow", "jain"))
        }
    return result


def main(argv: list[str] | None = None) -> int:
    """Run and print; 2 for what cannot be replayed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--capacity", type=int, required=True, help="GPUs of the pool")
    parser.add_argument("--policy", default="default", help=", ".join(POLICIES))
    parser.add_argument("--against", default="", help="a policy to compare with")
    parser.add_argument("--window", default="", help="FIRST,DAYS: part of the log")
    parser.add_argument(
        "--seed", type=int, default=0, help="above 0: submissions shaken by 10 min"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        result = replayed(options)
    except UserError as error:
        print(f"replay: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
