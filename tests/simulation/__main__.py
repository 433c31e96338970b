"""Long simulations: `python -m tests.simulation --steps 200000 --seeds 0-99`.

Lives one life after the other, on several processes, until so many steps are done in
all or the seeds are used up. Ends with 1 and the tale when a law was broken.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.simulation.life import SCENARIOS, Life, live

MEMORY = Path("/dev/shm")
LIFE_STEPS = 250


def _one(job: tuple[str, int], steps: int) -> Life:
    # No power cut is played, so nothing need reach a disk.
    place = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="dora-simulation-", dir=place) as folder:
        return live(*job, steps, Path(folder))


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--steps", type=int, help="stop after so many in all")
    parser.add_argument("--seeds", type=_range, default=range(20), metavar="A-B")
    parser.add_argument("--life", type=int, default=LIFE_STEPS, help="steps of a life")
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="go on after a broken law")
    parser.add_argument("--trail", action="store_true", help="print what happened")
    return parser.parse_args()


def _lives(words: argparse.Namespace) -> Iterator[Life]:
    names = words.scenario or list(SCENARIOS)
    jobs = [(name, seed) for seed, name in product(words.seeds, names)]
    one = partial(_one, steps=words.life)
    if words.processes == 1:
        yield from map(one, jobs)
        return
    with ProcessPoolExecutor(words.processes) as pool:
        yield from pool.map(one, jobs)
        pool.shutdown(cancel_futures=True)


def main() -> int:
    """Live, and tell."""
    words, began = _words(), time.monotonic()
    steps = kills = lives = 0
    broken: list[Life] = []
    for life in _lives(words):
        steps, kills, lives = steps + life.steps, kills + life.kills, lives + 1
        if words.trail:
            print("\n".join(life.trail))
        if life.broken:
            broken.append(life)
            print(life.tale(), flush=True)
        pace = steps / (time.monotonic() - began)
        if sys.stderr.isatty():
            print(f"\r{steps} steps, {pace:.0f}/s", end="", file=sys.stderr)
        if (broken and not words.all) or (words.steps and steps >= words.steps):
            break
    print(
        f"{lives} lives, {steps} steps, {kills} daemons killed, {len(broken)} lives "
        f"with a broken law"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
