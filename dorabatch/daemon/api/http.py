"""What every handler needs, and how answers and errors become HTTP.

Translates errors once, at this border; decides nothing about workloads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from dorabatch import log
from dorabatch.daemon.api.server import caller_of
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.node_kind import Nodes
from dorabatch.daemon.intake.submissions import Submissions
from dorabatch.daemon.intake.workload_kind import WorkloadApplier
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.kept_rows import KeptRows
from dorabatch.errors import (
    ConflictError,
    DorabatchError,
    NodeError,
    NotAllowed,
    NotFound,
    UserError,
)

_STATUS = (
    (NotAllowed, 403),
    (NotFound, 404),
    (ConflictError, 409),
    (UserError, 400),
    (NodeError, 502),
)


class BodyTooLarge(UserError):
    """The request's body is larger than this daemon takes."""

    code = "BodyTooLarge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """References the handlers share."""

    services: Services
    keepers: Keepers
    intake: Intake
    submissions: Submissions
    applier: WorkloadApplier
    nodes: Nodes
    kept_rows: KeptRows = field(default_factory=KeptRows)

    def caller(self, request: Request) -> Caller:
        """Who asks, from the socket."""
        return caller_of(request.state, self.services.settings)

    def home(self, caller: Caller) -> str:
        """The workspace that is meant when a request names none."""
        return self.services.people.default_workspace(caller.user)


Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Context, Request], Awaitable[Response]]


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
    if isinstance(error, BodyTooLarge):
        status = 413
    body = {
        "code": error.code,
        "message": error.message,
        "exit_status": error.exit_status,
    }
    return json_answer({"error": body}, status)


def guarded(context: Context, handler: Handler) -> Endpoint:
    """A handler whose errors are answers."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(context, request)
        except DorabatchError as error:
            return error_answer(error)
        except SQLAlchemyError as error:
            log.failure("database", error, path=request.url.path)
            return error_answer(
                DorabatchError("the daemon's database failed; its log says why")
            )

    return endpoint


async def read_body(context: Context, request: Request) -> dict[str, Any]:
    """The request's JSON object, within the size bound.

    Raises UserError; a body that is too large is not read to its end.
    """
    limit = context.services.settings.limits.body_bytes_max
    announced = request.headers.get("content-length", "0")
    parts, size = [], int(announced) if announced.isdigit() else 0
    if size <= limit:
        size = 0
        async for part in request.stream():
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


def check_zone(context: Context, zone: str | None) -> None:
    """Raise UserError for a zone that is not served here; None is the one that is."""
    served = context.services.settings.zone
    if zone not in (None, served):
        raise UserError(f"zone: {zone!r} is not served here (served: {served})")


def known_keys(body: dict[str, Any], allowed: frozenset[str]) -> None:
    """Raise UserError for a field the request may not have (such as an identity)."""
    unknown = sorted(set(body) - allowed)
    if unknown:
        raise UserError(
            f"unknown field {unknown[0]!r} (allowed: {', '.join(sorted(allowed))})"
        )


def text_field(body: dict[str, Any], name: str, default: str = "") -> str:
    """A text field of a request."""
    value = body.get(name, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise UserError(f"{name}: {value!r} (allowed: text)")
    return value
