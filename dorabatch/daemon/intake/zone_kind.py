"""Zones: declared for those who look for them; the one that is served is always listed.

Stores what is declared; serves no other zone than the settings say.
"""

from dataclasses import dataclass
from functools import partial

from dorabatch.daemon.intake.kind_table import (
    Applied,
    KindEntry,
    Named,
    Scope,
    nobodys,
    row_named,
)
from dorabatch.daemon.intake.stored_kinds import (
    STORED_CELLS,
    STORED_COLUMNS,
    StoredKinds,
    stored_row,
)
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.object_store import list_objects
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Row
from dorabatch.errors import ConflictError
from dorabatch.resources.cluster import Zone
from dorabatch.resources.document import Document

ZONE = "Zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneKind:
    """The zones that are known; `served` is this daemon's."""

    served: str
    stored: StoredKinds

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name=ZONE,
            words=("zones", "z"),
            scope=Scope.EVERYWHERE,
            cells=STORED_CELLS,
            columns=STORED_COLUMNS,
            rows=self.rows,
            find=partial(row_named, "zone", self.rows),
            belongs=nobodys,
            text=describe_object,
            target=nobodys,
            apply=self.apply,
            delete=self.delete,
        )

    def rows(self) -> list[Row]:
        """Every declared zone, and the one that is served."""
        with self.stored.engine.connect() as connection:
            rows = [stored_row(one) for one in list_objects(connection, ZONE)]
        if all(row["name"] != self.served for row in rows):
            rows.append(_undeclared(self.served))
        return sorted(rows, key=lambda row: str(row["name"]))

    def apply(self, caller: Caller, document: Document, _agreed: str | None) -> Applied:
        """Declare a zone."""
        assert isinstance(document, Zone)
        spec = document.spec.model_dump_json(by_alias=True, exclude_none=True)
        wanted = self.stored.wanted(document, spec, caller.user)
        result = self.stored.writer.do(
            lambda tx: self.stored.save_in(tx, wanted, actor=caller.user)
        )
        return Applied(kind=ZONE, name=document.name, result=result, message="")

    def delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        """Forget a declared zone."""
        if not self.stored.forget(ZONE, named.name, caller):
            raise ConflictError(
                f"zone {named.name!r} is the one that this dorad serves; no document "
                "was applied for it, so there is none to remove"
            )
        return "deleted", f"zone {named.name} removed"


def _undeclared(zone: str) -> Row:
    """The zone of the daemon's settings, where no document says more of it."""
    said = {"owner": None, "spec": "{}", "created_at": None, "changed_at": None}
    return {"kind": ZONE, "name": zone, **said}
