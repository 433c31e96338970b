"""The declared nodes in the database: read, save, remove when nothing is held there.

Stores what it is given and judges no spec; knows no keeper and no connection.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine

from dorabatch.clock import Clock
from dorabatch.daemon.state.node_view import Refusal
from dorabatch.daemon.state.object_store import (
    KnownNode,
    RemovedObject,
    StoredObject,
    delete_object,
    forget_facts,
    get_object,
    list_objects,
    load_facts,
    load_refusals,
    save_object,
)
from dorabatch.db import Tx, Writer
from dorabatch.errors import ConflictError
from dorabatch.queue import store
from dorabatch.queue.states import HOLDING
from dorabatch.resources.cluster import NodeSpec

_KIND = "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNodes:
    """The Node documents of one zone."""

    zone: str
    engine: Engine
    writer: Writer
    clock: Clock

    def all(self) -> Iterator[tuple[str, NodeSpec, KnownNode | None]]:
        """(name, spec, what is known when it was ever seen), oldest first."""
        now = self.clock.now()
        with self.engine.connect() as connection:
            stored = list_objects(connection, _KIND, self.zone)
            known = load_facts(connection, self.zone)
        for one in sorted(stored, key=lambda one: one.created_at):
            past = known.get(one.name)
            yield one.name, load_node_spec(one.spec), past and _until(past, now)

    def refusals(self) -> dict[str, Refusal]:
        """Node name -> its refusal, of those that refuse starts."""
        with self.engine.connect() as connection:
            return load_refusals(connection, self.zone)

    def get(self, name: str) -> NodeSpec | None:
        """One node's spec, or None."""
        with self.engine.connect() as connection:
            found = get_object(connection, _KIND, self.zone, "", name)
        return load_node_spec(found.spec) if found else None

    def save(self, actor: str, name: str, spec: NodeSpec) -> str:
        """Create or change a node; "created", "updated" or "not changed"."""
        now = self.clock.now()
        wanted = StoredObject(
            kind=_KIND,
            zone=self.zone,
            workspace="",
            name=name,
            spec=node_spec_json(spec),
            owner=actor,
            created_at=now,
            changed_at=now,
        )
        return self.writer.do(lambda tx: save_object(tx, wanted))

    def remove(self, actor: str, name: str, *, and_then: Callable[[], None]) -> None:
        """Remove a node on which nothing is held; `and_then` in the writer's thread.

        That comes before the writer does anything else.
        """
        now = self.clock.now()
        gone = RemovedObject(kind=_KIND, zone=self.zone, workspace="", name=name)

        def write(tx: Tx) -> None:
            _check_empty(tx, self.zone, name)
            delete_object(tx, gone, actor=actor, at=now)
            forget_facts(tx, self.zone, name)
            and_then()

        self.writer.do(write)


def _until(known: KnownNode, now: datetime) -> KnownNode:
    """Nothing of it is later: the clock may have been set back before this daemon."""
    lost = known.lost
    if lost is not None:
        lost = replace(lost, settled_at=min(lost.at, now))
    return known._replace(seen_at=min(known.seen_at, now), lost=lost)


def _check_empty(tx: Tx, zone: str, name: str) -> None:
    """Raise ConflictError for a node that something holds a place on."""
    live = store.running_in(tx, zone, HOLDING)
    held = [one for one in live if one.hold and one.hold.node == name]
    if held:
        ids = [str(key) for key in sorted({one.workload_id for one in held})]
        count = "1 container" if len(held) == 1 else f"{len(held)} containers"
        of = f"workload{'' if len(ids) == 1 else 's'} {', '.join(ids[:5])}"
        raise ConflictError(
            f"node {name} still holds {count} ({of}); cordon it "
            f"(dnode cordon {name}) and wait, or cancel them; if it never comes back, "
            f"dnode lost {name} ends them"
        )


def node_spec_json(spec: NodeSpec) -> str:
    """A node's spec as stored."""
    return spec.model_dump_json(by_alias=True, exclude_none=True)


def load_node_spec(text: str) -> NodeSpec:
    """The spec that `node_spec_json` wrote."""
    return NodeSpec.model_validate_json(text)
