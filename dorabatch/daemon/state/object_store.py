"""Stored kinds other than workloads: nodes, zones, workspaces; save, load, delete.

Every statement on the `objects`, `node_facts` and `node_refusals` tables; each change
of an object is put into the history with who made it. Validates nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from dorabatch.daemon.state.node_view import Loss, Refusal
from dorabatch.db import Tx
from dorabatch.fairshare.store.share_store import add_changes
from dorabatch.fairshare.turn.changes import Change, document_key
from dorabatch.queue.tables import NODE_FACTS, NODE_REFUSALS, OBJECTS
from dorabatch.units import microseconds_of

_REFUSAL = ("since", "reason", "tries", "try_at", "with_gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object of a kind; `spec` is canonical JSON.

    Kinds without a zone or a workspace keep that part empty.
    """

    kind: str
    zone: str
    workspace: str
    name: str
    spec: str
    owner: str
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedObject:
    """The object that is to go; notes for listeners that it is gone."""

    kind: str
    zone: str
    workspace: str
    name: str


def save_object(tx: Tx, wanted: StoredObject, *, actor: str | None = None) -> str:
    """Create or change an object; "created", "updated" or "not changed".

    The history says that `actor` did it, or without one the owner of what is wanted.
    """
    actor = actor or wanted.owner
    before = get_object(
        tx.connection, wanted.kind, wanted.zone, wanted.workspace, wanted.name
    )
    if before is None:
        values = {name: getattr(wanted, name) for name in StoredObject.__slots__}
        tx.connection.execute(insert(OBJECTS).values(values))
        _remember(tx, wanted, "", wanted.spec, actor=actor, at=wanted.changed_at)
        tx.note(wanted)
        return "created"
    if before.spec == wanted.spec:
        return "not changed"
    tx.connection.execute(
        update(OBJECTS)
        .where(
            OBJECTS.c.kind == wanted.kind,
            OBJECTS.c.zone == wanted.zone,
            OBJECTS.c.workspace == wanted.workspace,
            OBJECTS.c.name == wanted.name,
        )
        .values(spec=wanted.spec, changed_at=wanted.changed_at)
    )
    _remember(tx, wanted, before.spec, wanted.spec, actor=actor, at=wanted.changed_at)
    tx.note(replace(wanted, owner=before.owner, created_at=before.created_at))
    return "updated"


def get_object(
    connection: Connection, kind: str, zone: str, workspace: str, name: str
) -> StoredObject | None:
    """One object, or None."""
    row = connection.execute(
        select(OBJECTS).where(
            OBJECTS.c.kind == kind,
            OBJECTS.c.zone == zone,
            OBJECTS.c.workspace == workspace,
            OBJECTS.c.name == name,
        )
    ).one_or_none()
    return None if row is None else StoredObject(**row._mapping)


def list_objects(
    connection: Connection, kind: str, zone: str | None = None
) -> list[StoredObject]:
    """All objects of a kind, by name; of one zone when it is named."""
    wanted = select(OBJECTS).where(OBJECTS.c.kind == kind).order_by(OBJECTS.c.name)
    if zone is not None:
        wanted = wanted.where(OBJECTS.c.zone == zone)
    return [StoredObject(**row._mapping) for row in connection.execute(wanted)]


def delete_object(tx: Tx, gone: RemovedObject, *, actor: str, at: datetime) -> bool:
    """Remove an object for good; whether there was one."""
    before = get_object(tx.connection, gone.kind, gone.zone, gone.workspace, gone.name)
    if before is None:
        return False
    tx.connection.execute(
        delete(OBJECTS).where(
            OBJECTS.c.kind == gone.kind,
            OBJECTS.c.zone == gone.zone,
            OBJECTS.c.workspace == gone.workspace,
            OBJECTS.c.name == gone.name,
        )
    )
    _remember(tx, gone, before.spec, "", actor=actor, at=at)
    tx.note(gone)
    return True


def save_facts(tx: Tx, zone: str, name: str, facts: str, seen_at: datetime) -> None:
    """Keep what a node told of itself, for the time after a restart."""
    where = (NODE_FACTS.c.zone == zone, NODE_FACTS.c.name == name)
    values = {"facts": facts, "seen_at": seen_at}
    done = tx.connection.execute(update(NODE_FACTS).where(*where).values(values))
    if not done.rowcount:
        row = {"zone": zone, "name": name, **values}
        tx.connection.execute(insert(NODE_FACTS).values(row))


def save_seen(tx: Tx, zone: str, name: str, seen_at: datetime) -> None:
    """Keep when a node was last known to be up."""
    where = (NODE_FACTS.c.zone == zone, NODE_FACTS.c.name == name)
    tx.connection.execute(update(NODE_FACTS).where(*where).values(seen_at=seen_at))


def save_loss(tx: Tx, zone: str, name: str, loss: Loss | None) -> None:
    """Keep that a node is lost, or with None that it is not any more."""
    where = (NODE_FACTS.c.zone == zone, NODE_FACTS.c.name == name)
    values = {
        "lost_at": loss.at if loss else None,
        "lost_by": loss.by if loss else None,
    }
    tx.connection.execute(update(NODE_FACTS).where(*where).values(values))


class KnownNode(NamedTuple):
    """What is stored of a node beside its document."""

    facts: str
    seen_at: datetime
    lost: Loss | None = None


def load_facts(connection: Connection, zone: str) -> dict[str, KnownNode]:
    """What is known of each node that was ever seen, by name."""
    statement = select(NODE_FACTS).where(NODE_FACTS.c.zone == zone)
    found = {}
    for row in connection.execute(statement):
        lost = None
        if row.lost_at is not None:
            by, at = row.lost_by or "", row.lost_at
            lost = Loss(by=by, at=at, settled_at=at)
        found[row.name] = KnownNode(row.facts, row.seen_at, lost)
    return found


def forget_facts(tx: Tx, zone: str, name: str) -> None:
    """Drop what was known of a removed node."""
    tx.connection.execute(
        delete(NODE_FACTS).where(NODE_FACTS.c.zone == zone, NODE_FACTS.c.name == name)
    )
    forget_refusal(tx, zone, name)


def save_refusal(tx: Tx, zone: str, name: str, refusal: Refusal) -> None:
    """Keep that a node refuses starts, for the time after a restart."""
    forget_refusal(tx, zone, name)
    row = {one: getattr(refusal, one) for one in _REFUSAL}
    tx.connection.execute(insert(NODE_REFUSALS).values(zone=zone, name=name, **row))


def load_refusals(connection: Connection, zone: str) -> dict[str, Refusal]:
    """node name -> its refusal, for those that refuse starts."""
    rows = connection.execute(select(NODE_REFUSALS).where(NODE_REFUSALS.c.zone == zone))
    return {
        row.name: Refusal(**{one: row._mapping[one] for one in _REFUSAL})
        for row in rows
    }


def forget_refusal(tx: Tx, zone: str, name: str) -> None:
    """The node takes starts again."""
    here = (NODE_REFUSALS.c.zone == zone, NODE_REFUSALS.c.name == name)
    tx.connection.execute(delete(NODE_REFUSALS).where(*here))


def _remember(
    tx: Tx,
    one: StoredObject | RemovedObject,
    old: str,
    new: str,
    *,
    actor: str,
    at: datetime,
) -> None:
    name = f"{one.workspace}/{one.name}" if one.workspace else one.name
    change = Change(
        at=microseconds_of(at),
        actor=actor,
        key=document_key(one.kind, name),
        old=old,
        new=new,
    )
    add_changes(tx.connection, one.zone, [change])
