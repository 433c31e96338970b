"""Routes on the share tree: show it, compare two of it, change it, make use anew.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.clock import Clock
from dorabatch.daemon.api.http import Call, Route, json_answer, text_answer, text_field
from dorabatch.daemon.api.policy_routes import changed_answer
from dorabatch.daemon.intake.policy_changes import PolicyChanges
from dorabatch.daemon.views.share_tree import (
    TREE_CELLS,
    TREE_COLUMNS,
    ShareTreeView,
    tree_rows,
)
from dorabatch.daemon.views.share_tree import compare as compare_shares
from dorabatch.daemon.views.table_layout import render_table
from dorabatch.errors import UserError
from dorabatch.fairshare.turn.account_tree import Account
from dorabatch.fairshare.turn.changes import Change
from dorabatch.resources.verbs import Verb

_ROW = ("action", "name", "parent", "shares", "reason")
_ACTIONS = ("add", "set", "remove")
_TOP = ("", "-", "/")
_SHARES_MAX = 10**11 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRoutes:
    """Who is promised what."""

    tree: ShareTreeView
    changes: PolicyChanges
    clock: Clock

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/shares", kind="Policy", verb=Verb.GET,
                handler=self.show, summary="The share tree", query=("name", "render"),
            ),
            Route(
                method="GET", path="/v1/shares/compare", kind="Policy", verb=Verb.GET,
                handler=self.compare, summary="Where two of the tree first differ",
                query=("first", "second", "render"),
            ),
            Route(
                method="POST", path="/v1/shares/rebuild", kind="Policy",
                verb=Verb.APPLY, handler=self.rebuild,
                summary="Make the cache of use anew from the runs",
            ),
            Route(
                method="POST", path="/v1/shares/account", kind="Policy",
                verb=Verb.APPLY, handler=self.change_account, body=_ROW,
                summary="Add, change or remove an account",
            ),
            Route(
                method="POST", path="/v1/shares/user", kind="Policy", verb=Verb.APPLY,
                handler=self.change_user, body=_ROW,
                summary="Put a user into an account, or take them out",
            ),
        )  # fmt: skip

    async def show(self, call: Call) -> Response:
        """GET /v1/shares: the tree, or what is below one of it."""
        found = await run_in_threadpool(self._rows, call.query.get("name", ""))
        if call.query.get("render") == "json":
            return json_answer(found)
        return text_answer(render_table(found, TREE_CELLS, TREE_COLUMNS))

    async def compare(self, call: Call) -> Response:
        """GET /v1/shares/compare: where two of the tree first differ."""
        first, second = call.query.get("first", ""), call.query.get("second", "")
        if not first or not second:
            raise UserError("two names are needed: first and second")
        shown = await run_in_threadpool(self.tree.show, self.clock.now())
        sentence = compare_shares(shown, first, second)
        if call.query.get("render") == "json":
            return json_answer({"first": first, "second": second, "sentence": sentence})
        return text_answer(f"{sentence}\n")

    async def change_account(self, call: Call) -> Response:
        """POST /v1/shares/account: add, set or remove an account."""
        return await self._change(call, is_user=False)

    async def change_user(self, call: Call) -> Response:
        """POST /v1/shares/user: set or remove a user's row."""
        return await self._change(call, is_user=True)

    async def rebuild(self, call: Call) -> Response:
        """POST /v1/shares/rebuild: make the cache of use anew from the runs."""
        changed = await run_in_threadpool(self.changes.rebuild)
        named = [
            {
                "name": name,
                "before_weighted": old / 3.6e6,
                "after_weighted": new / 3.6e6,
            }
            for name, (old, new) in changed.items()
        ]
        message = (
            f"{len(named)} of the cached uses were wrong and are corrected"
            if named
            else "the cached use was right"
        )
        return json_answer({"message": message, "changed": named})

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return tree_rows(self.tree.show(self.clock.now()), name)

    async def _change(self, call: Call, *, is_user: bool) -> Response:
        body = await call.body(frozenset(_ROW))
        action = text_field(body, "action")
        if action not in _ACTIONS:
            raise UserError(f"action: {action!r} (allowed: {', '.join(_ACTIONS)})")
        changes = await run_in_threadpool(
            self._change_row, call.caller.user, action, is_user, body
        )
        return json_answer(changed_answer(changes))

    def _change_row(
        self, actor: str, action: str, is_user: bool, body: dict[str, Any]
    ) -> list[Change]:
        reason, name = text_field(body, "reason"), text_field(body, "name")
        if action == "remove":
            return self.changes.remove(actor, reason, name, is_user=is_user)
        shares, written = _shares(body), body.get("parent")
        parent = None if written is None else text_field(body, "parent")
        parent = "" if parent in _TOP else parent
        wanted = Account(
            name=name,
            parent=parent or "",
            shares=1 if shares is None else shares,
            is_user=is_user,
        )
        # A user is a person of the site anyway: to say something of one adds the row.
        if action == "add" or (is_user and self.changes.is_new(name, is_user=True)):
            known = self.tree.known_users(self.clock.now())
            return self.changes.add(actor, reason, wanted, known)
        return self.changes.change(actor, reason, wanted, parent=parent, shares=shares)


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
