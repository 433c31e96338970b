"""A parsed Workload and its caller -> an admitted submission or a sentence.

Fills in zone and workspace, checks rights, bounds and whether it can ever run.
Stores nothing.
"""

import re
from dataclasses import replace

from dorabatch.daemon.cycle.take_snapshot import cluster_arrays, mask_of
from dorabatch.daemon.intake.admission_checks import (
    check_can_ever_run,
    check_cpus_exist,
    check_models_exist,
    check_nodes_exist,
    check_site_bounds,
    check_turn,
)
from dorabatch.daemon.rights import Caller, check_workspace
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.object_store import StoredObject
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.snapshot import accepts_table
from dorabatch.daemon.state.spec_cache import remember_spec
from dorabatch.daemon.state.spec_units import demand_of_spec
from dorabatch.errors import Refused, UserError
from dorabatch.placer.arrays.types import ClusterArrays
from dorabatch.queue.demand import Demand, Restriction
from dorabatch.queue.store import NewWorkload
from dorabatch.resources.workload import WorkloadDocument, canonical_json, spec_digest

_VERDICTS_KEPT = 4096
_KEY = re.compile(r"[A-Za-z0-9._-]{1,48}")


class Intake:
    """Admits workloads; remembers verdicts while the nodes do not change."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._workspaces: dict[str, StoredObject] = {}
        self._capacity_seen = -1
        self._cluster: ClusterArrays | None = None
        self._usable: list[NodeView] = []
        self._possible: set[Demand] = set()

    def know_workspace(self, workspace: StoredObject) -> None:
        """A workspace exists (or has changed)."""
        self._workspaces[workspace.name] = workspace

    def forget_workspace(self, name: str) -> None:
        """A workspace is gone."""
        self._workspaces.pop(name, None)

    def owner_of(self, workspace: str) -> str | None:
        """The owner of a workspace that exists."""
        known = self._workspaces.get(workspace)
        return known.owner if known else None

    def place_of(self, caller: Caller, document: WorkloadDocument) -> tuple[str, str]:
        """(zone, workspace) the document means, rights checked."""
        people = self._services.people
        zone = document.zone or people.default_zone(caller.user)
        zone = zone or self._services.settings.zone
        if zone != self._services.settings.zone:
            raise Refused(
                f"metadata.zone: {zone!r} is not served by this daemon (it serves "
                f"{self._services.settings.zone!r})"
            )
        workspace = document.workspace or people.default_workspace(caller.user)
        check_workspace(caller, workspace, self.owner_of(workspace))
        if workspace != caller.user and workspace not in self._workspaces:
            raise Refused(
                f"metadata.workspace: no workspace {workspace!r}; make it with dora "
                "apply (kind: Workspace)"
            )
        return zone, workspace

    def admit(
        self,
        caller: Caller,
        document: WorkloadDocument,
        *,
        name: str | None = None,
        submission_key: str | None = None,
    ) -> tuple[NewWorkload, list[str]]:
        """The submission to store, and warnings; raises Refused or NotAllowed."""
        zone, workspace = self.place_of(caller, document)
        spec = document.spec
        for mount in spec.volumes:
            if mount.workspace is not None and mount.workspace != workspace:
                check_workspace(caller, mount.workspace, self.owner_of(mount.workspace))
        warnings = check_site_bounds(spec, self._services.settings)
        check_turn(
            spec.priority, self._services.policy.settings, is_admin=caller.is_admin
        )
        self._check_possible(demand_of_spec(spec, 1))
        text = canonical_json(spec)
        remember_spec(text, spec)
        new = NewWorkload(
            zone=zone,
            workspace=workspace,
            name=document.name if name is None else name,
            submitter=caller.submitter,
            spec_json=text,
            spec_digest=spec_digest(spec),
            replicas=spec.replicas,
            submission_key=scoped_key(caller, submission_key),
            submitted_at=self._services.clock.now(),
        )
        return new, warnings

    def _check_possible(self, demand: Demand) -> None:
        # Ports never make a workload impossible, and differ by replica.
        without_ports = replace(demand.restriction, ports=())
        demand = replace(demand, restriction=without_ports)
        fleet = self._services.fleet
        if self._capacity_seen != fleet.capacity_revision or self._cluster is None:
            self._capacity_seen = fleet.capacity_revision
            self._usable = [view for view in fleet.views() if view.facts is not None]
            self._cluster = cluster_arrays(self._usable, self._services.board)
            self._possible.clear()
        if demand in self._possible:
            return
        check_nodes_exist(demand.restriction, {v.name for v in fleet.views()})
        check_models_exist(demand, fleet.known_models())
        check_cpus_exist(demand.restriction, fleet.known_cpus())
        accepts = accepts_table([demand.gpu_models], self._cluster.models)[0]
        seen = {view.name for view in self._usable}
        if seen.issuperset(demand.restriction.nodes):
            # Of a named node that was never seen nobody knows what it can run.
            mask = None
            if demand.restriction != Restriction():
                mask = mask_of(demand.restriction, self._usable)
            check_can_ever_run(demand, self._cluster, accepts.tolist(), mask)
        if len(self._possible) < _VERDICTS_KEPT:
            self._possible.add(demand)


def scoped_key(caller: Caller, key: str | None) -> str | None:
    """A submission key that is the caller's own; raises UserError for an odd one."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise UserError(
            "submission_key: allowed are 1 to 48 letters, digits, dots, dashes and "
            "underscores"
        )
    return f"{caller.submitter.uid}:{key}"
