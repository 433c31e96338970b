"""A parsed Workload and its caller -> an admitted submission or a sentence.

Fills in zone and workspace, has rights, bounds and whether it can ever run checked.
Decides nothing of these itself and stores nothing.
"""

import re
from dataclasses import dataclass

from dorabatch.clock import Clock
from dorabatch.config import Settings
from dorabatch.daemon.intake.admission_checks import check_site_bounds, check_turn
from dorabatch.daemon.intake.dependencies import DependencyNames
from dorabatch.daemon.intake.homes import Homes
from dorabatch.daemon.intake.possible import Possible
from dorabatch.daemon.rights import Caller, Place, may
from dorabatch.daemon.runs.container_request import check_startable
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.spec_units import demand_of_spec, remember_spec
from dorabatch.errors import UserError
from dorabatch.queue.records import NewWorkload
from dorabatch.resources.verbs import Verb
from dorabatch.resources.workload import WorkloadDocument, canonical_json, spec_digest

_KEY = re.compile(r"[A-Za-z0-9._-]{1,48}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Admits workloads."""

    settings: Settings
    policy: SitePolicy
    clock: Clock
    homes: Homes
    possible: Possible
    dependencies: DependencyNames

    def admit(
        self,
        caller: Caller,
        document: WorkloadDocument,
        *,
        name: str | None = None,
        submission_key: str | None = None,
    ) -> tuple[NewWorkload, list[str]]:
        """The submission to store, and warnings; raises Refused or NotAllowed."""
        zone, workspace = self.homes.place_of(caller, document)
        spec = document.spec
        for mount in spec.volumes:
            self.homes.check(caller, mount.workspace or workspace, Verb.USE, "Volume")
        warnings = check_site_bounds(spec, self.settings)
        is_first = may(caller, Verb.APPLY, "Policy", Place(zone=zone))
        check_turn(spec.priority, self.policy.settings, is_admin=is_first)
        check_startable(
            spec, caller.submitter, (zone, workspace), self.settings.containers
        )
        self.possible.check(demand_of_spec(spec, 1))
        dependency = self.dependencies.resolved(caller, spec.dependency, workspace)
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
            submitted_at=self.clock.now(),
            dependency=dependency,
        )
        return new, warnings


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
