"""What of others' workloads a list shows to somebody, and what it leaves out.

Asks `rights` who may see a workload whole, once for many alike; how much is shown of
the others is the site's setting. Never shows what a record alone would tell.
"""

from dorabatch.daemon.rights import Caller, may_list, place_of
from dorabatch.daemon.views.table_layout import Row
from dorabatch.queue.records import Workload
from dorabatch.queue.states import State

_NAMES = frozenset({"name", "workspace"})
HIDDEN: dict[str, frozenset[str]] = {
    "queue": _NAMES | {"image"},
    "names": frozenset({"image"}),
    "images": frozenset(),
    "all": frozenset(),
}
"""Fields of a row that are left out, by what the site lets people see of others."""
_NOTHING = "nothing"
_WHOLE: frozenset[str] = frozenset()


class Sight:
    """What one caller sees of one kind, for the time of one answer."""

    def __init__(self, caller: Caller, see_others: str, kind: str = "Workload") -> None:
        self.caller = caller
        self._see_others = see_others
        self._kind = kind
        self._known: dict[tuple[str, str, str], bool] = {}

    def lists(self, workload: Workload) -> bool:
        """Whether a list shows it to the caller at all."""
        return self._see_others != _NOTHING or self.sees(workload)

    def sees(self, workload: Workload) -> bool:
        """Whether a list shows it whole."""
        key = (workload.zone, workload.workspace, workload.submitter.user)
        if key not in self._known:
            self._known[key] = may_list(self.caller, self._kind, place_of(workload))
        return self._known[key]

    def hidden(self, workload: Workload) -> frozenset[str]:
        """The fields of its row that the caller does not see."""
        if self.sees(workload):
            return _WHOLE
        return HIDDEN.get(self._see_others, HIDDEN["queue"])


def without(row: Row, hidden: frozenset[str]) -> Row:
    """A row with hidden fields empty, and without what people or jobs wrote."""
    if not hidden:
        return row
    shown = {**row, **{name: None for name in hidden if name in row}}
    if row.get("reason"):
        shown["reason"] = _own_words(row)
    return shown


def _own_words(row: Row) -> str:
    """The reason as far as the queue itself says it: why something waits.

    Behind a colon comes what somebody gave as a reason, or what an attempt said; how a
    run ended is its owner's to know.
    """
    if row.get("state") != State.QUEUED:
        return ""
    words: str = row["reason"]
    return words.partition(": ")[0].partition("; attempt ")[0]
