"""Laws that hold at every moment, as functions that return what breaks them.

Each looks at records alone and gives one sentence for each violation; an empty list
means the law holds. Reads no database and no node.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

from dorabatch.fairshare.turn.use_limits import UseLimits
from dorabatch.node.facts import NodeFacts
from dorabatch.queue.records import (
    WHOLE_GPU_MILLI,
    Container,
    ContainerId,
    Hold,
    Run,
)
from dorabatch.queue.states import HOLDING, LEGAL_MOVES, Outcome, State


def holds_by_node(containers: Iterable[Container]) -> dict[str, list[Hold]]:
    """What is held on each node."""
    found: dict[str, list[Hold]] = {}
    for container in containers:
        if container.hold is not None:
            found.setdefault(container.hold.node, []).append(container.hold)
    return found


def gpus_held_twice(containers: Iterable[Container]) -> list[str]:
    """No GPU of a node is given away more than once, in whole or in shares."""
    broken = []
    for node, holds in holds_by_node(containers).items():
        given: Counter[str] = Counter()
        for one in holds:
            for uuid in one.gpus:
                given[uuid] += one.gpu_milli
        broken += [
            f"{node}: GPU {uuid} is held {milli / 1000:g} times"
            for uuid, milli in given.items()
            if milli > WHOLE_GPU_MILLI
        ]
    return broken


def cores_pinned_twice(containers: Iterable[Container]) -> list[str]:
    """No core of a node is pinned by two attempts."""
    return [
        f"{node}: core {core} is pinned {count} times"
        for node, holds in holds_by_node(containers).items()
        for core, count in Counter(c for h in holds for c in h.cores).items()
        if count > 1
    ]


def capacity_exceeded(
    containers: Iterable[Container], nodes: Mapping[str, NodeFacts]
) -> list[str]:
    """No node gives more CPU, memory or GPUs than it has, nor what it has not."""
    broken = []
    for node, holds in holds_by_node(containers).items():
        facts = nodes.get(node)
        if facts is None:
            broken.append(f"{node}: something is held on an unknown node")
            continue
        amounts = (
            ("CPU", sum(h.cpu_milli for h in holds), len(facts.cores) * 1000),
            ("memory", sum(h.memory_mib for h in holds), facts.memory_mib),
            ("GPUs", len({u for h in holds for u in h.gpus}), len(facts.gpus)),
        )
        broken += [
            f"{node}: {held} {what} held of {total}"
            for what, held, total in amounts
            if held > total
        ]
        models = {gpu.uuid: gpu.model for gpu in facts.gpus}
        for one in holds:
            broken += [
                f"{node}: GPU {uuid} is no {model} of this node"
                for uuid, model in zip(one.gpus, one.gpu_models, strict=False)
                if models.get(uuid) != model
            ]
            if len(one.gpus) != len(one.gpu_models):
                broken.append(f"{node}: {len(one.gpus)} GPUs, other models")
            if not set(one.cores) <= set(facts.cores):
                broken.append(f"{node}: cores {one.cores} are not all its own")
    return broken


def ports_held_twice(containers: Iterable[Container]) -> list[str]:
    """No port of a node is published by two attempts."""
    return [
        f"{node}: port {port} is held {count} times"
        for node, holds in holds_by_node(containers).items()
        for port, count in Counter(p for h in holds for p in h.ports).items()
        if count > 1
    ]


def misplaced_holds(containers: Iterable[Container]) -> list[str]:
    """Something is held in exactly the states that hold."""
    return [
        f"container {one.container_id} is {one.state} and holds {one.hold}"
        for one in containers
        if (one.hold is not None) != (one.state in HOLDING)
    ]


def misplaced_trials(containers: Iterable[Container]) -> list[str]:
    """Only what holds something is on trial."""
    return [
        f"container {one.container_id}: {one.state} but on trial"
        for one in containers
        if one.trial_seconds is not None and one.state not in HOLDING
    ]


def wrong_charges(
    runs: Mapping[str, Run], charged: Mapping[str, int], free: Iterable[str]
) -> list[str]:
    """An ended run is charged for its own time at most, a stopped trial for nothing.

    `charged[run]` is what was charged less what was refunded, in micro-credits;
    `free` are the stopped trials. A V100 costs 2.5 an hour, any other GPU 1.1.
    """
    stopped, broken = set(free), []
    for name, ucr in charged.items():
        run = runs.get(name)
        if run is None or run.started_at is None or run.ended_at is None:
            continue
        seconds = (run.ended_at - run.started_at).total_seconds()
        hour = sum(2.5 if "V100" in one else 1.1 for one in run.hold.gpu_models)
        most = 0 if name in stopped else hour * seconds / 3600 * 1e6
        # Amounts are whole micro-credits; the product of floats is not.
        if not 0 <= ucr <= round(most, 3):
            broken.append(f"run {name}: charged {ucr}, at most {most:.0f} are due")
    return broken


def illegal_moves(histories: Mapping[int, Sequence[State]]) -> list[str]:
    """Each container's states, in order, begin QUEUED and follow the legal moves."""
    broken = []
    for key, states in histories.items():
        if states and states[0] is not State.QUEUED:
            broken.append(f"container {key} began {states[0]}")
        broken += [
            f"container {key}: {before} -> {after}"
            for before, after in pairwise(states)
            if before is not after and after not in LEGAL_MOVES[before]
        ]
    return broken


