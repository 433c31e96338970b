"""Who may do what: the one rule that every route, list and command asks.

Pure: takes the caller with the roles they hold, and what is asked; anything that no
role grants is refused. Never looks anything up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dorabatch.errors import NotAllowed
from dorabatch.queue.records import Submitter, Workload
from dorabatch.resources.names import ALL
from dorabatch.resources.people import RoleSpec
from dorabatch.resources.verbs import PERSONAL, VERBS, WORKSPACED, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRole:
    """A role that somebody holds, and where it counts.

    `kind`, `zone` and `workspace` are a name or All. With an `account` there is no
    workspace: the role is about whatever the account's members own.
    """

    role: str
    permission: RoleSpec
    kind: str = ALL
    zone: str = ALL
    workspace: str | None = None
    account: str | None = None

    def __str__(self) -> str:
        where = f"account {self.account}" if self.account else str(self.workspace)
        kind = "" if self.kind == ALL else f" for {self.kind}"
        zone = "" if self.zone == ALL else f" of zone {self.zone}"
        return f"{self.role}{kind} in {where}{zone}"


def role_spec(**verbs: tuple[Verb, ...]) -> RoleSpec:
    """A role with these verbs for each kind."""
    return RoleSpec(permission={kind: tuple(many) for kind, many in verbs.items()})


_RUNS = frozenset({"Container", "Workload"})
_SEEN = (Verb.GET, Verb.GET_ONE, Verb.DESCRIBE)
USER, ADMIN, HEAD = "user", "admin", "head"
BUILT_IN_ROLES: dict[str, RoleSpec] = {
    USER: role_spec(
        CPU=_SEEN,
        Container=tuple(one for one in VERBS["Container"] if one != Verb.APPLY),
        GPU=_SEEN,
        Node=_SEEN,
        Policy=_SEEN,
        Report=(Verb.GET_ONE, Verb.DESCRIBE),
        Resourcecredit=_SEEN,
        Role=_SEEN,
        Storage=_SEEN,
        User=(Verb.GET_ONE, Verb.DESCRIBE, Verb.CREDITS),
        Usercredit=(Verb.GET_ONE, Verb.DESCRIBE),
        Volume=VERBS["Volume"],
        Workload=VERBS["Workload"],
        Workspace=VERBS["Workspace"],
        Zone=_SEEN,
    ),
    HEAD: role_spec(
        Container=(*_SEEN, Verb.EVENT, Verb.LOG),
        Report=_SEEN,
        User=_SEEN,
        Usercredit=_SEEN,
        Workload=(*_SEEN, Verb.EVENT, Verb.VERSION, Verb.LOG),
    ),
    ADMIN: RoleSpec(permission={ALL: (ALL,)}),
}
"""Roles that are there without a document; a Role of the same name replaces one."""


OTHERS_ROLE = HeldRole(
    role="everybody",
    permission=role_spec(Container=_SEEN, Workload=_SEEN),
    workspace=ALL,
)
"""What everybody holds where the site lets all see what others run."""


def _no_accounts(_user: str) -> tuple[str, ...]:
    return ()


def home_role(user: str) -> HeldRole:
    """What somebody holds of whom nothing was declared: their own workspace."""
    return HeldRole(role=USER, permission=BUILT_IN_ROLES[USER], workspace=user)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, from the socket's peer credentials, and the roles they hold.

    `roles` None: nothing was looked up, the built-in role in their own workspace.
    `own` are the workspaces they made; accounts_of(user) the accounts above a user.
    """

    submitter: Submitter
    is_admin: bool
    roles: tuple[HeldRole, ...] | None = None
    own: frozenset[str] = frozenset()
    accounts_of: Callable[[str], tuple[str, ...]] = _no_accounts

    @property
    def user(self) -> str:
        """The caller's user name."""
        return self.submitter.user

    @property
    def held(self) -> tuple[HeldRole, ...]:
        """The roles in force."""
        return (home_role(self.user),) if self.roles is None else self.roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the object of a question is; None where its kind has no such place."""

    zone: str
    workspace: str | None = None
    owner: str | None = None


def may(caller: Caller, verb: Verb, kind: str, place: Place) -> bool:
    """Whether the caller may do this to objects of a kind in a place."""
    if caller.is_admin:
        return True
    return any(_allows(role, caller, verb, kind, place) for role in caller.held)


def may_list(caller: Caller, kind: str, place: Place) -> bool:
    """Whether a list shows the object: whoever may Get it, and what is one's own."""
    if may(caller, Verb.GET, kind, place):
        return True
    is_own = kind in PERSONAL and _is_own(caller, kind, place.owner)
    return is_own and may(caller, Verb.GET_ONE, kind, place)


def may_everywhere(caller: Caller, verb: Verb, kind: str, zone: str) -> bool:
    """Whether the caller may do this in every workspace of a zone."""
    if caller.is_admin:
        return True
    return any(
        role.workspace == ALL
        and _speaks_of(role, kind, zone)
        and _permits(role, kind, verb)
        for role in caller.held
    )


