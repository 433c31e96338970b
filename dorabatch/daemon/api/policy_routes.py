"""Routes on the policy: its settings, their history, and the order that they make.

Each handler reads the request, calls one duty and shapes the answer; none decides.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    Call,
    Route,
    json_answer,
    text_answer,
    text_field,
    text_list,
)
from dorabatch.daemon.intake.policy_changes import PolicyChanges
from dorabatch.daemon.state.site_policy import CHANGES_SHOWN_MAX, SitePolicy
from dorabatch.daemon.views.summary import WorkloadFinder
from dorabatch.daemon.views.table_layout import Cell, render_table
from dorabatch.daemon.views.turns import TURN_CELLS, TURN_COLUMNS, Turns
from dorabatch.errors import UserError
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.turn.changes import Change
from dorabatch.fairshare.turn.settings import about, parse_assignments
from dorabatch.queue.records import Workload
from dorabatch.resources.verbs import Verb
from dorabatch.units import moment_of

_SET = ("set", "unset", "reason")
_CHANGES_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRoutes:
    """The settings of one zone's policy, and the order of its queue."""

    policy: SitePolicy
    changes: PolicyChanges
    turns: Turns
    finder: WorkloadFinder
    engine: Engine

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="GET", path="/v1/policy", kind="Policy", verb=Verb.GET,
                handler=self.settings, summary="The policy's settings in force",
                query=("render",),
            ),
            Route(
                method="POST", path="/v1/policy", kind="Policy", verb=Verb.APPLY,
                handler=self.change, summary="Change the policy's settings", body=_SET,
            ),
            Route(
                method="GET", path="/v1/policy/log", kind="Policy", verb=Verb.GET,
                handler=self.history, summary="Who changed what",
                query=("limit", "render"),
            ),
            Route(
                method="GET", path="/v1/priorities", kind="Workload", verb=Verb.GET,
                handler=self.priorities, query=("refs", "render"),
                summary="The terms of every waiting workload's priority",
            ),
        )  # fmt: skip

    async def settings(self, call: Call) -> Response:
        """GET /v1/policy: every setting in force and where it comes from."""
        found = [
            {
                "key": key,
                "value": text,
                "from": self.policy.source_of(key),
                "about": about(key),
            }
            for key, text in sorted(self.policy.settings.texts.items())
        ]
        if call.query.get("render") == "json":
            return json_answer(found)
        return text_answer(_table(found, ("key", "value", "from", "about")))

    async def change(self, call: Call) -> Response:
        """POST /v1/policy: set KEY=VALUE words and take keys back, all or none."""
        body = await call.body(frozenset(_SET))
        unset, words = list(text_list(body, "unset")), list(text_list(body, "set"))
        assignments = parse_assignments(words) if words or not unset else {}
        reason = text_field(body, "reason")
        changes = await run_in_threadpool(
            self.changes.set, call.caller.user, reason, assignments, unset
        )
        return json_answer(changed_answer(changes))

    async def history(self, call: Call) -> Response:
        """GET /v1/policy/log: who changed what, newest first."""
        text = call.query.get("limit", str(_CHANGES_SHOWN))
        if not text.isdecimal() or not 1 <= int(text) <= CHANGES_SHOWN_MAX:
            raise UserError(f"limit: {text!r} (allowed: 1 to {CHANGES_SHOWN_MAX})")
        found = await run_in_threadpool(self._history, call.zone, int(text))
        if call.query.get("render") == "json":
            return json_answer(found)
        columns = ("at", "actor", "key", "old", "new", "reason")
        return text_answer(_table(found, columns))

    async def priorities(self, call: Call) -> Response:
        """GET /v1/priorities: every term of what waits; of users or ids when named."""
        refs = [ref for ref in call.query.get("refs", "").split(",") if ref]
        found = await run_in_threadpool(self._turn_rows, refs, call)
        if call.query.get("render") == "json":
            return json_answer(found)
        return text_answer(render_table(found, TURN_CELLS, TURN_COLUMNS))

    def _history(self, zone: str, limit: int) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            changes = share_store.load_changes(connection, zone, limit=limit)
        return [_change_record(change) for change in changes]

    def _turn_rows(self, refs: list[str], call: Call) -> list[dict[str, Any]]:
        return self.turns.rows(self._wanted(refs, call), call.caller)

    def _wanted(self, refs: list[str], call: Call) -> Callable[[Workload], bool]:
        if not refs:
            return lambda _workload: True
        users = self.finder.users()
        named = {ref for ref in refs if ref in users}
        keys = {
            self.finder.find(call.caller, ref, call.home).workload_id
            for ref in refs
            if ref not in named
        }
        return lambda workload: (
            workload.submitter.user in named or workload.workload_id in keys
        )


def changed_answer(changes: list[Change]) -> dict[str, Any]:
    """What changes of policy or shares came to."""
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
