"""Zones and workspaces: kinds that are stored and listed, with little behaviour.

A workspace may only go when nothing live is left in it.
"""

from typing import Any

from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.workload_kind import Applied
from dorabatch.daemon.rights import Caller, check_new_workspace, check_workspace
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    delete_object,
    list_objects,
    save_object,
)
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.rows import Cell, Row, render_table
from dorabatch.errors import ConflictError, NotFound
from dorabatch.resources.cluster import Zone
from dorabatch.resources.people import Workspace

_COLUMNS = ("name", "owner", "spec", "created_at")


class PlainKinds:
    """Stored kinds without a life of their own."""

    def __init__(self, services: Services, intake: Intake) -> None:
        self._services = services
        self._intake = intake

    def apply(self, caller: Caller, document: Zone | Workspace) -> Applied:
        """Store one; a workspace belongs to whoever makes it first."""
        name, kind = document.name, document.kind
        if kind == "Workspace":
            owner = self._intake.owner_of(name)
            if owner is not None:
                check_workspace(caller, name, owner)
            else:
                check_new_workspace(caller, name)
        now = self._services.clock.now()
        wanted = StoredObject(
            kind=kind,
            zone="",
            workspace="",
            name=name,
            spec=_spec_text(document),
            owner=caller.user,
            created_at=now,
            changed_at=now,
        )
        result = self._services.writer.do(lambda tx: save_object(tx, wanted))
        if kind == "Workspace" and result == "created":
            self._intake.know_workspace(wanted)
        return Applied(kind=kind, name=name, result=result, message="")

    def delete(self, caller: Caller, kind: str, name: str) -> tuple[str, str]:
        """Remove one that nothing uses."""
        if kind == "Workspace":
            owner = self._intake.owner_of(name)
            if owner is None:
                raise self._unknown(kind, name)
            check_workspace(caller, name, owner)
            board = self._services.board
            live = [n for w, n in board.live_names if w == name]
            if live:
                raise ConflictError(
                    f"workspace {name!r} holds {len(live)} live workloads (such as "
                    f"{live[0]!r}); cancel them first: dcancel --workspace {name} --all"
                )
        records = self.records(kind)
        if any(one["name"] == name and one["owner"] is None for one in records):
            raise ConflictError(
                f"zone {name!r} is the one that this dorad serves; no document was "
                "applied for it, so there is none to remove"
            )
        gone = RemovedObject(kind=kind, zone="", workspace="", name=name)
        now = self._services.clock.now()
        if not self._services.writer.do(
            lambda tx: delete_object(tx, gone, actor=caller.user, at=now)
        ):
            raise self._unknown(kind, name)
        self._intake.forget_workspace(name)
        return "deleted", f"{kind.lower()} {name} removed"

    def records(self, kind: str) -> list[Row]:
        """All of a kind."""
        with self._services.engine.connect() as connection:
            found = list_objects(connection, kind)
        records = [_record(one) for one in found]
        served = self._services.settings.zone
        if kind == "Zone" and all(one["name"] != served for one in records):
            records.append(_undeclared(served))
        return sorted(records, key=lambda one: str(one["name"]))

    def record(self, kind: str, name: str) -> Row:
        """One of a kind."""
        for one in self.records(kind):
            if one["name"] == name:
                return one
        raise self._unknown(kind, name)

    def table(self, kind: str, records: list[Row]) -> str:
        """Records as text."""
        cells: dict[str, tuple[str, Cell]] = {
            name: (kind.upper() if name == "name" else name.upper(), _cell(name))
            for name in _COLUMNS
        }
        return render_table(records, cells, _COLUMNS)

    def _unknown(self, kind: str, name: str) -> NotFound:
        names = ", ".join(one["name"] for one in self.records(kind)) or "none"
        return NotFound(f"no {kind.lower()} {name!r} (known: {names})")


def _cell(name: str) -> Cell:
    return lambda row: "-" if row[name] is None else str(row[name])


def _record(one: StoredObject) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "owner": one.owner,
        "spec": one.spec,
        "created_at": one.created_at.isoformat(timespec="seconds"),
        "changed_at": one.changed_at.isoformat(timespec="seconds"),
    }


def _undeclared(zone: str) -> Row:
    """The zone of the daemon's settings, where no document says more of it."""
    said = {"owner": None, "spec": "{}", "created_at": None, "changed_at": None}
    return {"kind": "Zone", "name": zone, **said}


def _spec_text(document: Zone | Workspace) -> str:
    if isinstance(document, Zone):
        return document.spec.model_dump_json(by_alias=True, exclude_none=True)
    return "{}"