def broken_laws(
    containers: Sequence[Container], nodes: Mapping[str, NodeFacts]
) -> list[str]:
    """All laws on the present records at once."""
    return [
        *gpus_held_twice(containers),
        *cores_pinned_twice(containers),
        *ports_held_twice(containers),
        *capacity_exceeded(containers, nodes),
        *misplaced_trials(containers),
        *misplaced_holds(containers),
    ]


def not_given_up(
    observed: Mapping[str, Sequence[tuple[int, int, int]]],
    containers: Iterable[Container],
    used: AbstractSet[str],
) -> dict[str, list[tuple[int, int, int]]]:
    """What runs, without what lost nodes still run of attempts that are over.

    That is nobody's until it is removed; `used` are the nodes that are not lost.
    """
    held = {(c.workload_id, c.replica, c.attempt) for c in containers if c.hold}
    return {
        node: [one for one in runs if node in used or one in held]
        for node, runs in observed.items()
    }


def containers_without_hold(
    containers: Iterable[Container],
    observed: Mapping[str, Iterable[tuple[int, int, int]]],
) -> list[str]:
    """What is on a node is an attempt that holds its place there until it is gone.

    observed[node]: (workload, replica, attempt) of each container that is there.
    """
    held = {
        (c.hold.node, c.workload_id, c.replica, c.attempt)
        for c in containers
        if c.hold is not None
    }
    return [
        f"{node}: attempt {attempt} of {workload}.{replica} is there and holds nothing"
        for node, runs in observed.items()
        for workload, replica, attempt in runs
        if (node, workload, replica, attempt) not in held
    ]


def replicas_running_twice(
    observed: Mapping[str, Iterable[tuple[int, int, int]]],
) -> list[str]:
    """No replica runs in two containers at once, on whatever nodes."""
    counts = Counter(
        (workload, replica)
        for runs in observed.values()
        for workload, replica, _ in runs
    )
    return [
        f"replica {replica} of workload {workload} runs {count} times"
        for (workload, replica), count in counts.items()
        if count > 1
    ]


def differences_in_memory(
    in_memory: Mapping[ContainerId, Container], on_disk: Iterable[Container]
) -> list[str]:
    """What the daemon remembers of a container is what the database says."""
    return [
        f"container {one.container_id} is {in_memory[one.container_id]} in memory "
        f"and {one} on disk"
        for one in on_disk
        if one.container_id in in_memory and in_memory[one.container_id] != one
    ]


def unfinished(containers: Iterable[Container]) -> list[str]:
    """Once everything has ended, every container has an outcome and holds nothing."""
    return [
        f"container {one.container_id} is left {one.state}, outcome {one.outcome}"
        for one in containers
        if one.state is not State.FINISHED or one.hold is not None or not one.outcome
    ]


