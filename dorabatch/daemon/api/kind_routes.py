"""Routes on kinds: apply, list, describe, delete; for every kind the same way.

What each kind can do stands in the table of kinds; the rules are in the modules that it
names, none is here.
"""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dorabatch.daemon.api.http import (
    IN_BODY,
    IN_PATH,
    Call,
    Route,
    json_answer,
    text_answer,
    text_field,
)
from dorabatch.daemon.intake.kind_table import (
    Applied,
    Belonging,
    KindEntry,
    KindTable,
    Named,
    nobodys,
)
from dorabatch.daemon.rights import (
    Place,
    may,
    may_everywhere,
    may_list,
    may_somewhere,
    refusal,
    require,
)
from dorabatch.daemon.views.table_layout import Cell, Row, render_table
from dorabatch.errors import DorabatchError, NotFound, UserError
from dorabatch.resources.document import Document
from dorabatch.resources.manifest import parse_manifest
from dorabatch.resources.verbs import Verb

_DOCUMENTS = ("manifest", "path", "accept_keys")
_SCOPE = ("zone", "workspace", "render")
_KIND_CELLS: dict[str, tuple[str, Cell]] = {
    "kind": ("KIND", lambda row: str(row["kind"])),
    "scope": ("LIVES IN", lambda row: str(row["scope"])),
    "words": ("WORDS", lambda row: " ".join(row["words"])),
    "verbs": ("VERBS", lambda row: " ".join(row["verbs"])),
}
_ONE = "/v1/kinds/{kind}/{name:path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRoutes:
    """What can be done with objects of any kind."""

    kinds: KindTable

    def routes(self) -> tuple[Route, ...]:
        """The routes of this file."""
        return (
            Route(
                method="POST", path="/v1/apply", kind=IN_BODY, verb=Verb.APPLY,
                handler=self.apply, body=_DOCUMENTS,
                summary="Create or change what documents describe",
            ),
            Route(
                method="POST", path="/v1/delete", kind=IN_BODY, verb=Verb.DELETE,
                handler=self.delete_documents, body=_DOCUMENTS,
                summary="Delete what documents name",
            ),
            Route(
                method="GET", path="/v1/kinds", kind="Zone", verb=Verb.GET,
                handler=self.list_kinds, query=("render",),
                summary="The kinds, and what can be done with each",
            ),
            Route(
                method="GET", path="/v1/kinds/{kind}", kind=IN_PATH, verb=Verb.GET,
                handler=self.list_kind, query=(*_SCOPE, "name"),
                summary="List the objects of a kind",
            ),
            Route(
                method="GET", path=_ONE, kind=IN_PATH, verb=Verb.DESCRIBE,
                handler=self.describe, summary="One object of a kind", query=_SCOPE,
            ),
            Route(
                method="DELETE", path=_ONE, kind=IN_PATH, verb=Verb.DELETE,
                handler=self.delete_one, summary="Delete one object",
                query=("zone", "workspace"),
            ),
        )  # fmt: skip

    async def apply(self, call: Call) -> Response:
        """POST /v1/apply: each document in order; a refusal does not undo others."""
        body = await call.body(frozenset(_DOCUMENTS))
        accepted = body.get("accept_keys") or {}
        if not isinstance(accepted, dict):
            raise UserError("accept_keys must be a JSON object")
        path = text_field(body, "path")
        manifest = parse_manifest(text_field(body, "manifest"), path=path)
        results, warnings, unpinned = [], list(manifest.warnings), []
        for document in manifest.documents:
            key = accepted.get(document.name)
            agreed = key if isinstance(key, str) else None
            done = await run_in_threadpool(self._applied, call, document, agreed)
            results.append(_result(done.kind, done.name, done.result, done.message))
            warnings += done.warnings
            unpinned += [dict(done.unpinned)] if done.unpinned else []
        return json_answer(
            {"results": results, "warnings": warnings, "unpinned": unpinned}
        )

    async def delete_documents(self, call: Call) -> Response:
        """POST /v1/delete: delete what the documents name, last applied first."""
        body = await call.body(frozenset(_DOCUMENTS))
        path = text_field(body, "path")
        manifest = parse_manifest(text_field(body, "manifest"), path=path)
        results = []
        for document in reversed(manifest.documents):
            named = Named(name=document.name, workspace=document.workspace or call.home)
            try:
                kind = self.kinds.of(document.kind)
                result, message = await run_in_threadpool(_delete, kind, call, named)
            except DorabatchError as error:
                result, message = "refused", error.message
            results.append(_result(document.kind, document.name, result, message))
        return json_answer({"results": results, "warnings": []})

    async def list_kinds(self, call: Call) -> Response:
        """GET /v1/kinds: every kind with its words, scope and verbs."""
        found: list[Row] = [
            {
                "kind": kind.name,
                "words": list(kind.words),
                "scope": str(kind.scope),
                "verbs": list(kind.verbs),
            }
            for kind in self.kinds
        ]
        if call.query.get("render") == "json":
            return json_answer(found)
        return text_answer(render_table(found, _KIND_CELLS, tuple(_KIND_CELLS)))

    async def list_kind(self, call: Call) -> Response:
        """GET /v1/kinds/{kind}: all of them, or the one of a name."""
        kind, query = self.kinds.of(call.kind), call.query
        call.check_zone(query.get("zone"))
        name = query.get("name")
        if kind.listing is not None and (name is None or kind.lists_one):
            media, body = await run_in_threadpool(kind.listing, call.caller, query)
            return Response(body, media_type=media)
        if name is None:
            found = await run_in_threadpool(_seen, kind, call)
        else:
            named = Named(name=name, workspace=call.workspace)
            found = [await run_in_threadpool(_found, kind, call, named, Verb.GET_ONE)]
        if query.get("render") == "json":
            return json_answer(found)
        return text_answer(render_table(found, dict(kind.cells), kind.columns))

    async def describe(self, call: Call) -> Response:
        """GET /v1/kinds/{kind}/{name}: the whole record of one."""
        kind = self.kinds.of(call.kind)
        call.check_zone(call.query.get("zone"))
        named = Named(name=call.word("name"), workspace=call.workspace)
        record = await run_in_threadpool(_found, kind, call, named, Verb.DESCRIBE)
        if call.query.get("render") == "json":
            return json_answer(record)
        return text_answer(kind.text(record))

    async def delete_one(self, call: Call) -> Response:
        """DELETE /v1/kinds/{kind}/{name}: end or forget one."""
        call.check_zone(call.query.get("zone"))
        named = Named(name=call.word("name"), workspace=call.workspace)
        result, message = await run_in_threadpool(
            _delete, self.kinds.of(call.kind), call, named
        )
        return json_answer(_result(call.kind, named.name, result, message))

    def _applied(self, call: Call, document: Document, agreed: str | None) -> Applied:
        """Apply one document; a refusal becomes its result."""
        try:
            kind = self.kinds.of(document.kind)
            if kind.apply is None or kind.target is None:
                raise UserError(f"{kind.name} is never applied: {kind.kept_by}")
            call.check_zone(document.zone, "metadata.zone")
            where = kind.target(document, call.home)
            _require(call, Verb.APPLY, kind, document.name, where)
            return kind.apply(call.caller, document, agreed)
        except DorabatchError as error:
            return Applied(
                kind=document.kind,
                name=document.name,
                result="refused",
                message=error.message,
            )


