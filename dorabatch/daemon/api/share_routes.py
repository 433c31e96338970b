"""Routes on shares and policy: the tree, settings, their history, priorities.

Everybody may look; only admins change. Each handler reads the request, calls one duty
and shapes the answer; none decides.
"""

from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Context,
    json_answer,
    known_keys,
    read_body,
    text_answer,
    text_field,
)
from dorabatch.daemon.rights import check_admin
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.site_policy import CHANGES_SHOWN_MAX, Edit
from dorabatch.daemon.views import share_tree, turns
from dorabatch.daemon.views.rows import Cell, render_table
from dorabatch.daemon.views.summary import find_workload
from dorabatch.errors import UserError
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import Change
from dorabatch.fairshare.turn.settings import about, parse_assignments
from dorabatch.queue.records import Workload
from dorabatch.units import moment_of

_SET_KEYS = frozenset({"set", "unset", "reason"})
_ROW_KEYS = frozenset({"action", "name", "parent", "shares", "reason"})
_ACTIONS = ("add", "set", "remove")
_TOP = ("", "-", "/")
_CHANGES_SHOWN = 50
_SHARES_MAX = 10**11 - 1


async def tree(context: Context, request: Request) -> Response:
    """GET /v1/shares: the tree, or what is below one of it."""
    name = request.query_params.get("name", "")
    found = await run_in_threadpool(_tree_rows, context.services, name)
    if request.query_params.get("render") == "json":
        return json_answer(found)
    cells, columns = share_tree.TREE_CELLS, share_tree.TREE_COLUMNS
    return text_answer(render_table(found, cells, columns))


def _tree_rows(services: Services, name: str) -> list[dict[str, Any]]:
    shown = share_tree.show_tree(services, services.clock.now())
    return share_tree.tree_rows(shown, name)


async def compare(context: Context, request: Request) -> Response:
    """GET /v1/shares/compare: where two of the tree first differ."""
    query = request.query_params
    first, second = query.get("first", ""), query.get("second", "")
    if not first or not second:
        raise UserError("two names are needed: first and second")
    services = context.services
    shown = await run_in_threadpool(
        share_tree.show_tree, services, services.clock.now()
    )
    sentence = share_tree.compare(shown, first, second)
    if query.get("render") == "json":
        return json_answer({"first": first, "second": second, "sentence": sentence})
    return text_answer(f"{sentence}\n")


async def settings(context: Context, request: Request) -> Response:
    """GET /v1/policy: every setting in force and where it comes from."""
    policy = context.services.policy
    found = [
        {
            "key": key,
            "value": text,
            "from": policy.source_of(key),
            "about": about(key),
        }
        for key, text in sorted(policy.settings.texts.items())
    ]
    if request.query_params.get("render") == "json":
        return json_answer(found)
    return text_answer(_table(found, ("key", "value", "from", "about")))


async def change_settings(context: Context, request: Request) -> Response:
    """POST /v1/policy: set KEY=VALUE words and take keys back, all or none."""
    caller = context.caller(request)
    check_admin(caller, "changing the policy")
    body = await read_body(context, request)
    known_keys(body, _SET_KEYS)
    unset = _texts(body, "unset")
    words = _texts(body, "set")
    assignments = parse_assignments(words) if words or not unset else {}
    services = context.services
    edit = _edit(context, caller.user, text_field(body, "reason"))
    changes = await run_in_threadpool(
        services.policy.set, services.writer, edit, assignments, unset
    )
    services.cycle_wanted.set()
    return json_answer(_changed(changes))


async def change_account(context: Context, request: Request) -> Response:
    """POST /v1/shares/account: add, set or remove an account."""
    return await _row_changed(context, request, is_user=False)


async def change_user(context: Context, request: Request) -> Response:
    """POST /v1/shares/user: set or remove a user's row."""
    return await _row_changed(context, request, is_user=True)


async def _row_changed(
    context: Context, request: Request, *, is_user: bool
) -> Response:
    caller = context.caller(request)
    check_admin(caller, "changing the share tree")
    body = await read_body(context, request)
    known_keys(body, _ROW_KEYS)
    action = text_field(body, "action")
    if action not in _ACTIONS:
        raise UserError(f"action: {action!r} (allowed: {', '.join(_ACTIONS)})")
    edit = _edit(context, caller.user, text_field(body, "reason"))
    changes = await run_in_threadpool(
        _change_row, context.services, edit, action, is_user, body
    )
    context.services.cycle_wanted.set()
    return json_answer(_changed(changes))


