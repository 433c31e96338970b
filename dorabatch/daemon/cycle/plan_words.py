"""A plan in the words of the zone: what is reserved from when, why this node.

Pure: turns a plan's numbers into sentences with names of nodes and local times, and
reads the stored choice back. Decides nothing and reads no clock.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dorabatch.placer.arrays.feasible import RESERVED
from dorabatch.placer.arrays.types import UNKNOWN_US, Plan, Reservation
from dorabatch.placer.explain.why_here import NodeChoice, Terms

_MICROSECONDS = 1_000_000
_FAR = timedelta(hours=20)


def reserved_words(plan: Plan, names: Sequence[str], now: datetime) -> dict[int, str]:
    """`reserved on gpu07 from 14:05`, by the key of the request that waits."""
    return {one.key: _words(one, names, now) for one in plan.reservations}


def worded(plan: Plan, reserved: Mapping[int, str]) -> Plan:
    """The plan, its sentences on delayed reservations naming workloads and times."""
    group_of = {one.key: one.group for one in plan.reservations}
    return replace(
        plan,
        explanations=tuple(
            replace(one, sentence=_delays(one.delays, group_of, reserved))
            if one.reason == RESERVED and any(key in group_of for key in one.delays)
            else one
            for one in plan.explanations
        ),
    )


def _delays(
    keys: Sequence[int], group_of: Mapping[int, int], reserved: Mapping[int, str]
) -> str:
    first = next(key for key in keys if key in group_of)
    more = sum(key in group_of for key in keys) - 1
    others = f" and {more} more of higher rank" if more else ""
    return f"would delay workload {group_of[first]} ({reserved[first]}){others}"


def _words(one: Reservation, names: Sequence[str], now: datetime) -> str:
    where = f"reserved on {names[one.node]}"
    if one.start_us >= UNKNOWN_US:
        return f"{where}, once what runs there ends"
    start = datetime.fromtimestamp(one.start_us // _MICROSECONDS, UTC)
    form = "%Y-%m-%d %H:%M" if start - now > _FAR else "%H:%M"
    return f"{where} from {start.astimezone().strftime(form)}"


EVENT_KIND = "choice"
_TERMS = (
    ("gpus_stranded", "GPUs left without CPUs or memory"),
    ("opens_node", "starts an empty node"),
    ("gpus_left", "GPUs left free"),
    ("cpus_left", "CPUs left"),
    ("memory_left_mib", "MiB left"),
)


def choice_text(choice: NodeChoice, names: Sequence[str], attempt: int) -> str:
    """The event's text: one line of JSON."""
    runner_up = choice.runner_up
    return json.dumps(
        {
            "attempt": attempt,
            "candidates": choice.candidates,
            "chosen": _record(choice.chosen, names),
            "runner_up": _record(runner_up, names) if runner_up else None,
        }
    )


def _record(terms: Terms, names: Sequence[str]) -> dict[str, Any]:
    return {
        "node": names[terms.node],
        "gpus_left": terms.gpus_left,
        "gpus_stranded": terms.gpus_stranded,
        "cpus_left": terms.cpu_left_milli / 1000,
        "memory_left_mib": terms.memory_left_mib,
        "opens_node": terms.opens_node,
    }


def read_choice(text: str) -> dict[str, Any]:
    """The record that `choice_text` wrote."""
    record: dict[str, Any] = json.loads(text)
    return record


def choice_sentence(record: Mapping[str, Any]) -> str:
    """One line for a history."""
    chosen, runner_up = record["chosen"], record["runner_up"]
    where = f"attempt {record['attempt']}: {chosen['node']}"
    if runner_up is None:
        return f"{where} was the only node with room"
    others = record["candidates"] - 1
    many = "one other node" if others == 1 else f"{others} other nodes"
    return f"{where}, with room on {many}; next best {runner_up['node']}"


def choice_table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Heading and lines: term, chosen node, runner-up."""
    shown = [record["chosen"]]
    if record["runner_up"] is not None:
        shown.append(record["runner_up"])
    heads = ("TERM", *(one["node"] for one in shown))
    return [
        heads,
        *((label, *(_cell(one[key]) for one in shown)) for key, label in _TERMS),
    ]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
