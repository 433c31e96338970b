"""What a waiting workload has before it: whom it waits for, its turn and its start.

Reads memory only; says nothing of nodes and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dorabatch.daemon.state.dependency_book import DependencyBook
from dorabatch.daemon.views.expected_starts import ExpectedStarts
from dorabatch.daemon.views.table_layout import Row
from dorabatch.daemon.views.turns import Turns
from dorabatch.queue.awaited import WaitVerdict
from dorabatch.queue.records import Workload

CONDITIONS_SHOWN_MAX = 20
_VERDICTS = {
    WaitVerdict.HOLDS: "holds",
    WaitVerdict.WAITS: "does not hold yet",
    WaitVerdict.NEVER: "can never hold",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What comes before the start of what waits in one zone."""

    turns: Turns
    starts: ExpectedStarts
    dependencies: DependencyBook

    def conditions(self, workload: Workload) -> list[Row]:
        """Each condition that a live workload waits for, and where it stands."""
        return [
            {
                "type": one.type,
                "id": int(one.ref),
                "verdict": str(judged.verdict),
                "sentence": judged.words,
            }
            for one, judged in self.dependencies.conditions(workload)
        ]

    def lines(self, workload: Workload) -> list[str]:
        """Its turn and its start, for people."""
        return self.turns.lines(workload) + self.starts.lines(workload)


def condition_lines(conditions: Sequence[Row]) -> list[str]:
    """What stands where, those that do not hold yet first."""
    order = sorted(conditions, key=lambda one: bool(one["verdict"] == "holds"))
    lines = [
        f"  {one['type']}:{one['id']} {_VERDICTS[one['verdict']]}"
        for one in order[:CONDITIONS_SHOWN_MAX]
    ]
    more = len(order) - len(lines)
    return lines + ([f"  and {more} more; --json lists them all"] if more > 0 else [])
