"""Workload and Container in the table of kinds.

Says who answers for them; what a workload or its change is, is decided elsewhere and
never here. Containers are made and ended by the scheduler alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dorabatch.daemon.intake.kind_table import (
    Applied,
    Belonging,
    KindEntry,
    Named,
    Scope,
)
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.views.container_rows import CONTAINER_CELLS, CONTAINER_COLUMNS
from dorabatch.daemon.views.describe import (
    WorkloadRecords,
    describe_object,
    describe_workload,
)
from dorabatch.daemon.views.listing import WorkloadListing, parse_question
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.daemon.views.table_layout import Row
from dorabatch.daemon.views.workload_rows import WORKLOAD_CELLS, WORKLOAD_COLUMNS
from dorabatch.errors import NotFound, UserError
from dorabatch.resources.document import Document
from dorabatch.resources.workload import WorkloadDocument

_REPLICA_DIGITS_MAX = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadEntries:
    """The two kinds of what runs."""

    applier: WorkloadApplier
    finder: WorkloadFinder
    listing: WorkloadListing
    records: WorkloadRecords

    def workload(self) -> KindEntry:
        """Workload: what to run."""
        return KindEntry(
            name="Workload",
            words=("workloads", "wk"),
            scope=Scope.WORKSPACE,
            cells=WORKLOAD_CELLS,
            columns=WORKLOAD_COLUMNS,
            listing=lambda caller, query: self._list(caller, query, view=""),
            lists_one=True,
            find=self._workload,
            belongs=_of_record,
            text=describe_workload,
            target=_of_document,
            apply=self._apply,
            delete=self._delete,
        )

    def container(self) -> KindEntry:
        """Container: one replica of a workload, as it was last seen."""
        return KindEntry(
            name="Container",
            words=("containers", "c"),
            scope=Scope.WORKSPACE,
            cells=CONTAINER_CELLS,
            columns=CONTAINER_COLUMNS,
            listing=lambda caller, query: self._list(caller, query, view="containers"),
            find=self._container,
            belongs=_of_record,
            text=describe_object,
            kept_by="containers are made and ended by the scheduler; cancel the "
            "workload (dcancel) or change its spec.replica.count",
        )

    def _list(
        self, caller: Caller, query: Mapping[str, str], *, view: str
    ) -> tuple[str, bytes]:
        name = query.get("name")
        asked = {**query, "view": view}
        question = parse_question(asked, [name] if name else [], caller.user)
        return self.listing.answer(question, caller)

    def _workload(self, caller: Caller, named: Named) -> Row:
        workload = self.finder.find(caller, named.name, named.workspace)
        return self.records.record(workload)

    def _container(self, caller: Caller, named: Named) -> Row:
        ref, _, replica = named.name.rpartition(".")
        is_number = replica.isdecimal() and len(replica) <= _REPLICA_DIGITS_MAX
        if not ref or not is_number:
            raise UserError(
                f"container {named.name!r}: write WORKLOAD.REPLICA, such as train.1"
            )
        record = self._workload(caller, Named(name=ref, workspace=named.workspace))
        for container in record["containers"]:
            if container["replica"] == int(replica):
                mine = [a for a in record["attempts"] if a["replica"] == int(replica)]
                return {**container, "attempts": mine}
        raise NotFound(f"workload {ref!r} has no container {replica}")

    def _apply(
        self, caller: Caller, document: Document, _agreed: str | None
    ) -> Applied:
        assert isinstance(document, WorkloadDocument)
        return self.applier.apply(caller, document)

    def _delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        workload = self.finder.find(caller, named.name, named.workspace)
        if workload.ended_at is not None:
            name = named.name
            raise NotFound(f"workload {name!r} has ended already; nothing to delete")
        return self.applier.delete(caller, workload), f"workload {named.name}"


def _of_record(record: Row) -> Belonging:
    return Belonging(workspace=record["workspace"], owner=record["user"])


def _of_document(document: Document, home: str) -> Belonging:
    return Belonging(workspace=document.workspace or home)
