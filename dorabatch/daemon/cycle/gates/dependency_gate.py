"""Which waiting containers wait for other workloads, and which wait in vain.

In memory only, by the book of dependencies. What waits in vain stays in the queue: what
becomes of it is not decided here.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.daemon.cycle.gates.chain import PASSES, GateScene, GateVerdict
from dorabatch.daemon.state.dependency_book import DependencyBook
from dorabatch.queue.awaited import Judged, WaitVerdict
from dorabatch.queue.demand import number_of

DEPENDENCY = "Dependency"
DEPENDENCY_NEVER = "DependencyNever"
_UNKNOWN = Judged(
    verdict=WaitVerdict.WAITS,
    words="the next scheduling cycle looks at what it waits for",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyGate:
    """Keeps waiting what depends on something that has not become so yet."""

    book: DependencyBook

    def __call__(self, scene: GateScene) -> GateVerdict:
        """Those of workloads whose dependency does not hold."""
        why = np.full(len(scene), PASSES, dtype=np.int64)
        depends = np.flatnonzero(scene.pending.depends[scene.rows])
        groups = scene.pending.group[scene.rows[depends]]
        workloads, place = np.unique(groups, return_inverse=True)
        reasons: dict[Judged, int] = {}
        numbers = [
            _number(reasons, judged) for judged in self.book.judged(workloads.tolist())
        ]
        why[depends] = np.array(numbers, dtype=np.int64)[place]
        return GateVerdict(
            code=DEPENDENCY,
            codes=tuple(
                DEPENDENCY_NEVER if one.verdict is WaitVerdict.NEVER else DEPENDENCY
                for one in reasons
            ),
            sentences=tuple(one.words for one in reasons),
            why=why,
        )


def _number(reasons: dict[Judged, int], judged: Judged | None) -> int:
    known = judged or _UNKNOWN
    return PASSES if known.verdict is WaitVerdict.HOLDS else number_of(reasons, known)
