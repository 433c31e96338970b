"""Roles given to users: only those that exist, and none above the giver's own.

What is above is decided in `rights`; this asks it of whatever a changed User adds.
Gives nothing by itself.
"""

from dataclasses import dataclass

from dorabatch.daemon.rights import (
    Caller,
    HeldRole,
    Place,
    exceeding,
    may,
    require,
)
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.errors import NotAllowed, UserError
from dorabatch.queue.records import Submitter
from dorabatch.resources.nearest import did_you_mean
from dorabatch.resources.people import UserSpec
from dorabatch.resources.verbs import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What may be given to whom in one zone."""

    zone: str
    rights: RightsBook
    users: DeclaredUsers

    def check(self, caller: Caller, user: str, spec: UserSpec) -> None:
        """Raise UserError for an unknown role, NotAllowed for what goes too far."""
        before = self.users.spec(user) or UserSpec()
        self._check_known(spec)
        self._check_added(caller, user, spec, "spec.resources")
        if spec.credits != before.credits:
            place = Place(zone=self.zone, owner=user)
            what = f"spec.credits of user {user!r}"
            require(caller, Verb.APPLY, "Usercredit", place, what)

    def check_forgotten(self, caller: Caller, user: str) -> None:
        """Raise NotAllowed where the default role is above the caller's rights."""
        self._check_added(caller, user, UserSpec(), f"without the User {user!r}")

    def works_in(self, user: str, spec: UserSpec, workspace: str) -> bool:
        """Whether somebody declared like this could submit in a workspace."""
        known = self.rights.caller(Submitter(user=user, uid=0, gid=0))
        someone = Caller(
            submitter=known.submitter,
            is_admin=known.is_admin,
            roles=self.rights.holder(user, spec),
            own=known.own,
        )
        place = Place(zone=self.zone, workspace=workspace)
        return may(someone, Verb.APPLY, "Workload", place)

    def _check_added(
        self, caller: Caller, user: str, spec: UserSpec, where: str
    ) -> None:
        """Raise NotAllowed for a role that the spec adds and the caller lacks."""
        before = self.users.spec(user) or UserSpec()
        held = set(map(str, self.rights.holder(user, before)))
        for role in self.rights.holder(user, spec):
            if str(role) not in held:
                _check_grantable(caller, role, where)

    def _check_known(self, spec: UserSpec) -> None:
        known = self.rights.roles()
        for number, grant in enumerate(spec.resources or ()):
            if grant.role not in known:
                hint = did_you_mean(grant.role, known)
                raise UserError(
                    f"spec.resources[{number}].role: there is no role {grant.role!r}"
                    f"{hint} (known: {', '.join(sorted(known))}); dora apply one first "
                    "(kind: Role)"
                )


def _check_grantable(caller: Caller, role: HeldRole, where: str) -> None:
    beyond = exceeding(caller, role)
    if beyond is not None:
        kind, verb = beyond
        raise NotAllowed(
            f"{where}: role {role} allows {verb} {kind}, which is "
            f"more than {caller.user} may do there themselves; nobody grants above "
            "their own rights"
        )
