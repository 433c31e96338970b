"""Random faults on a busy real cluster: `python -m tests.faults --rounds 15 --seed 1`.

Ends with 1 where anything was lost, ran twice, ended wrong or was left behind. Needs
root, and what tests/cluster/requirements.sh installs.
"""

import argparse
import sys
from pathlib import Path
from random import Random

from tests.faults import report
from tests.faults.ground import made
from tests.faults.rounds import Verdict, faults_in_order, play
from tests.faults.table import FAULTS


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=len(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--fault",
        choices=[fault.name for fault in FAULTS],
        action="append",
        help="only this one; may be given again",
    )
    parser.add_argument(
        "--results", type=Path, help="add each round to this JSON file, one a line"
    )
    parser.add_argument(
        "--report", action="store_true", help="write docs/reliability.md"
    )
    return parser.parse_args()


def _told(number: int, verdict: Verdict) -> str:
    where = f" on {verdict.node}" if verdict.node else ""
    head = f"{number:4} {verdict.fault}{where}, {verdict.seconds} s, "
    words = "; ".join(f"{one.kind}: {one.words}" for one in verdict.violations)
    return f"{head}{verdict.jobs} jobs: {words or 'right'}"


def main() -> int:
    """Play, and tell."""
    words = _words()
    chance = Random(words.seed)
    rounds: list[report.Result] = []
    if words.rounds:
        with made() as ground:
            for number, fault in enumerate(faults_in_order(words.rounds, chance), 1):
                if words.fault and fault.name not in words.fault:
                    continue
                verdict = play(ground, fault, f"s{words.seed}-{number}", chance)
                print(_told(number, verdict), flush=True)
                rounds.append(report.result_of(words.seed, verdict))
                if words.results:
                    report.add(words.results, rounds[-1])
    joined = report.read(words.results) if words.results else rounds
    print(report.table(joined))
    if words.report:
        report.write(joined)
    return 1 if any(one["violations"] for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
