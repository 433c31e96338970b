"""Rows of a list, made once and kept while nothing they show has changed.

Records are frozen, so a row holds as long as it was made from these very records and
the reason to wait says the same. Reads the board; decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count

from dorabatch.daemon.cycle.waiting_reason import waiting_reason
from dorabatch.daemon.state.last_plan import LastPlan
from dorabatch.daemon.views.cell_texts import duration, run_seconds
from dorabatch.daemon.views.sight import without
from dorabatch.daemon.views.silence import silence
from dorabatch.daemon.views.summary import summarize_containers
from dorabatch.daemon.views.table_layout import Row, cells_of
from dorabatch.daemon.views.workload_rows import (
    WORKLOAD_CELLS,
    WORKLOAD_COLUMNS,
    workload_row,
)
from dorabatch.queue.records import Container, Workload, WorkloadId
from dorabatch.queue.states import State

_KEPT_MAX = 50_000
_TIME = WORKLOAD_COLUMNS.index("time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A workload as a list shows it.

    `cells` are the texts of the usual columns. `waits` is the container whose reason
    to wait is shown; `started_at` is set while the run time goes on; `silence` says
    which node does not answer; `hidden` are the fields that whoever asks does not see.
    """

    workload: Workload
    containers: Sequence[Container]
    row: Row
    cells: tuple[str, ...]
    waits: Container | None
    started_at: datetime | None
    silence: str = ""
    hidden: frozenset[str] = frozenset()


class KeptRows:
    """Rows by workload; each is checked against what it was made from.

    Written by whoever lists, read by the same: an entry is made whole and put in by
    one assignment. With each goes the number of the plan that it was last held
    against, so that many lists of one plan look at its reasons once.
    """

    def __init__(self) -> None:
        self._kept: dict[WorkloadId, tuple[int, Listed]] = {}
        self._numbers = count(1)
        self._plan: tuple[LastPlan | None, int] = (None, 0)

    def listed(
        self,
        last: LastPlan,
        workload: Workload,
        containers: Sequence[Container],
        now: datetime,
    ) -> Listed:
        """The workload's row as of now."""
        number = self._number_of(last)
        seen, kept = self._kept.get(workload.workload_id, (0, None))
        is_same = kept is not None and _is_of(kept, workload, containers)
        if kept is None or not (is_same and (seen == number or _waits_as(kept, last))):
            kept = make_listed(last, workload, containers, now)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            seen = 0
        if seen != number:
            self._kept[workload.workload_id] = (number, kept)
        return kept if kept.started_at is None else _at(kept, now)

    def _number_of(self, last: LastPlan) -> int:
        plan, number = self._plan
        if plan is not last:
            number = next(self._numbers)
            self._plan = (last, number)
        return number


def make_listed(
    last: LastPlan, workload: Workload, containers: Sequence[Container], now: datetime
) -> Listed:
    """A workload's row, made afresh."""
    summary = summarize_containers(containers)
    row = workload_row(last, workload, summary, now)
    waits = None
    if summary.state is State.QUEUED:
        waits = next(c for c in containers if c.state is State.QUEUED)
    return Listed(
        workload=workload,
        containers=containers,
        row=row,
        cells=cells_of(row, WORKLOAD_CELLS, WORKLOAD_COLUMNS),
        waits=waits,
        started_at=summary.started_at if workload.ended_at is None else None,
        silence=silence(last, containers),
    )


def less(listed: Listed, hidden: frozenset[str]) -> Listed:
    """The same without the fields that are hidden from whoever asks."""
    if not hidden:
        return listed
    row = without(listed.row, hidden)
    cells = cells_of(row, WORKLOAD_CELLS, WORKLOAD_COLUMNS)
    return replace(listed, row=row, cells=cells, hidden=hidden)


def _is_of(kept: Listed, workload: Workload, containers: Sequence[Container]) -> bool:
    return kept.workload is workload and kept.containers == containers


def _waits_as(kept: Listed, last: LastPlan) -> bool:
    if kept.silence != silence(last, kept.containers):
        return False
    if kept.waits is None:
        return True
    row = kept.row
    return waiting_reason(last, kept.waits) == (row["reason_code"], row["reason"])


def _at(kept: Listed, now: datetime) -> Listed:
    seconds = run_seconds(kept.started_at, kept.workload.ended_at, now)
    cells = (*kept.cells[:_TIME], duration(seconds), *kept.cells[_TIME + 1 :])
    return replace(kept, row={**kept.row, "seconds": seconds}, cells=cells)
