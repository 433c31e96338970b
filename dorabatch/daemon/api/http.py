"""How a request reaches its handler, and how answers and errors become HTTP.

The one border that every route passes: it names the caller, asks whether they may do
this at all, and turns errors into answers. Decides nothing about workloads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dorabatch import log
from dorabatch.daemon.api.crowd import Visit, error_record
from dorabatch.daemon.api.unix_accounts import UnixAccounts
from dorabatch.daemon.rights import (
    Caller,
    Place,
    may_somewhere,
    refusal,
    require,
    require_run,
)
from dorabatch.daemon.state.rights_book import RightsBook
from dorabatch.errors import (
    ConflictError,
    DaemonUnavailable,
    DorabatchError,
    NodeError,
    NotAllowed,
    NotFound,
    TooMuchOpen,
    UserError,
    invariant,
)
from dorabatch.queue.records import Workload
from dorabatch.resources.verbs import VERBS, Verb

IN_PATH = "{kind}"
"""The kind of a route whose path names it."""
IN_BODY = "documents"
"""The kind of a route that takes documents: each is asked for by its own kind."""


class BodyTooLarge(UserError):
    """The request's body is larger than this daemon takes."""

    code = "BodyTooLarge"


_STATUS = (
    (BodyTooLarge, 413),
    (NotAllowed, 403),
    (NotFound, 404),
    (ConflictError, 409),
    (UserError, 400),
    (NodeError, 502),
    (TooMuchOpen, 429),
    (DaemonUnavailable, 503),
)
_HUNG_UP = 499
"""Nobody is there to read it; for the log alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as its handler gets it: who asks for what, and the request.

    `home` is the workspace that is meant where a request names none.
    """

    caller: Caller
    kind: str
    verb: Verb
    zone: str
    home: str
    request: Request
    body_bytes_max: int

    def begin_stream(self) -> None:
        """From here on it waits, and is no longer counted as at work.

        Raises TooMuchOpen where the caller has as many streams as one may have.
        """
        visit: Visit = self.request.state.visit
        visit.begin_stream()

    @property
    def query(self) -> dict[str, str]:
        """The query's fields."""
        return dict(self.request.query_params)

    def word(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def require(
        self,
        what: str,
        *,
        workspace: str | None = None,
        owner: str | None = None,
        verb: Verb | None = None,
    ) -> None:
        """Raise NotAllowed unless the caller may do this to one object."""
        place = Place(zone=self.zone, workspace=workspace, owner=owner)
        require(self.caller, verb or self.verb, self.kind, place, what)

    def require_run(self, workload: Workload, what: str = "workload") -> None:
        """Raise NotAllowed unless the caller may do this to a workload."""
        require_run(self.caller, self.verb, workload, kind=self.kind, what=what)

    @property
    def workspace(self) -> str:
        """The workspace that the query means."""
        return self.request.query_params.get("workspace") or self.home

    def check_zone(self, zone: str | None, field: str = "zone") -> None:
        """Raise UserError for a zone that is not served here; None means this one."""
        if zone not in (None, "", self.zone):
            raise UserError(
                f"{field}: {zone!r} is not served here (served: {self.zone})"
            )

    async def body(self, allowed: frozenset[str]) -> dict[str, Any]:
        """The request's JSON object, within the size bound and with known fields only.

        Raises UserError; a body that is too large is not read to its end.
        """
        value = await self._value()
        unknown = sorted(set(value) - allowed)
        if unknown:
            raise UserError(
                f"unknown field {unknown[0]!r} (allowed: {', '.join(sorted(allowed))})"
            )
        return value

    async def _value(self) -> dict[str, Any]:
        limit = self.body_bytes_max
        announced = self.request.headers.get("content-length", "0")
        parts, size = [], int(announced) if announced.isdigit() else 0
        if size <= limit:
            size = 0
            async for part in self.request.stream():
                size += len(part)
                parts.append(part)
                if size > limit:
                    break
        if size > limit:
            raise BodyTooLarge(f"the request has {size} bytes (allowed: {limit})")
        try:
            value = orjson.loads(b"".join(parts) or b"{}")
        except orjson.JSONDecodeError as error:
            raise UserError(f"the request is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise UserError("the request must be a JSON object")
        return value


Handler = Callable[[Call], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path, and what it does to which kind.

    A route cannot be written down without kind and verb; `Border` refuses to start
    with one whose kind or verb does not exist.
    """

    method: str
    path: str
    kind: str
    verb: Verb
    handler: Handler
    summary: str
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    answer: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """What stands between the socket and the handlers."""

    accounts: UnixAccounts
    rights: RightsBook
    kind_of: Callable[[str], str]
    home_of: Callable[[str], str]
    zone: str
    body_bytes_max: int

    def endpoint(self, route: Route) -> Endpoint:
        """A route's handler behind the border; InvariantError for a senseless route."""
        check_route(route)

        async def endpoint(request: Request) -> Response:
            try:
                return await route.handler(self._admitted(route, request))
            except DorabatchError as error:
                return error_answer(error)
            except ClientDisconnect:
                return Response(status_code=_HUNG_UP)
            except SQLAlchemyError as error:
                log.failure("database", error, path=request.url.path)
                return error_answer(
                    DorabatchError("the daemon's database failed; its log says why")
                )

        return endpoint

    def _admitted(self, route: Route, request: Request) -> Call:
        """The request of a caller who may do this somewhere; raises NotAllowed."""
        state = request.state
        caller = self.rights.caller(self.accounts.submitter_of(state.uid, state.gid))
        kind = route.kind
        if kind == IN_PATH:
            kind = self.kind_of(request.path_params["kind"])
        if kind != IN_BODY and not self._may(caller, route.verb, kind):
            raise refusal(caller, route.verb, kind, route.summary)
        return Call(
            caller=caller,
            kind=kind,
            verb=route.verb,
            zone=self.zone,
            home=self.home_of(caller.user),
            request=request,
            body_bytes_max=self.body_bytes_max,
        )

    def _may(self, caller: Caller, verb: Verb, kind: str) -> bool:
        """Who may look at one may ask for all: the list shows what they may see."""
        verbs = (Verb.GET, Verb.GET_ONE) if verb == Verb.GET else (verb,)
        return any(may_somewhere(caller, one, kind, self.zone) for one in verbs)


def check_route(route: Route) -> None:
    """Raise InvariantError for a route whose kind or verb does not exist."""
    name = f"route {route.method} {route.path}"
    is_bound = route.kind in (IN_PATH, IN_BODY) or route.kind in VERBS
    invariant(is_bound, f"{name}: no kind {route.kind!r}")
    verbs = VERBS.get(route.kind, tuple(Verb))
    invariant(route.verb in verbs, f"{name}: {route.verb!r} is no verb of {route.kind}")


def json_answer(value: object, status: int = 200) -> Response:
    """A JSON response."""
    body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    return Response(body, status, media_type="application/json")


def text_answer(text: str, warnings: list[str] | None = None) -> Response:
    """A text response; warnings travel in headers, one each."""
    response = Response(text, media_type="text/plain; charset=utf-8")
    for warning in warnings or ():
        response.headers.append("X-Dora-Warning", quote(warning))
    return response


def error_answer(error: DorabatchError) -> Response:
    """The response an error becomes."""
    status = next((s for kind, s in _STATUS if isinstance(error, kind)), 500)
    answer = json_answer(error_record(error), status)
    if isinstance(error, BodyTooLarge):
        answer.headers["Connection"] = "close"
    return answer


def text_field(body: dict[str, Any], name: str, default: str = "") -> str:
    """A text field of a request."""
    value = body.get(name, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UserError(f"{name}: {value!r} (allowed: text)")
    return value


def text_list(body: dict[str, Any], name: str) -> tuple[str, ...]:
    """A field of a request that is a list of texts; absent is empty."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UserError(f"{name}: {value!r} (allowed: a list of texts)")
    return tuple(value)
