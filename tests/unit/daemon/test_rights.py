"""The rule of rights against a model of it, and what nobody may hand on."""

import itertools
from collections.abc import Iterator

import pytest

from dorabatch.daemon.rights import (
    ADMIN,
    BUILT_IN_ROLES,
    HEAD,
    USER,
    Caller,
    HeldRole,
    Place,
    exceeding,
    may,
    may_somewhere,
    require,
)
from dorabatch.errors import NotAllowed
from dorabatch.queue.records import Submitter
from dorabatch.resources.people import RoleSpec
from dorabatch.resources.verbs import ALL_VERBS, PERSONAL, VERBS, WORKSPACED, Verb
from tests.oracles import rights_model as model

NAMED = {kind: tuple(map(str, verbs)) for kind, verbs in VERBS.items()}
PERMISSIONS = [
    {"Workload": ["Get", "Describe"]},
    {"Storage": ["Apply", "Get"]},
    {"Usercredit": ["GetOne", "Describe"], "Report": ["GetOne"]},
    {"All": ["Get"]},
    {"Volume": ["All"]},
    {},
    *(
        {k: list(v) for k, v in BUILT_IN_ROLES[n].permission.items()}
        for n in (USER, HEAD)
    ),
    {"All": ["All"]},
]
PLACES = [
    {"workspace": "ana"},
    {"workspace": "datasets", "kind": "Volume"},
    {"workspace": "All", "zone": "z1"},
    {"account": "lab1"},
    {"account": "lab1", "kind": "Report", "zone": "z2"},
]


def accounts_of(user: str) -> tuple[str, ...]:
    """The accounts above a user of the model's world."""
    return tuple(name for name, people in model.MEMBERS.items() if user in people)


def every_entry() -> Iterator[model.Entry]:
    """Roles of all sorts, in places of all sorts."""
    for permission, place in itertools.product(PERMISSIONS, PLACES):
        fixed = tuple((kind, tuple(verbs)) for kind, verbs in permission.items())
        yield model.Entry(permission=fixed, **place)


ENTRIES = tuple(every_entry())


def held(entry: model.Entry) -> HeldRole:
    """The same entry as the daemon holds it."""
    return HeldRole(
        role="r",
        permission=RoleSpec.model_validate(
            {"permission": {kind: list(verbs) for kind, verbs in entry.permission}}
        ),
        kind=entry.kind,
        zone=entry.zone,
        workspace=entry.workspace,
        account=entry.account,
    )


def caller_with(
    user: str, *roles: HeldRole, made: frozenset[str] = frozenset()
) -> Caller:
    """Somebody who holds just these roles."""
    return Caller(
        submitter=Submitter(user=user, uid=2001, gid=2001),
        is_admin=False,
        roles=roles,
        own=made,
        accounts_of=accounts_of,
    )


def differences(
    user: str, many: tuple[model.Entry, ...], made: frozenset[str]
) -> list[object]:
    """Where rule and model say different things."""
    someone = caller_with(user, *map(held, many), made=made)
    allowed = model.allowed(user, many, NAMED, made)
    return [
        (verb, thing)
        for thing in model.things(tuple(NAMED))
        for verb in ALL_VERBS
        if may(
            someone,
            verb,
            thing.kind,
            Place(zone=thing.zone, workspace=thing.workspace, owner=thing.owner),
        )
        is not ((str(verb), thing) in allowed)
    ]


@pytest.mark.mission("M57", "M58", "M63", "M64")
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_question_is_answered_as_in_the_model(entry: model.Entry) -> None:
    for made in (frozenset(), frozenset({"ana.paper"})):
        assert differences("ana", (entry,), made) == []


@pytest.mark.mission("M56")
@pytest.mark.parametrize("numbers", [(0, 13), (4, 18, 27), (38, 3, 21)])
def test_several_roles_add_up_in_any_order(numbers: tuple[int, ...]) -> None:
    known = ENTRIES
    chosen = [known[number] for number in numbers]
    for order in itertools.permutations(chosen):
        assert differences("bob", order, frozenset()) == []


def test_a_rule_that_forgets_the_zone_is_seen() -> None:
    entry = model.Entry(
        permission=(("Storage", ("Apply",)),), zone="z1", workspace="All"
    )
    anywhere = model.Entry(permission=entry.permission, workspace="All")
    right = model.allowed("ana", (entry,), NAMED, frozenset())
    assert right < model.allowed("ana", (anywhere,), NAMED, frozenset())


