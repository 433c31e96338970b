"""Laws on what has happened, as functions that return what breaks them.

As `checkers`, which has those on what is: records in, a sentence for each violation
out; reads no database and no node.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby, pairwise
from typing import Any

from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Container, ContainerId, Run
from dorabatch.queue.states import Outcome, State

Attempt = tuple[int, int, int]
"""(workload, replica, attempt)"""
Result = tuple[int, int, int, Run]
"""(workload, replica, attempt, what is recorded)"""
CAUSES = {
    "the node was restarted": "reboot",
    "the node's Docker daemon was restarted": "docker",
    "the container was removed by somebody else": "taken",
}
UNHEARD = frozenset({"taken", "silent"})
"""Whoever ended so tells nobody how: it was removed by hand, or its node is lost."""
_SILENCE = ("was declared lost", "has not answered for")


def wrong_attempts(containers: Iterable[Container], runs: Iterable[Run]) -> list[str]:
    """The history of a container has each of its attempts once, from 1 on."""
    found: dict[ContainerId, list[int]] = {}
    for run in runs:
        found.setdefault(run.container_id, []).append(run.attempt)
    return [
        f"container {one.container_id} is at attempt {one.attempt}, its history has "
        f"{numbers}"
        for one in containers
        for numbers in [found.get(one.container_id, [])]
        if numbers != list(range(1, one.attempt + 1))
    ]


def done_again(
    results: Iterable[Result],
    exits: Mapping[Attempt, int],
    endless: AbstractSet[int],
) -> list[str]:
    """What ended well is recorded so, and not run again with the same spec.

    exits: the codes with which jobs ended by themselves; endless: the workloads that
    are to be restarted whatever happens.
    """
    ordered = sorted(results, key=lambda one: one[:3])
    broken = []
    for _, group in groupby(ordered, key=lambda one: one[:2]):
        for one, after in pairwise([*group, None]):
            if one is None or one[0] in endless:
                continue
            workload, replica, attempt, run = one
            name = f"attempt {attempt} of {workload}.{replica}"
            is_bad = run.outcome in (Outcome.NODE_LOST, Outcome.FAILED)
            if exits.get(one[:3]) == 0 and is_bad:
                broken.append(f"{name} ended well and is recorded {run.outcome}")
            is_again = after is not None and after[3].version == run.version
            if run.outcome is Outcome.DONE and is_again:
                broken.append(f"{name} is done, and was run again")
    return broken


def wrong_causes(
    results: Iterable[Result], lost: Mapping[Attempt, AbstractSet[str]]
) -> list[str]:
    """Who is said to have ended an attempt did; lost[attempt]: who may have.

    What is lost for another reason was refused a start, whatever came of that.
    """
    broken = []
    for workload, replica, attempt, run in results:
        if run.outcome is not Outcome.NODE_LOST:
            continue
        if is_of_silence(run.reason):
            continue
        cause = CAUSES.get(run.reason.partition("; gave up")[0])
        known = lost.get((workload, replica, attempt), ())
        if cause is not None and cause not in known:
            broken.append(
                f"attempt {attempt} of {workload}.{replica} is lost because "
                f"{run.reason}; it was {sorted(known)}"
            )
    return broken


def wrong_boots(
    containers: Iterable[Container],
    running: Mapping[str, Iterable[Attempt]],
    boots: Mapping[str, str],
) -> list[str]:
    """What runs on a node is known to have begun on the boot that the node has now.

    running[node]: the attempts that run there now; boots[node]: its boot id.
    """
    now = {one: boots[node] for node, some in running.items() for one in some}
    return [
        f"container {one.container_id} runs since boot {boot}, and is recorded as of "
        f"{one.hold.boot_id}"
        for one in containers
        for boot in [now.get((one.workload_id, one.replica, one.attempt))]
        if one.state is State.RUNNING and one.hold is not None
        if boot is not None and one.hold.boot_id != boot
    ]


def given_up(containers: Iterable[Container]) -> list[str]:
    """What was lost to its node is tried again: it never stays so."""
    return [
        f"container {one.container_id} is given up as {one.outcome}: {one.reason}"
        for one in containers
        if one.outcome is Outcome.NODE_LOST and not is_of_silence(one.reason)
    ]


def is_of_silence(reason: str) -> bool:
    """Whether a run was ended because its node did not tell, by order or by itself."""
    return any(words in reason for words in _SILENCE)


def ended_unasked(
    containers: Iterable[Container], asked: AbstractSet[int]
) -> list[str]:
    """Cancelled is only what somebody cancelled or asked for otherwise."""
    return [
        f"container {one.container_id} of workload {one.workload_id} is cancelled "
        f"and nobody asked for that ({one.reason})"
        for one in containers
        if one.outcome is Outcome.CANCELLED and one.workload_id not in asked
    ]


def still_wanted(
    containers: Iterable[Container], cancelled: AbstractSet[int]
) -> list[str]:
    """What somebody cancelled is not left to run or to wait.

    cancelled: workloads whose cancellation was answered.
    """
    return [
        f"container {one.container_id} of the cancelled workload {one.workload_id} is "
        f"{one.state} and goes on"
        for one in containers
        if one.workload_id in cancelled
        and not one.outcome
        and str(one.after_stop) != "finish"
    ]


def holds_not_asked_for(
    containers: Iterable[Container], demands: Mapping[ContainerId, Demand]
) -> list[str]:
    """What is held is what the container's present spec asks for."""
    broken = []
    for one in containers:
        asked, hold = demands.get(one.container_id), one.hold
        if asked is None or hold is None:
            continue
        models = asked.gpu_models
        is_right = (
            len(hold.gpus) == asked.gpu_count
            and hold.gpu_milli == asked.gpu_milli
            and (models is None or set(hold.gpu_models) <= set(models))
            and set(asked.restriction.ports) <= set(hold.ports)
        )
        if not is_right:
            broken.append(f"container {one.container_id} holds {hold} for {asked}")
    return broken