def _change_row(
    services: Services, edit: Edit, action: str, is_user: bool, body: dict[str, Any]
) -> list[Change]:
    policy, writer = services.policy, services.writer
    name, shares = text_field(body, "name"), _shares(body)
    written = body.get("parent")
    parent = None if written is None else text_field(body, "parent")
    parent = "" if parent in _TOP else parent
    if action == "remove":
        return policy.remove(writer, edit, name, is_user=is_user)
    wanted = Account(
        name=name,
        parent=parent or "",
        shares=1 if shares is None else shares,
        is_user=is_user,
    )
    is_new = all(row.name != name or row.is_user != is_user for row in policy.rows)
    # A user is a person of the site anyway: to say something of one adds the row.
    if action == "add" or (is_user and is_new):
        known = share_tree.known_users(services, services.clock.now())
        return policy.add(writer, edit, wanted, known)
    return policy.change(writer, edit, wanted, parent=parent, shares=shares)


async def history(context: Context, request: Request) -> Response:
    """GET /v1/policy/log: who changed what, newest first."""
    text = request.query_params.get("limit", str(_CHANGES_SHOWN))
    if not text.isdecimal() or not 1 <= int(text) <= CHANGES_SHOWN_MAX:
        raise UserError(f"limit: {text!r} (allowed: 1 to {CHANGES_SHOWN_MAX})")
    found = await run_in_threadpool(_history, context.services, int(text))
    if request.query_params.get("render") == "json":
        return json_answer(found)
    columns = ("at", "actor", "key", "old", "new", "reason")
    return text_answer(_table(found, columns))


def _history(services: Services, limit: int) -> list[dict[str, Any]]:
    with services.engine.connect() as connection:
        changes = share_store.load_changes(
            connection, services.settings.zone, limit=limit
        )
    return [_change_record(change) for change in changes]


async def rebuild(context: Context, request: Request) -> Response:
    """POST /v1/shares/rebuild: make the cache of use anew from the runs."""
    check_admin(context.caller(request), "rebuilding the use")
    services = context.services
    changed = await run_in_threadpool(
        services.writer.do,
        lambda tx: services.usage.renew(tx, services.clock.now()),
    )
    named = [
        {"name": name, "before_weighted": old / 3.6e6, "after_weighted": new / 3.6e6}
        for name, (old, new) in changed.items()
    ]
    message = (
        f"{len(named)} of the cached uses were wrong and are corrected"
        if named
        else "the cached use was right"
    )
    return json_answer({"message": message, "changed": named})


async def priorities(context: Context, request: Request) -> Response:
    """GET /v1/priorities: every term of what waits; of users or ids when named."""
    refs = [ref for ref in request.query_params.get("refs", "").split(",") if ref]
    caller = context.caller(request).user
    found = await run_in_threadpool(_turn_rows, context.services, refs, caller)
    if request.query_params.get("render") == "json":
        return json_answer(found)
    return text_answer(render_table(found, turns.TURN_CELLS, turns.TURN_COLUMNS))


def _turn_rows(
    services: Services, refs: list[str], caller: str
) -> list[dict[str, Any]]:
    wanted = _wanted(services, refs, caller)
    taken = turns.take_turns(services, services.clock.now())
    return turns.turn_rows(services, taken, wanted)


def _wanted(
    services: Services, refs: list[str], caller: str
) -> Callable[[Workload], bool]:
    if not refs:
        return _everybody
    board = services.board
    users = {w.submitter.user for w in list(board.workloads.values())}
    named = {ref for ref in refs if ref in users}
    keys = {
        find_workload(services, ref, caller).workload_id
        for ref in refs
        if ref not in named
    }
    return lambda workload: (
        workload.submitter.user in named or workload.workload_id in keys
    )


def _everybody(_workload: Workload) -> bool:
    return True


def _edit(context: Context, actor: str, reason: str) -> Edit:
    return Edit(actor=actor, now=context.services.clock.now, reason=reason)


def _texts(body: dict[str, Any], name: str) -> list[str]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{name}: {value!r} (allowed: a list of texts)")
    return value


def _shares(body: dict[str, Any]) -> int | None:
    value = body.get("shares")
    if value is None:
        return None
    if isinstance(value, str) and value == "parent":
        return -1
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 12:
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not 0 <= value <= _SHARES_MAX:
        raise UserError(
            f"shares: {body['shares']!r} (allowed: a whole number from 0 to "
            f"{_SHARES_MAX}, or 'parent' to compete with the parent's shares)"
        )
    return int(value)


def _changed(changes: list[Change]) -> dict[str, Any]:
    if not changes:
        return {"message": "nothing changed: it is so already", "changes": []}
    lines = [
        f"{one.key}: {one.old or 'none'} -> {one.new or 'none'}" for one in changes
    ]
    return {
        "message": "\n".join(lines),
        "changes": [_change_record(change) for change in changes],
    }


def _change_record(change: Change) -> dict[str, Any]:
    moment = moment_of(change.at).isoformat(timespec="seconds")
    record = {name: getattr(change, name) for name in Change.__slots__}
    return {**record, "at": moment}


def _table(found: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    cells: dict[str, tuple[str, Cell]] = {
        name: (name.upper(), _cell(name)) for name in columns
    }
    return render_table(found, cells, columns)


def _cell(name: str) -> Cell:
    return lambda row: str(row[name]) or "-"