def test_no_role_is_no_right() -> None:
    nobody = caller_with("ana")
    for kind, verbs in VERBS.items():
        for verb in verbs:
            place = Place(zone="z1", workspace="ana", owner="ana")
            assert not may(nobody, verb, kind, place)
            assert not may_somewhere(nobody, verb, kind, "z1")


def test_an_admin_may_everything() -> None:
    root = Caller(
        submitter=Submitter(user="root", uid=0, gid=0), is_admin=True, roles=()
    )
    for kind, verbs in VERBS.items():
        assert all(may(root, verb, kind, Place(zone="z1")) for verb in verbs)


@pytest.mark.parametrize(
    "workspace", ["ana2", "an", "Ana", "ana.", "ana.paper", "", None]
)
def test_names_are_exact(workspace: str | None) -> None:
    ana = caller_with(
        "ana", HeldRole(role=USER, permission=BUILT_IN_ROLES[USER], workspace="ana")
    )
    assert may(ana, Verb.APPLY, "Workload", Place(zone="z1", workspace="ana"))
    assert not may(ana, Verb.APPLY, "Workload", Place(zone="z1", workspace=workspace))


def test_a_refusal_names_what_is_held() -> None:
    head = HeldRole(role=HEAD, permission=BUILT_IN_ROLES[HEAD], account="lab1")
    eva = caller_with("eva", head)
    with pytest.raises(NotAllowed) as caught:
        require(eva, Verb.DELETE, "Workload", Place(zone="z1"), "workload 7")
    said = caught.value.message
    assert "workload 7: eva may not Delete Workload there" in said
    assert "head in account lab1" in said


@pytest.mark.parametrize("verb", [Verb.GET, Verb.LOG, Verb.DESCRIBE])
def test_a_head_of_lab_looks_at_what_members_run(verb: Verb) -> None:
    head = HeldRole(role=HEAD, permission=BUILT_IN_ROLES[HEAD], account="lab1")
    eva = caller_with("eva", head)
    kind = "Container" if verb == Verb.LOG else "Workload"
    members = Place(zone="z1", workspace="ana", owner="ana")
    assert may(eva, verb, kind, members)
    assert may(eva, Verb.GET_ONE, "Usercredit", Place(zone="z1", owner="bob"))
    assert not may(eva, verb, kind, Place(zone="z1", workspace="eva", owner="eva"))
    assert not may(eva, Verb.DELETE, "Workload", members)


# -- nobody grants above their own rights -------------------------------------


def reach(entry: model.Entry, user: str) -> set[object]:
    """What somebody would be able to do with just this role."""
    return model.allowed(user, (entry,), NAMED, frozenset())


@pytest.mark.parametrize("mine", ENTRIES, ids=str)
def test_what_may_be_granted_is_never_more_than_is_held(mine: model.Entry) -> None:
    """Over every pair of roles: what passes gives a third nothing the giver lacks."""
    giver = caller_with("ana", held(mine))
    for wanted in ENTRIES:
        if exceeding(giver, held(wanted)) is None:
            beyond = {
                (verb, thing)
                for verb, thing in reach(wanted, "bob") - reach(mine, "ana")
                # One's own things are everybody's own: no giver has them.
                if thing.kind not in PERSONAL
                and not (thing.kind in model.RUNS and thing.owner == "bob")
            }
            assert beyond == set(), wanted


@pytest.mark.parametrize("mine", ENTRIES, ids=str)
def test_whoever_holds_a_role_may_hand_it_on_where_it_counts(mine: model.Entry) -> None:
    assert exceeding(caller_with("ana", held(mine)), held(mine)) is None


def test_grants_in_a_circle_raise_nobody() -> None:
    lesser = HeldRole(
        role="r",
        permission=RoleSpec(permission={"Workload": ("Get",)}),
        workspace="ana",
    )
    other = HeldRole(
        role="s", permission=RoleSpec(permission={"Volume": ("Get",)}), workspace="bob"
    )
    admin = HeldRole(role=ADMIN, permission=BUILT_IN_ROLES[ADMIN], workspace="All")
    ana, bob = caller_with("ana", lesser), caller_with("bob", other)
    assert exceeding(ana, admin) == ("CPU", Verb.GET)
    assert exceeding(ana, other) is not None
    # After each has given the other what they hold, both hold the two and no more.
    both = caller_with("ana", lesser, other)
    assert exceeding(both, lesser) is None
    assert exceeding(both, other) is None
    assert exceeding(both, admin) is not None
    assert exceeding(bob, lesser) is not None


def test_every_verb_of_the_enumeration_is_some_kinds() -> None:
    assert set(Verb) == set(ALL_VERBS)
    assert not WORKSPACED & PERSONAL