def may_act_as(caller: Caller, owner: str) -> bool:
    """Whether the caller may change what runs under somebody's login.

    A right to a workspace is none to the login of those who work in it.
    """
    return caller.is_admin or caller.user == owner


def may_somewhere(caller: Caller, verb: Verb, kind: str, zone: str) -> bool:
    """Whether there is any place of a zone in which the caller may do this."""
    if caller.is_admin:
        return True
    return any(
        _speaks_of(role, kind, zone) and _permits(role, kind, verb)
        for role in caller.held
    )


def require(caller: Caller, verb: Verb, kind: str, place: Place, what: str) -> None:
    """Raise NotAllowed unless the caller may; `what` names the object."""
    if not may(caller, verb, kind, place):
        is_anothers = place.owner not in (None, caller.user)
        whose = f" belongs to {place.owner}" if is_anothers else ""
        raise refusal(caller, verb, kind, what + whose)


def place_of(workload: Workload) -> Place:
    """Where a workload and its containers are, and whose they are."""
    owner = workload.submitter.user
    return Place(zone=workload.zone, workspace=workload.workspace, owner=owner)


def require_run(
    caller: Caller,
    verb: Verb,
    workload: Workload,
    *,
    kind: str = "Workload",
    what: str = "workload",
) -> None:
    """Raise NotAllowed unless the caller may do this to a workload or to its runs.

    Told by its id alone: a refusal gives nobody a name that lists hide.
    """
    told = f"{what} {workload.workload_id}"
    require(caller, verb, kind, place_of(workload), told)


def refusal(caller: Caller, verb: Verb, kind: str, what: str) -> NotAllowed:
    """The sentence for what is not allowed: who, what, and what they hold."""
    held = ", ".join(map(str, caller.held)) or "no role"
    return NotAllowed(
        f"{what}: {caller.user} may not {verb} {kind} there (holds: {held}); an admin "
        "can grant a role that allows it"
    )


def exceeding(caller: Caller, wanted: HeldRole) -> tuple[str, Verb] | None:
    """A (kind, verb) of a role that its giver does not hold there, or None.

    Nobody grants above their own rights: who may write Users and Roles may hand on
    what they hold, in the places where they hold it.
    """
    if caller.is_admin:
        return None
    for kind, verb in _pairs(wanted):
        if not any(_contains(mine, wanted, kind, verb) for mine in caller.held):
            return kind, verb
    return None


def _allows(
    role: HeldRole, caller: Caller, verb: Verb, kind: str, place: Place
) -> bool:
    if not _speaks_of(role, kind, place.zone) or not _permits(role, kind, verb):
        return False
    if role.account is not None:
        owner = place.owner
        return owner is not None and role.account in (owner, *caller.accounts_of(owner))
    if kind in _RUNS and place.owner == caller.user:
        # Whose a run is may look at it and end it wherever it is; to submit there,
        # where nobody owns anything yet, takes a right to the workspace.
        return True
    if kind in PERSONAL:
        return _permits(role, kind, Verb.GET) or _is_own(caller, kind, place.owner)
    if kind not in WORKSPACED or role.workspace == ALL:
        return True
    return place.workspace is not None and _is_in(role, caller, place.workspace)


def _is_own(caller: Caller, kind: str, owner: str | None) -> bool:
    """Whether something is the caller's; the accounts above them they share."""
    if owner is None:
        return False
    is_shared = kind == "Usercredit" and owner in caller.accounts_of(caller.user)
    return owner == caller.user or is_shared


def _is_in(role: HeldRole, caller: Caller, workspace: str) -> bool:
    """Whether a role counts here: in its workspace, and in those made below it."""
    assert role.workspace is not None
    is_below = workspace.startswith(f"{role.workspace}.")
    return workspace == role.workspace or (is_below and workspace in caller.own)


def _speaks_of(role: HeldRole, kind: str, zone: str) -> bool:
    return role.kind in (ALL, kind) and role.zone in (ALL, zone)


def _permits(role: HeldRole, kind: str, verb: Verb) -> bool:
    """Get covers GetOne: who may list a kind may look at one."""
    permission = role.permission
    if verb not in VERBS.get(kind, ()):
        return False
    if permission.permits(kind, verb):
        return True
    return verb == Verb.GET_ONE and permission.permits(kind, Verb.GET)


def _pairs(wanted: HeldRole) -> Iterator[tuple[str, Verb]]:
    for kind, verbs in VERBS.items():
        if wanted.kind in (ALL, kind):
            yield from (
                (kind, verb) for verb in verbs if wanted.permission.permits(kind, verb)
            )


def _contains(mine: HeldRole, wanted: HeldRole, kind: str, verb: Verb) -> bool:
    """Whether one role gives a right wherever another would."""
    if mine.kind not in (ALL, kind) or mine.zone not in (ALL, wanted.zone):
        return False
    if not _permits(mine, kind, verb):
        return False
    if mine.account is not None:
        return mine.account == wanted.account
    if kind not in WORKSPACED and wanted.account is None:
        return True
    if kind in PERSONAL:
        return _permits(mine, kind, Verb.GET)
    return mine.workspace in (ALL, wanted.workspace)
