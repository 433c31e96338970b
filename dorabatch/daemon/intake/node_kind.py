"""Nodes as declared objects: add, change, pin a host key, cordon, remove.

Turns Node documents into the fleet's settings and keepers. Places and starts nothing.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from dorabatch.config import Settings
from dorabatch.daemon.intake.stored_nodes import StoredNodes
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.facts_json import facts_from_json
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import DeclaredNode, NodeState
from dorabatch.errors import ConflictError, NodeError, NotFound
from dorabatch.node.facts import HostKey
from dorabatch.node.ssh import scan_host_key
from dorabatch.resources.cluster import NodeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNode:
    """What became of a node."""

    name: str
    result: str
    message: str
    fingerprint: str | None


class Nodes:
    """The zone's declared nodes.

    One change of a node at a time: what is stored last is what the fleet has.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        fleet: Fleet,
        keepers: Keepers,
        stored: StoredNodes,
        cycle_wanted: threading.Event,
    ) -> None:
        self._ssh = settings.ssh
        self._fleet = fleet
        self._keepers = keepers
        self._stored = stored
        self._cycle_wanted = cycle_wanted
        self._changing = threading.Lock()

    def load(self, in_use: Collection[str] = ()) -> None:
        """Fill the fleet from the database and start a keeper for each node.

        Of two that are one machine the first goes on: one `in_use` by runs, or older.
        """
        refusals = self._stored.refusals()
        stored = sorted(self._stored.all(), key=lambda one: one[0] not in in_use)
        for name, spec, known in stored:
            settings = self._settings(name, spec)
            if known is None:
                self._fleet.put(settings)
            else:
                facts = facts_from_json(known.facts)
                self._fleet.put(
                    settings, facts, last_seen=known.seen_at, lost=known.lost
                )
            if name in refusals:
                self._keepers.refusing.know(name, refusals[name])
            self._start(settings)

    def scan(self, host: str, port: int) -> HostKey:
        """The SSH host key that a machine presents."""
        return scan_host_key(host, port, self._ssh.connect_seconds_max)

    def check_new(self, name: str, spec: NodeSpec) -> None:
        """Raise ConflictError for a machine that is a node under another name."""
        self._check_place(self._settings(name, spec))

    def save(
        self, caller: Caller, name: str, spec: NodeSpec
    ) -> tuple[SavedNode, HostKey | None]:
        """Create or change a node; also the key it presents when none is pinned."""
        self.check_new(name, spec)
        presented, note = None, ""
        if spec.host_key is None and self._pinned(name) is None:
            presented, note = self._presented(spec)
        with self._changing:
            self.check_new(name, spec)
            pinned = self._pinned(name)
            if spec.host_key is None and pinned is not None:
                spec = spec.model_copy(update={"host_key": pinned})
                presented, note = None, ""
            elif spec.host_key is not None and pinned != spec.host_key:
                was = f" (was {pinned})" if pinned else ""
                note = f"; SSH host key {spec.host_key} pinned{was}"
            result = self._stored.save(caller.user, name, spec)
            settings = self._settings(name, spec)
            if result != "not changed" or self._keepers.get(name) is None:
                self._fleet.put(settings)
                self._start(settings)
        return _saved(name, result, spec, note), presented

    def change(self, caller: Caller, name: str, **changes: object) -> SavedNode:
        """Change some fields of a node's spec."""
        with self._changing:
            spec = self._known(name).model_copy(update=changes)
            result = self._stored.save(caller.user, name, spec)
            settings = self._settings(name, spec)
            self._fleet.put(settings)
            if "host_key" in changes:
                self._start(settings)
        self._cycle_wanted.set()
        return _saved(name, result, spec)

    def take_back(self, caller: Caller, name: str) -> bool:
        """Use a node again that was cordoned or refused starts; whether it refused."""
        self.change(caller, name, scheduling_disabled=False)
        is_back = self._keepers.refusing.take_back(name, f"{caller.user} uncordoned it")
        self._cycle_wanted.set()
        return is_back

    def remove(self, caller: Caller, name: str) -> None:
        """Forget a node that nothing runs on."""
        with self._changing:
            self._known(name)
            view = self._fleet.get(name)
            try:
                # What the writer does next places nothing there any more.
                self._stored.remove(
                    caller.user, name, and_then=lambda: self._fleet.drop(name)
                )
            except SQLAlchemyError:
                if view is not None:
                    self._fleet.put_back(view)
                raise
            self._keepers.drop(name)
            self._keepers.refusing.forget(name)

    def pinned_key(self, name: str) -> tuple[NodeSpec, str | None]:
        """A node's spec and its pinned key."""
        spec = self._known(name)
        return spec, spec.host_key

    def probe(self, name: str) -> None:
        """Read the node's facts afresh."""
        keeper = self._keepers.get(name)
        if keeper is not None:
            return keeper.probe_again()
        self._known(name)
        raise ConflictError(
            f"node {name} is not looked at: no SSH host key is pinned; see it and pin "
            f"it with dnode rekey {name}"
        )

    def _check_place(self, wanted: DeclaredNode) -> None:
        """Raise ConflictError for a machine that is a node under another name."""
        place = (wanted.host, wanted.port)
        for view in self._fleet.views():
            known = view.settings
            if view.name != wanted.name and (known.host, known.port) == place:
                raise ConflictError(
                    f"node {wanted.name}: {wanted.place} is node "
                    f"{view.name} already, and its GPUs would count twice; give "
                    f"another address, or remove {view.name} first"
                )

    def _presented(self, spec: NodeSpec) -> tuple[HostKey | None, str]:
        try:
            key = self.scan(spec.ssh_host, spec.ssh_port)
        except NodeError as error:
            return None, f"; no SSH host key is pinned yet: {error.message}"
        return key, f"; presents {key.key_type} {key.fingerprint}, not pinned yet"

    def _start(self, settings: DeclaredNode) -> None:
        if settings.fingerprint is None:
            self._fleet.fault(
                settings.name,
                NodeState.QUARANTINED,
                "no SSH host key is pinned; see it and pin it with "
                f"dnode rekey {settings.name}",
            )
            return
        self._keepers.restart(settings.name)

    def _pinned(self, name: str) -> str | None:
        spec = self._stored.get(name)
        return spec.host_key if spec else None

    def _known(self, name: str) -> NodeSpec:
        """A node's spec as stored; raises NotFound."""
        spec = self._stored.get(name)
        if spec is None:
            names = ", ".join(v.name for v in self._fleet.views()) or "none"
            raise NotFound(f"no node {name!r} (known: {names})")
        return spec

    def _settings(self, name: str, spec: NodeSpec) -> DeclaredNode:
        return DeclaredNode(
            name=name,
            host=spec.ssh_host,
            port=spec.ssh_port if spec.is_ssh else self._ssh.port,
            user=spec.ssh_user or self._ssh.user,
            fingerprint=spec.host_key,
            docker_socket=spec.docker_socket,
            allows_gpu=spec.allows_gpu,
            allows_cpu=spec.allows_cpu,
            scheduling_disabled=spec.scheduling_disabled,
        )


def _saved(name: str, result: str, spec: NodeSpec, note: str = "") -> SavedNode:
    return SavedNode(
        name=name,
        result=result,
        message=f"node {name} {result}{note}",
        fingerprint=spec.host_key,
    )