def lost_logs(
    nonces: Mapping[Attempt, bytes], kept: Mapping[Attempt, bytes]
) -> list[str]:
    """Whatever a job has said is in the kept log of its attempt."""
    return [
        f"the log of attempt {attempt} lacks {nonce!r}"
        for attempt, nonce in nonces.items()
        if nonce not in kept.get(attempt, b"")
    ]


def started_while_held(steps: Iterable[tuple[int, str]]) -> list[str]:
    """Nothing of a workload is placed from a hold on until its release.

    steps: (workload, kind of event), in the order in which they were written.
    """
    held: set[int] = set()
    broken = []
    for workload, kind in steps:
        if kind == "hold":
            held.add(workload)
        elif kind == "release":
            held.discard(workload)
        elif workload in held:
            broken.append(f"workload {workload} is held, and there is a {kind} of it")
    return broken


def undercharged(
    runs: Mapping[str, Run],
    charged: Mapping[str, int],
    priced: Mapping[str, int | None],
) -> list[str]:
    """Where nothing limits anybody, an ended run is charged for all of its time.

    priced[run]: how many seconds it may run, None: as long as it wants. A V100
    costs 2.5 an hour, any other GPU 1.1.
    """
    broken = []
    for name in sorted(priced):
        run = runs[name]
        if run.started_at is None or run.ended_at is None:
            continue
        seconds = (run.ended_at - run.started_at).total_seconds()
        seconds = min(seconds, priced[name] or seconds)
        hour = sum(2.5 if "V100" in one else 1.1 for one in run.hold.gpu_models)
        due = hour * seconds / 3600 * 1e6
        if charged.get(name, 0) < due - 10:
            broken.append(f"run {name}: charged {charged.get(name, 0)} of {due:.0f}")
    return broken


def differences(
    what: str, known: Mapping[Any, Any], new: Mapping[Any, Any]
) -> list[str]:
    """What one daemon knew and the next one does not, or not so."""
    keys = sorted(known.keys() | new.keys(), key=str)
    return [
        f"{what} {key}: known as {known.get(key)}, in the database {new.get(key)}"
        for key in keys
        if known.get(key) != new.get(key)
    ]


def different_use(
    counted: Mapping[str, float], recounted: Mapping[str, float]
) -> list[str]:
    """Use is what the ended runs make, in thousandths of weighted GPU-seconds."""
    names: Sequence[str] = sorted(counted.keys() | recounted.keys())
    return [
        f"use of {name} is {mine}, its runs make {anew}"
        for name in names
        for mine, anew in [(counted.get(name, 0.0), recounted.get(name, 0.0))]
        if abs(mine - anew) > 1e-6 * max(1.0, abs(anew))
    ]
