"""Roles, users' grants and workspaces in memory: which roles a caller holds now.

Filled at start and kept equal to the database after each commit; decides no question
of right (`rights.may` does). Written by the writer's thread, read by everybody: each
table is made anew and published by one assignment. What users hold is kept by whoever
asks first, for as long as the tables it was read from are those in force.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sqlalchemy import Connection

from dorabatch.config import Settings
from dorabatch.daemon.rights import (
    BUILT_IN_ROLES,
    OTHERS_ROLE,
    Caller,
    HeldRole,
)
from dorabatch.daemon.state.object_store import (
    RemovedObject,
    StoredObject,
    list_objects,
)
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.queue.records import Submitter
from dorabatch.resources.people import Grant, RoleSpec, UserSpec

ROLE, WORKSPACE = "Role", "Workspace"
NO_ROLE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What users hold by three tables, kept as they are asked for.

    A right changes with one of its tables, and then none of this is asked again.
    """

    specs: Mapping[str, UserSpec]
    declared: Mapping[str, RoleSpec]
    own: Mapping[str, frozenset[str]]
    roles: dict[str, tuple[HeldRole, ...]] = field(default_factory=dict)


class RightsBook:
    """Who holds what in one zone."""

    def __init__(
        self,
        settings: Settings,
        users: DeclaredUsers,
        accounts_of: Callable[[str], tuple[str, ...]],
    ) -> None:
        self.zone = settings.zone
        self._admins = frozenset(settings.admins)
        self._rights = settings.rights
        self._users = users
        self._accounts_of = accounts_of
        self._declared: Mapping[str, RoleSpec] = MappingProxyType({})
        self._owners: Mapping[str, str] = MappingProxyType({})
        self._own: Mapping[str, frozenset[str]] = MappingProxyType({})
        self._kept: _Held | None = None

    def load(self, connection: Connection) -> None:
        """Read all roles and workspaces."""
        self.apply(
            [*list_objects(connection, ROLE), *list_objects(connection, WORKSPACE)]
        )

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed."""
        ours = [
            one
            for one in changes
            if isinstance(one, StoredObject | RemovedObject)
            and one.kind in (ROLE, WORKSPACE)
        ]
        if not ours:
            return
        roles, owners = dict(self._declared), dict(self._owners)
        for change in ours:
            if isinstance(change, RemovedObject):
                (roles if change.kind == ROLE else owners).pop(change.name, None)
            elif change.kind == ROLE:
                roles[change.name] = RoleSpec.model_validate_json(change.spec)
            else:
                owners[change.name] = change.owner
        self._declared = MappingProxyType(roles)
        # `_own` comes last: what is held is kept by it, see _Held.
        self._owners = MappingProxyType(owners)
        self._own = _by_owner(owners)

    def roles(self) -> dict[str, RoleSpec]:
        """Every role by name; a declared one stands before a built-in one."""
        return {**BUILT_IN_ROLES, **self._declared}

    @property
    def default_role(self) -> str:
        """The role of whoever has no User object, or none."""
        return self._rights.default_role

    def owner_of(self, workspace: str) -> str | None:
        """The owner of a workspace that exists."""
        return self._owners.get(workspace)

    def has_home(self, user: str) -> bool:
        """Whether the workspace with a login's name is that login's."""
        owner = self._owners.get(user)
        return owner is None or owner == user or owner in self._admins

    def caller(self, submitter: Submitter) -> Caller:
        """Who asks, with the roles in force at this moment."""
        user = submitter.user
        return Caller(
            submitter=submitter,
            is_admin=user in self._admins,
            roles=self._held(user),
            own=self._own.get(user, frozenset()),
            accounts_of=self._accounts_of,
        )

    def holder(self, user: str, spec: UserSpec) -> tuple[HeldRole, ...]:
        """What a user would hold by this spec, less what everybody holds."""
        if spec.resources is None:
            return self._by_default(user)
        found = (self._granted(grant) for grant in spec.resources)
        return tuple(one for one in found if one is not None)

    def _held(self, user: str) -> tuple[HeldRole, ...]:
        specs, declared, own = self._users.specs, self._declared, self._own
        kept = self._kept
        if (
            kept is None
            or kept.specs is not specs
            or kept.declared is not declared
            or kept.own is not own
        ):
            kept = self._kept = _Held(specs=specs, declared=declared, own=own)
        held = kept.roles.get(user)
        if held is None:
            held = kept.roles[user] = self._looked_up(user)
        return held

    def _looked_up(self, user: str) -> tuple[HeldRole, ...]:
        spec = self._users.spec(user) or UserSpec()
        held = self.holder(user, spec)
        if self._rights.see_others == "all" and held:
            held = (*held, OTHERS_ROLE)
        return held

    def _by_default(self, user: str) -> tuple[HeldRole, ...]:
        name = self._rights.default_role
        permission = None if name == NO_ROLE else self.roles().get(name)
        if permission is None:
            return ()
        own = self._own.get(user, frozenset())
        places = sorted({user, *own} if self.has_home(user) else own)
        return tuple(
            HeldRole(role=name, permission=permission, workspace=one) for one in places
        )

    def _granted(self, grant: Grant) -> HeldRole | None:
        """The grant in force; None where its role is gone."""
        permission = self.roles().get(grant.role)
        if permission is None:
            return None
        return HeldRole(
            role=grant.role,
            permission=permission,
            kind=grant.kind,
            zone=grant.zone,
            workspace=grant.workspace,
            account=grant.account,
        )


def _by_owner(owners: Mapping[str, str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for name, owner in owners.items():
        found.setdefault(owner, set()).add(name)
    return MappingProxyType({owner: frozenset(own) for owner, own in found.items()})
