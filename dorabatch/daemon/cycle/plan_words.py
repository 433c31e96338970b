"""Reservations in the words of the zone: names of nodes, local times.

Turns a plan's numbers into sentences; decides nothing and reads no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dorabatch.placer.arrays.feasible import RESERVED
from dorabatch.placer.arrays.types import UNKNOWN_US, Plan, Reservation

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