def made_up_results(
    results: Iterable[tuple[int, int, int, Run]],
    exits: Mapping[tuple[int, int, int], int],
) -> list[str]:
    """Whatever is recorded as done or failed with a code really ended so.

    results: (workload, replica, attempt, what is recorded); exits: the codes with
    which jobs ended by themselves.
    """
    broken = []
    for workload, replica, attempt, run in results:
        code = exits.get((workload, replica, attempt))
        # A refused start is a failure too, whatever ended the container after it.
        is_own_end = run.outcome is Outcome.DONE or run.reason.startswith("exit code")
        if is_own_end and code != run.exit_code:
            broken.append(
                f"attempt {attempt} of {workload}.{replica} is recorded {run.outcome} "
                f"with exit code {run.exit_code}; the job ended with {code}"
            )
    return broken


INTERRUPTED = ("the node", "the container was removed")
"""How the reason of a run begins that its node is said to have ended."""
DECLARED = " was declared lost by "
"""What the reason of a run says whose node somebody declared lost."""


def wrongly_blamed(
    results: Iterable[tuple[int, int, int, Run]],
    lost: AbstractSet[tuple[int, int, int]],
) -> list[str]:
    """Lost to its node is only what dockerd or the machine ended, or somebody took.

    Or what waited for a silent node for as long as its workload said, or was refused:
    that never became a run. So what ended well is not done again; results: see
    `made_up_results`.
    """
    return [
        f"attempt {attempt} of {workload}.{replica} is recorded lost ({run.reason}) "
        "and nobody but the job ended it"
        for workload, replica, attempt, run in results
        if run.outcome is Outcome.NODE_LOST
        and (run.reason.startswith(INTERRUPTED) or DECLARED in run.reason)
        and (workload, replica, attempt) not in lost
    ]


def liens_without_run(
    liens: Mapping[str, int], containers: Iterable[Container]
) -> list[str]:
    """Credit is held for attempts that hold a place, and never below nothing.

    liens[run]: what is held for a run, which is called WORKLOAD.REPLICA/ATTEMPT.
    """
    live = {
        f"{one.workload_id}.{one.replica}/{one.attempt}"
        for one in containers
        if one.state in HOLDING
    }
    return [
        f"run {run} holds {ucr} ucr and {'is below 0' if run in live else 'is over'}"
        for run, ucr in liens.items()
        if ucr < 0 or (ucr and run not in live)
    ]


def over_limits(
    containers: Iterable[Container],
    users: Mapping[int, str],
    limits: UseLimits,
    accounts_of: Callable[[str], Iterable[str]],
) -> list[str]:
    """No user and no account holds more at once than a limit that is always in force.

    users[workload] is whose it is; what starts and what stops is held too.
    """
    milli: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for one in containers:
        if one.hold is not None:
            user = users[one.workload_id]
            count[user] += 1
            for name in (user, *(f"account {a}" for a in accounts_of(user))):
                milli[name] += len(one.hold.gpus) * one.hold.gpu_milli
    per_user = limits.gpus_per_user
    most = {f"account {name}": n for name, n in limits.gpus_of_accounts.items()}
    if per_user is not None:
        most |= dict.fromkeys(count, per_user)
    broken = [
        f"{name} holds {milli[name] / 1000:g} GPUs of {n} that are allowed"
        for name, n in most.items()
        if milli[name] > 1000 * n
    ]
    running = limits.running_per_user
    return broken + [
        f"{user} holds {n} places of {running} that are allowed"
        for user, n in count.items()
        if running is not None and n > running
    ]


def debts(available: Mapping[str, int]) -> list[str]:
    """Nobody whose work ends with the credit has spent more than there was.

    available[account]: what is left, in micro-credits.
    """
    return [
        f"account {account} has {ucr} ucr available"
        for account, ucr in available.items()
        if ucr < 0
    ]


def different_starts(
    real: Mapping[tuple[int, int], float],
    played: Mapping[tuple[int, int], float],
    seconds: float,
) -> list[str]:
    """Starts of (workload, replica) that a replay has not, or not as near as this."""
    found = [
        f"{key}: started at {at:g} s, played at {played[key]:g} s"
        for key, at in sorted(real.items())
        if key in played and not abs(played[key] - at) <= seconds
    ]
    found += [f"{key}: not played" for key in sorted(real.keys() - played.keys())]
    return found + [f"{key}: never was" for key in sorted(played.keys() - real.keys())]
