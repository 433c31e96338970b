"""The kinds for people and rights: Workspace, User, Role.

Decides which kinds and verbs a role may name; `All` matches everything. It never
knows who is calling: whether a grant applies is decided in the daemon's `rights`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from dorabatch.resources.document import (
    Document,
    EmptySpec,
    Metadata,
    Part,
    problem_at,
)
from dorabatch.resources.names import (
    Name,
    NameOrAll,
    PersonName,
    check_mail_address,
    check_text,
    quoted,
    show,
)
from dorabatch.resources.nearest import did_you_mean
from dorabatch.resources.quantity import (
    read_credit_number,
    read_part,
    write_microcredits,
)
from dorabatch.resources.verbs import ALL_VERBS, VERBS

ENTRIES_MAX = 1_000


def check_policy_kind(value: object) -> str:
    """A kind of the table above, or All."""
    text = check_text(value)
    if text != "All" and text not in VERBS:
        raise ValueError(
            f"{quoted(text)} is not a kind{did_you_mean(text, VERBS)}; "
            f"known: All, {', '.join(VERBS)}"
        )
    return text


def _check_verb(kind: str, value: object) -> str:
    allowed = tuple(map(str, ALL_VERBS if kind == "All" else VERBS[kind]))
    text = check_text(value)
    if text != "All" and text not in allowed:
        raise ValueError(
            f"{quoted(text)} is not a verb of {kind}{did_you_mean(text, allowed)}; "
            f"known: All, {', '.join(allowed)}"
        )
    return text


def read_permission(value: object) -> dict[str, tuple[str, ...]]:
    """A role's map of kind to verbs."""
    if not isinstance(value, dict):
        raise ValueError(f"must map kinds to lists of verbs, not {show(value)}")
    permission: dict[str, tuple[str, ...]] = {}
    for name, verbs in value.items():
        kind = check_policy_kind(name)
        if not isinstance(verbs, list | tuple):
            raise ValueError(f"{kind} must have a list of verbs, not {show(verbs)}")
        checked = (_check_verb(kind, verb) for verb in verbs)
        permission[kind] = tuple(dict.fromkeys(checked))
    return permission


def write_permission(value: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The map as JSON has it."""
    return {kind: list(verbs) for kind, verbs in value.items()}


class Workspace(Document):
    """A logical division: whose things are whose."""

    rank: ClassVar[int] = 20

    kind: Literal["Workspace"]
    metadata: Metadata
    spec: EmptySpec | None = None


class RoleSpec(Part):
    """What a holder of the role may do."""

    permission: Annotated[
        dict[str, tuple[str, ...]],
        PlainValidator(read_permission),
        PlainSerializer(write_permission),
    ]

    def permits(self, kind: str, verb: str) -> bool:
        """Whether the role lists the verb for the kind."""
        for name in (kind, "All"):
            verbs = self.permission.get(name, ())
            if verb in verbs or "All" in verbs:
                return True
        return False


class Role(Document):
    """A named set of rights."""

    rank: ClassVar[int] = 30

    kind: Literal["Role"]
    metadata: Metadata
    spec: RoleSpec


class Defaults(Part):
    """What is meant when a document names no zone or workspace."""

    workspace: Name | None = None
    zone: Name | None = None


class Grant(Part):
    """A role for a kind in a zone, in a workspace or for what an account's members own.

    `account` stands instead of `workspace`: the right of a head of lab.
    """

    kind: Annotated[str, PlainValidator(check_policy_kind)]
    zone: NameOrAll
    workspace: NameOrAll | None = None
    account: Name | None = None
    role: Name

    @model_validator(mode="after")
    def _one_place(self) -> "Grant":
        if (self.workspace is None) == (self.account is None):
            raise problem_at(
                "workspace",
                "say where the role counts: a workspace (a name or All), or an account "
                "whose members it is about, and not both",
            )
        return self


class WeeklyCredits(Part):
    """How much a user may spend in a zone each week."""

    zone: Name
    weekly_microcredits: Annotated[
        int,
        PlainValidator(read_credit_number),
        PlainSerializer(write_microcredits),
        Field(alias="weekly"),
    ]
    on_exhaust: Annotated[
        Literal["demote", "hold", "stop"] | None, Field(alias="onExhaust")
    ] = None
    rollover: Annotated[float, PlainValidator(read_part)] | None = None


def _check_zones(limits: tuple[WeeklyCredits, ...]) -> tuple[WeeklyCredits, ...]:
    """A zone may have one limit."""
    seen: set[str] = set()
    for limit in limits:
        if limit.zone in seen:
            raise ValueError(f"zone {limit.zone!r} is listed twice; keep one of them")
        seen.add(limit.zone)
    return limits


class UserSpec(Part):
    """A user's defaults, rights and limits."""

    mail: Annotated[str, PlainValidator(check_mail_address)] | None = None
    default: Defaults = Defaults()
    resources: (
        Annotated[tuple[Grant, ...], Field(strict=False, max_length=ENTRIES_MAX)] | None
    ) = None
    """None: the site's default role; an empty list: no rights at all."""
    credits: Annotated[
        tuple[WeeklyCredits, ...],
        Field(strict=False, max_length=ENTRIES_MAX),
        AfterValidator(_check_zones),
    ] = ()


class PersonMetadata(Metadata):
    """The name of a person: their login, however the directory writes it."""

    name: PersonName


class User(Document):
    """A person with an account."""

    rank: ClassVar[int] = 40

    kind: Literal["User"]
    metadata: PersonMetadata
    spec: UserSpec = UserSpec()
