"""Kinds that are stored as they are declared: the writes and the rows they share.

Says nothing of what a kind means; each kind's own file does.
"""

from dataclasses import dataclass

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    delete_object,
    save_object,
)
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.db import Tx, Writer
from dorabatch.resources.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKinds:
    """Stores, changes and forgets declared objects."""

    engine: Engine
    writer: Writer
    clock: Clock

    def wanted(self, document: Document, spec: str, owner: str) -> StoredObject:
        """A document as it is to be stored; `spec` is canonical JSON."""
        now = self.clock.now()
        return StoredObject(
            kind=document.kind,
            zone="",
            workspace="",
            name=document.name,
            spec=spec,
            owner=owner,
            created_at=now,
            changed_at=now,
        )

    def save_in(self, tx: Tx, wanted: StoredObject, *, actor: str) -> str:
        """Create or change it in a transaction; what became of it."""
        return save_object(tx, wanted, actor=actor)

    def forget(self, kind: str, name: str, caller: Caller) -> bool:
        """Remove one; whether there was one."""
        gone = RemovedObject(kind=kind, zone="", workspace="", name=name)
        now = self.clock.now()
        return self.writer.do(
            lambda tx: delete_object(tx, gone, actor=caller.user, at=now)
        )


def stored_row(one: StoredObject) -> Row:
    """A stored object as a flat record."""
    return {
        "kind": one.kind,
        "name": one.name,
        "owner": one.owner,
        "spec": one.spec,
        "created_at": one.created_at.isoformat(timespec="seconds"),
        "changed_at": one.changed_at.isoformat(timespec="seconds"),
    }


def _cell(name: str) -> Cell:
    return lambda row: "-" if row[name] is None else str(row[name])


STORED_COLUMNS = ("name", "owner", "spec", "created_at")
STORED_CELLS: dict[str, tuple[str, Cell]] = {
    name: (name.upper(), _cell(name)) for name in STORED_COLUMNS
}
