"""Nodes as declared objects: add, change, pin a host key, cordon, remove.

Turns Node documents into the fleet's settings and keepers. Places and starts nothing.
"""

from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.facts_json import facts_from_json
from dorabatch.daemon.state.node_view import DeclaredNode, NodeState
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    delete_object,
    forget_facts,
    get_object,
    list_objects,
    load_facts,
    save_object,
)
from dorabatch.daemon.state.services import Services
from dorabatch.db import Tx
from dorabatch.errors import ConflictError, NodeError, NotFound
from dorabatch.node.facts import HostKey
from dorabatch.node.ssh import scan_host_key
from dorabatch.queue import store
from dorabatch.queue.states import HOLDING
from dorabatch.resources.cluster import NodeSpec

KIND = "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNode:
    """What became of a node."""

    name: str
    result: str
    message: str
    fingerprint: str | None


class Nodes:
    """The zone's declared nodes."""

    def __init__(self, services: Services, keepers: Keepers) -> None:
        self._services = services
        self._keepers = keepers

    def load(self) -> None:
        """Fill the fleet from the database and start a keeper for each node."""
        zone = self._services.settings.zone
        with self._services.engine.connect() as connection:
            stored = list_objects(connection, KIND, zone)
            facts = load_facts(connection, zone)
        for one in stored:
            known = facts.get(one.name)
            settings = self._settings(one.name, load_node_spec(one.spec))
            self._services.fleet.put(
                settings, facts_from_json(known[0]) if known else None
            )
            self._start(settings)

    def scan(self, host: str, port: int) -> HostKey:
        """The SSH host key that a machine presents."""
        seconds = self._services.settings.ssh.connect_seconds_max
        return scan_host_key(host, port, seconds)

    def check_new(self, name: str, spec: NodeSpec) -> None:
        """Raise ConflictError for a machine that is a node under another name."""
        self._check_place(self._settings(name, spec))

    def save(
        self, caller: Caller, name: str, spec: NodeSpec
    ) -> tuple[SavedNode, HostKey | None]:
        """Create or change a node; also the key it presents when none is pinned."""
        self._check_place(self._settings(name, spec))
        before = self._stored(name)
        pinned = load_node_spec(before.spec).host_key if before else None
        presented, note = None, ""
        if spec.host_key is None and pinned is not None:
            spec = spec.model_copy(update={"host_key": pinned})
        elif spec.host_key is None:
            presented, note = self._presented(spec)
        elif pinned != spec.host_key:
            was = f" (was {pinned})" if pinned else ""
            note = f"; SSH host key {spec.host_key} pinned{was}"
        result = self._write(caller, name, spec)
        settings = self._settings(name, spec)
        if result != "not changed" or self._keepers.get(name) is None:
            self._services.fleet.put(settings)
            self._start(settings)
        saved = SavedNode(
            name=name,
            result=result,
            message=f"node {name} {result}{note}",
            fingerprint=spec.host_key,
        )
        return saved, presented

    def change(self, caller: Caller, name: str, **changes: object) -> SavedNode:
        """Change some fields of a node's spec."""
        stored = self._stored(name)
        if stored is None:
            raise self._unknown(name)
        spec = load_node_spec(stored.spec).model_copy(update=changes)
        result = self._write(caller, name, spec)
        settings = self._settings(name, spec)
        self._services.fleet.put(settings)
        if "host_key" in changes:
            self._start(settings)
        self._services.cycle_wanted.set()
        return SavedNode(
            name=name,
            result=result,
            message=f"node {name} {result}",
            fingerprint=spec.host_key,
        )

    def remove(self, caller: Caller, name: str) -> None:
        """Forget a node that nothing runs on."""
        view = self._services.fleet.get(name)
        if self._stored(name) is None or view is None:
            raise self._unknown(name)
        zone, now = self._services.settings.zone, self._services.clock.now()
        gone = RemovedObject(kind=KIND, zone=zone, workspace="", name=name)

        def write(tx: Tx) -> None:
            _check_empty(tx, zone, name)
            delete_object(tx, gone, actor=caller.user, at=now)
            forget_facts(tx, zone, name)
            # What the writer does next places nothing there any more.
            self._services.fleet.drop(name)

        try:
            self._services.writer.do(write)
        except SQLAlchemyError:
            self._services.fleet.put(view.settings, view.facts)
            raise
        self._keepers.drop(name)

    def pinned_key(self, name: str) -> tuple[NodeSpec, str | None]:
        """A node's spec and its pinned key."""
        stored = self._stored(name)
        if stored is None:
            raise self._unknown(name)
        spec = load_node_spec(stored.spec)
        return spec, spec.host_key

    def probe(self, name: str) -> None:
        """Read the node's facts afresh."""
        keeper = self._keepers.get(name)
        if keeper is not None:
            return keeper.probe_again()
        if self._stored(name) is None:
            raise self._unknown(name)
        raise ConflictError(
            f"node {name} is not looked at: no SSH host key is pinned; see it and pin "
            f"it with dnode rekey {name}"
        )

    def _check_place(self, wanted: DeclaredNode) -> None:
        """Raise ConflictError for a machine that is a node under another name."""
        place = (wanted.host, wanted.port)
        for view in self._services.fleet.views():
            known = view.settings
            if view.name != wanted.name and (known.host, known.port) == place:
                raise ConflictError(
                    f"node {wanted.name}: {wanted.host}:{wanted.port} is node "
                    f"{view.name} already, and its GPUs would count twice; give "
                    f"another address, or remove {view.name} first"
                )

    def _presented(self, spec: NodeSpec) -> tuple[HostKey | None, str]:
        try:
            key = self.scan(spec.ssh_host, spec.ssh_port)
        except NodeError as error:
            return None, f"; no SSH host key is pinned yet: {error.message}"
        return key, f"; presents {key.key_type} {key.fingerprint}, not pinned yet"

    def _write(self, caller: Caller, name: str, spec: NodeSpec) -> str:
        now = self._services.clock.now()
        wanted = StoredObject(
            kind=KIND,
            zone=self._services.settings.zone,
            workspace="",
            name=name,
            spec=node_spec_json(spec),
            owner=caller.user,
            created_at=now,
            changed_at=now,
        )
        return self._services.writer.do(lambda tx: save_object(tx, wanted))

    def _start(self, settings: DeclaredNode) -> None:
        if settings.fingerprint is None:
            self._services.fleet.fault(
                settings.name,
                NodeState.QUARANTINED,
                "no SSH host key is pinned; see it and pin it with "
                f"dnode rekey {settings.name}",
            )
            return
        self._keepers.restart(settings.name)

    def _stored(self, name: str) -> StoredObject | None:
        zone = self._services.settings.zone
        with self._services.engine.connect() as connection:
            return get_object(connection, KIND, zone, "", name)

    def _unknown(self, name: str) -> NotFound:
        names = ", ".join(v.name for v in self._services.fleet.views()) or "none"
        return NotFound(f"no node {name!r} (known: {names})")

    def _settings(self, name: str, spec: NodeSpec) -> DeclaredNode:
        return DeclaredNode(
            name=name,
            host=spec.ssh_host,
            port=spec.ssh_port if spec.is_ssh else self._services.settings.ssh.port,
            user=spec.ssh_user or self._services.settings.ssh.user,
            fingerprint=spec.host_key,
            docker_socket=spec.docker_socket,
            allows_gpu=spec.allows_gpu,
            allows_cpu=spec.allows_cpu,
            scheduling_disabled=spec.scheduling_disabled,
        )


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
            f"(dnode cordon {name}) and wait, or cancel them"
        )


def node_spec_json(spec: NodeSpec) -> str:
    """A node's spec as stored."""
    return spec.model_dump_json(by_alias=True, exclude_none=True)


def load_node_spec(text: str) -> NodeSpec:
    """The spec that `node_spec_json` wrote."""
    return NodeSpec.model_validate_json(text)
