"""How long a what-if takes: an invented history played through the daemon's own cycle.

    python -m bench.whatif [--jobs 10000] [--nodes 16] [--days 21] [--load 0.9] [--json]

The nodes are those of `bench.cycle`; jobs, users and run times are invented (fixed
seed): most ask for one or two GPUs, a tenth for none, a third for one or two models,
half may be begun anew. `load` is the part of the GPU hours that the jobs ask for. One
play is timed, in processor time too; an answer takes two for each shake and one more.
"""

import argparse
import json
import random
import resource
import sys
import time
from typing import Any

from bench.cycle import MODELS, SEED, invent_facts, invent_settings
from dorabatch.config import Settings
from dorabatch.daemon.state.facts_json import facts_to_json
from dorabatch.daemon.whatif.make_books import playable
from dorabatch.daemon.whatif.play import Play
from dorabatch.daemon.whatif.site_history import (
    PastJob,
    PastNode,
    Played,
    WhatifQuestion,
)
from dorabatch.resources.submission import workload_from_options
from dorabatch.resources.workload import canonical_json

START_US = 1_767_571_200_000_000
_SECOND = 1_000_000
_DAY = 86_400
_GPUS = (0, 1, 1, 1, 1, 1, 2, 2, 4, 8)
_USERS = 30


def invent_site(
    jobs: int, nodes: int, *, days: float, load: float, seed: int = SEED
) -> WhatifQuestion:
    """A history whose jobs began when they came; run times are scaled to the load."""
    chance, names = random.Random(seed), sorted(MODELS)
    used = [names[number % len(names)] for number in range(nodes)]
    specs: dict[str, int] = {}
    drawn = []
    for _ in range(jobs):
        gpus = chance.choice(_GPUS)
        text = _spec(chance, gpus, sorted(set(used)))
        length = min(7 * _DAY, chance.lognormvariate(7.5, 2.0))
        user = f"u{int(_USERS * chance.random() ** 2):02}"
        at = chance.random() * days * _DAY
        drawn.append((at, user, gpus, specs.setdefault(text, len(specs)), length))
    asked = sum(gpus * length for _, _, gpus, _, length in drawn)
    has = sum(MODELS[model][0] for model in used) * days * _DAY
    scale = load * has / asked
    drawn.sort()
    return WhatifQuestion(
        zone="dc-rov-01",
        start_us=START_US,
        jobs=tuple(
            _job(number, at, user, spec, max(5.0, length * scale))
            for number, (at, user, _, spec, length) in enumerate(drawn)
        ),
        earlier=(),
        specs=tuple(specs),
        nodes=tuple(_node(f"n{at:04}", model) for at, model in enumerate(used)),
        accounts=(),
        people={},
        prices=(),
        settings=Settings().model_dump(mode="json", include={"cycle", "credits"}),
        then={},
        now={},
        shakes=1,
    )


def _spec(chance: random.Random, gpus: int, models: list[str]) -> str:
    options: dict[str, object] = {"image": "busybox", "cmd": ["true"]}
    if gpus:
        options["gpus"] = gpus
        if chance.random() < 1 / 3:
            options["gpu_models"] = [chance.choice(models)]
    else:
        options["cpus"] = chance.choice((1, 4, 16))
    if chance.random() < 1 / 2:
        options["restartable"] = True
    return canonical_json(workload_from_options(options, default_name="w").spec)


def _job(number: int, at: float, user: str, spec: int, seconds: float) -> PastJob:
    moment = START_US + round(at) * _SECOND
    return PastJob(
        workload=number,
        replica=1,
        user=user,
        workspace=user,
        spec=spec,
        submitted_us=moment,
        started_us=moment,
        ended_us=moment + round(seconds) * _SECOND,
    )


def _node(name: str, model: str) -> PastNode:
    facts = facts_to_json(invent_facts(name, model))
    return PastNode(settings=invent_settings(name), facts=facts)


def measure(question: WhatifQuestion) -> dict[str, Any]:
    """One play: seconds, cycles and what came of it."""
    began, cpu = time.perf_counter(), time.process_time()
    question = playable(question)
    played = Play(question, question.then).run()
    return {
        "jobs": len(question.jobs),
        "nodes": len(question.nodes),
        "gpus": question.gpus,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        **_told(played),
        "memory_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _told(played: Played) -> dict[str, Any]:
    waits = played.wait_s
    return {
        "cycles": played.cycles,
        "mean_wait_h": round(float(waits.mean()) / 3600, 3),
        "waited_a_minute": round(float((waits > 60).mean()), 3),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--days", type=float, default=21.0)
    parser.add_argument("--load", type=float, default=0.9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    question = invent_site(
        options.jobs, options.nodes, days=options.days, load=options.load
    )
    found = measure(question)
    sys.stdout.write(json.dumps(found, indent=1 if options.json else None) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
