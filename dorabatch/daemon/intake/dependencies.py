"""What a submission waits for: names become ids, once and for good.

Refuses what does not exist, what the caller may not look at, and circles. What a
dependency holds back is decided in the cycle.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dorabatch.daemon.rights import Caller, require_run
from dorabatch.daemon.state.dependency_book import awaited_ids
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.db import Tx
from dorabatch.errors import NotFound, Refused
from dorabatch.queue.awaited_rows import awaited_facts, live_dependencies
from dorabatch.queue.records import Workload, WorkloadId
from dorabatch.resources.dependency import Condition, parse_dependency
from dorabatch.resources.verbs import Verb

FIELD = "spec.dependency"
_TOLD_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyNames:
    """Finds what a document's dependency names."""

    finder: WorkloadFinder

    def resolved(self, caller: Caller, text: str | None, workspace: str) -> str:
        """The same dependency with ids; empty for none. Refused or NotAllowed."""
        if text is None:
            return ""
        asked = parse_dependency(text)
        found = (self._found(caller, one, workspace) for one in asked.conditions)
        conditions = tuple(dict.fromkeys(found))
        return str(replace(asked, conditions=conditions))

    def _found(self, caller: Caller, asked: Condition, workspace: str) -> Condition:
        try:
            workload = self.finder.find(caller, asked.ref, workspace)
        except NotFound as error:
            raise Refused(f"{FIELD}: {asked.type}: {error.message}") from None
        require_run(caller, Verb.GET, workload)
        return replace(asked, ref=str(workload.workload_id))


def note_awaited(tx: Tx, workloads: Iterable[Workload]) -> None:
    """Note what has become so far of everything that these workloads wait for."""
    wanted = {key for one in workloads for key in awaited_ids(one.dependency)}
    for fact in awaited_facts(tx.connection, wanted):
        tx.note(fact)


def check_no_circle(tx: Tx, workload: Workload) -> None:
    """Raise Refused where a changed workload would wait for itself."""
    mine = workload.workload_id
    asked = live_dependencies(tx.connection, workload.zone)
    asked[mine] = workload.dependency
    way = _way_back(mine, asked)
    if len(way) == 1:
        raise Refused(f"{FIELD}: workload {mine} would wait for itself")
    if way:
        told = [str(key) for key in way[:_TOLD_MAX]]
        told += ["..."] if len(way) > _TOLD_MAX else []
        circle = " waits for ".join([*told, str(mine)])
        raise Refused(f"{FIELD}: {circle}: nobody would ever start")


def _way_back(start: WorkloadId, asked: Mapping[WorkloadId, str]) -> list[WorkloadId]:
    """The shortest circle from a workload to itself; empty: there is none."""
    came_from: dict[WorkloadId, WorkloadId] = {}
    line = [start]
    for one in line:
        for after in awaited_ids(asked.get(one, "")):
            if after == start:
                way = [one]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if after not in came_from:
                came_from[after] = one
                line.append(after)
    return []
