"""Roles as declared objects: apply, list, delete; nobody grants above their rights.

Stores what is declared; the roles in force are `state.rights_book`'s, what they allow
is decided in `rights`. Never gives a role to anybody: a User document does.
"""

from dataclasses import dataclass
from functools import partial

from dorabatch.daemon.intake.kind_table import (
    Applied,
    KindEntry,
    Named,
    Scope,
    nobodys,
    row_named,
)
from dorabatch.daemon.intake.stored_kinds import StoredKinds
from dorabatch.daemon.rights import (
    BUILT_IN_ROLES,
    Caller,
    HeldRole,
    Place,
    exceeding,
    may_list,
)
from dorabatch.daemon.state.object_store import StoredObject, list_objects
from dorabatch.daemon.state.rights_book import ROLE, RightsBook
from dorabatch.daemon.state.users import KIND as USER
from dorabatch.daemon.state.users import DeclaredUsers
from dorabatch.daemon.views.describe import describe_object
from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.errors import ConflictError, NotAllowed
from dorabatch.resources.document import Document
from dorabatch.resources.names import ALL
from dorabatch.resources.people import Role, RoleSpec

_USERS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKind:
    """The roles of a site."""

    rights: RightsBook
    users: DeclaredUsers
    stored: StoredKinds

    def entry(self) -> KindEntry:
        """Its entry in the table of kinds."""
        return KindEntry(
            name=ROLE,
            words=("roles",),
            scope=Scope.EVERYWHERE,
            cells=ROLE_CELLS,
            columns=tuple(ROLE_CELLS),
            rows=self.rows,
            find=partial(row_named, "role", self.rows),
            shown=self.shown,
            belongs=nobodys,
            text=describe_object,
            target=nobodys,
            apply=self.apply,
            delete=self.delete,
        )

    def rows(self) -> list[Row]:
        """Every role, built-in ones too."""
        with self.stored.engine.connect() as connection:
            stored = {one.name: one for one in list_objects(connection, ROLE)}
        return [
            _row(name, spec, stored.get(name), self._holders(name))
            for name, spec in sorted(self.rights.roles().items())
        ]

    def shown(self, caller: Caller, row: Row) -> Row:
        """The role with those of its holders whom the caller may see."""
        zone = self.rights.zone
        seen = [
            user
            for user in row["users"]
            if may_list(caller, USER, Place(zone=zone, owner=user))
        ]
        return {**row, "users": seen}

    def apply(self, caller: Caller, document: Document, _agreed: str | None) -> Applied:
        """Declare or change a role; NotAllowed for more than the caller holds."""
        assert isinstance(document, Role)
        self._check_grantable(caller, document.name, document.spec)
        text = document.spec.model_dump_json()
        wanted = self.stored.wanted(document, text, caller.user)
        result = self.stored.writer.do(
            lambda tx: self.stored.save_in(tx, wanted, actor=caller.user)
        )
        return Applied(kind=ROLE, name=document.name, result=result, message="")

    def delete(self, caller: Caller, named: Named) -> tuple[str, str]:
        """Forget a declared role that no user holds."""
        holders = self._holders(named.name)
        is_built_in = named.name in BUILT_IN_ROLES
        if holders and not is_built_in:
            shown = ", ".join(holders[:_USERS_SHOWN])
            raise ConflictError(
                f"role {named.name!r} is held by {len(holders)} users (such as "
                f"{shown}); take it out of their spec.resources first"
            )
        if named.name == self.rights.default_role and not is_built_in:
            raise ConflictError(
                f"role {named.name!r} is what the setting rights.default_role gives to "
                "whoever has no User object; change the setting first"
            )
        if is_built_in:
            self._check_grantable(caller, named.name, BUILT_IN_ROLES[named.name])
        if not self.stored.forget(ROLE, named.name, caller):
            raise ConflictError(
                f"role {named.name!r} is built in and was never declared; there is "
                "nothing to delete"
            )
        what = "is as built in again" if is_built_in else "removed"
        return "deleted", f"role {named.name} {what}"

    def _check_grantable(self, caller: Caller, name: str, spec: RoleSpec) -> None:
        """Whoever holds the role holds more by the change: the caller must too."""
        before = self.rights.roles().get(name, RoleSpec(permission={}))
        wanted = HeldRole(
            role=name,
            permission=added_verbs(before, spec),
            workspace=ALL,
        )
        beyond = exceeding(caller, wanted)
        if beyond is not None:
            kind, verb = beyond
            raise NotAllowed(
                f"role {name!r}: spec.permission.{kind}: {verb} is more than "
                f"{caller.user} may do everywhere themselves; nobody grants above "
                "their own rights"
            )

    def _holders(self, role: str) -> list[str]:
        return [
            name
            for name in self.users.names()
            if any(
                grant.role == role
                for grant in getattr(self.users.spec(name), "resources", None) or ()
            )
        ]


def added_verbs(before: RoleSpec, after: RoleSpec) -> RoleSpec:
    """What a changed role permits and did not permit before."""
    return RoleSpec(
        permission={
            kind: tuple(
                verb
                for verb in verbs
                if not (
                    ALL in before.permission.get(kind, ()) or _had(before, kind, verb)
                )
            )
            for kind, verbs in after.permission.items()
        }
    )


def _had(before: RoleSpec, kind: str, verb: str) -> bool:
    known = (*before.permission.get(kind, ()), *before.permission.get(ALL, ()))
    return verb in known or ALL in known


def _row(
    name: str, spec: RoleSpec, stored: StoredObject | None, holders: list[str]
) -> Row:
    changed = stored.changed_at.isoformat(timespec="seconds") if stored else None
    return {
        "kind": ROLE,
        "name": name,
        "permission": {kind: list(verbs) for kind, verbs in spec.permission.items()},
        "users": holders,
        "owner": stored.owner if stored else None,
        "changed_at": changed,
    }


def _kinds(row: Row) -> str:
    permission = row["permission"].items()
    return ", ".join(f"{kind} ({len(verbs)})" for kind, verbs in permission)


ROLE_CELLS: dict[str, tuple[str, Cell]] = {
    "name": ("ROLE", lambda row: str(row["name"])),
    "owner": ("OWNER", lambda row: row["owner"] or "built in"),
    "users": ("USERS", lambda row: str(len(row["users"]))),
    "kinds": ("KINDS(VERBS)", _kinds),
}
