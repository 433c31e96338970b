"""Which waiting containers may not start because of what may be held at once.

What is held counts, also by what starts or stops, and what passes ahead in the order:
so a burst that is submitted at once stays below too. Which limits there are, the
policy says; sets none and stops nothing.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.daemon.cycle.ceilings import Ceiling, Ceilings
from dorabatch.daemon.cycle.gates.chain import PASSES, GateScene, GateVerdict
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.fairshare.turn.use_limits import NO_LIMIT, UNLIMITED, Level, kept_by
from dorabatch.placer.arrays.types import Waiting
from dorabatch.queue.demand import IntArray, number_of

LIMIT = "Limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitGate:
    """Keeps waiting what would exceed a limit of its user or of an account above."""

    policy: SitePolicy
    latest: LatestPlan

    def __call__(self, scene: GateScene) -> GateVerdict:
        """Each row in its order, as if those before it had started."""
        why = np.full(len(scene), PASSES, dtype=np.int64)
        limits = self.policy.settings.limits
        if limits == UNLIMITED or len(scene) == 0:
            return GateVerdict(code=LIMIT, sentences=(), why=why)
        # What no node can ever hold must not keep the others of its user waiting.
        never = _never_keys(self.latest.last)
        at = np.flatnonzero(~np.isin(scene.pending.key[scene.rows], never))
        ceilings = Ceilings(limits, self.policy.accounts_of)
        queue = _Queue(scene, scene.rows[at], ceilings)
        why[at], sentences = queue.reasons()
        return GateVerdict(code=LIMIT, sentences=sentences, why=why)


def _never_keys(last: LastPlan) -> IntArray:
    """What the last cycle found no node for that could hold it, even empty."""
    if last.plan is None:
        return np.zeros(0, dtype=np.int64)
    never = np.array([one.never for one in last.plan.explanations], dtype=np.bool_)
    waiting = Waiting.of(last.plan.waiting)
    return waiting.key[never[waiting.why]] if never.any() else waiting.key[:0]


class _Queue:
    """Rows in their order, with the limits that they count in."""

    def __init__(self, scene: GateScene, rows: IntArray, ceilings: Ceilings) -> None:
        pending, numbers = scene.pending, dict[str, int]()
        users = [number_of(numbers, one.user) for one in pending.claims]
        self._user = np.array(users, dtype=np.int64)[pending.claim[rows]]
        self._milli = pending.gpu_count[rows] * pending.gpu_milli[rows]
        self._held = ceilings.held(scene.snapshot.held)
        self._of_users = [
            {one.rank: one for one in ceilings.of(user)} for user in numbers
        ]
        # The first group of each rank is of those that it does not limit.
        self._groups: list[list[Ceiling | None]] = []
        ranks = sorted({rank for some in self._of_users for rank in some})
        self._levels = [self._level(rank) for rank in ranks]

    def reasons(self) -> tuple[IntArray, tuple[str, ...]]:
        """(why[row], the sentences that it points to)."""
        kept = kept_by(self._levels, len(self._user))
        why = np.full(len(self._user), PASSES, dtype=np.int64)
        sentences: list[str] = []
        for number, level in enumerate(self._levels):
            rows = np.flatnonzero(kept.level == number)
            group, used = level.group[rows], kept.used[rows]
            first, case = _alike(level, group, used, level.amount[rows])
            why[rows] = len(sentences) + case
            found = group[first], used[first], level.amount[rows[first]]
            each = zip(*(column.tolist() for column in found), strict=True)
            sentences += [self._sentence(number, *one) for one in each]
        return why, tuple(sentences)

    def _level(self, rank: int) -> Level:
        numbers: dict[Ceiling | None, int] = {None: 0}
        mine = [number_of(numbers, some.get(rank)) for some in self._of_users]
        groups = list(numbers)
        self._groups.append(groups)
        is_gpus = any(one is not None and one.is_gpus for one in groups)
        most = [NO_LIMIT if one is None else one.most for one in groups]
        held = [0 if one is None else self._held.get(one, 0) for one in groups]
        return Level(
            group=np.array(mine, dtype=np.int64)[self._user],
            amount=self._milli if is_gpus else np.ones_like(self._milli),
            most=np.array(most, dtype=np.int64),
            held=np.array(held, dtype=np.int64),
        )

    def _sentence(self, number: int, group: int, used: int, asked: int) -> str:
        one = self._groups[number][group]
        assert one is not None
        return one.sentence(asked, used=used, held=self._held.get(one, 0))


def _alike(
    level: Level, group: IntArray, used: IntArray, asked: IntArray
) -> tuple[IntArray, IntArray]:
    """(a row of each case, case[row]): rows of one case have the same sentence."""
    most = level.most[group]
    is_full = (used >= most) & (asked <= most)
    case, count = group.copy(), len(level.most)
    # By far the most are told of a limit that is reached, whatever they ask for.
    rest = np.flatnonzero(~is_full)
    is_large = asked[rest] > most[rest]
    parts, of_part = _numbered(asked[rest])
    levels, of_level = _numbered(np.where(is_large, 0, used[rest]))
    number = (group[rest] * levels + of_level) * parts + of_part
    more, case[rest] = _numbered(number)
    case[rest] += count
    first = np.full(count + more, -1, dtype=np.int64)
    first[case] = np.arange(len(case))
    renamed = np.cumsum(first >= 0) - 1
    return first[first >= 0], renamed[case]


def _numbered(column: IntArray) -> tuple[int, IntArray]:
    """(how many values there are, the number of each)."""
    values = np.unique(column)
    return len(values), np.searchsorted(values, column)