def _seen(kind: KindEntry, call: Call) -> list[Row]:
    """The objects of a kind that the caller may see."""
    assert kind.rows is not None
    return [
        kind.shown(call.caller, row)
        for row in kind.rows()
        if may_list(call.caller, kind.name, _place(call, kind.belongs(row)))
    ]


def _found(kind: KindEntry, call: Call, named: Named, verb: Verb) -> Row:
    """One object, if the caller may do this to it.

    Who may do it nowhere, or is shown it in no list, does not learn from the answer
    what there is. Of a kind with a list of its own `find` says what is not shown.
    """
    caller = call.caller
    if not may_somewhere(caller, verb, kind.name, call.zone):
        raise refusal(caller, verb, kind.name, f"{kind.name} {named.name!r}")
    is_open = kind.belongs is nobodys or kind.listing is not None
    try:
        record = kind.find(caller, named)
    except NotFound:
        if is_open or may_everywhere(caller, verb, kind.name, call.zone):
            raise
        raise _none_to(verb, kind, call, named) from None
    where = _place(call, kind.belongs(record))
    is_known = is_open or may_list(caller, kind.name, where)
    if not is_known and not may(caller, verb, kind.name, where):
        raise _none_to(verb, kind, call, named)
    require(caller, verb, kind.name, where, f"{kind.name.lower()} {named.name!r}")
    return kind.shown(caller, record)


def _none_to(verb: Verb, kind: KindEntry, call: Call, named: Named) -> NotFound:
    what = f"{kind.name.lower()} {named.name!r}"
    return NotFound(f"there is no {what} that {call.caller.user} may {verb}")


def _delete(kind: KindEntry, call: Call, named: Named) -> tuple[str, str]:
    if kind.delete is None:
        raise UserError(f"{kind.name} cannot be deleted: {kind.kept_by}")
    _found(kind, call, named, Verb.DELETE)
    return kind.delete(call.caller, named)


def _require(
    call: Call, verb: Verb, kind: KindEntry, name: str, where: Belonging
) -> None:
    what = f"{kind.name.lower()} {name!r}"
    require(call.caller, verb, kind.name, _place(call, where), what)


def _place(call: Call, where: Belonging) -> Place:
    return Place(zone=call.zone, workspace=where.workspace, owner=where.owner)


def _result(kind: str, name: str, result: str, message: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "result": result, "message": message}
