"""The application that the server serves, and its description as OpenAPI.

Made of the routes of every file of this folder; what is not among them does not exist.
"""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from dorabatch.daemon.api.http import Border, Call, Route, json_answer
from dorabatch.resources.verbs import Verb


def make_app(border: Border, routes: Sequence[Route]) -> Starlette:
    """The application; raises InvariantError for a route without kind or verb."""
    every = [*routes, openapi_route(routes)]
    return Starlette(
        routes=[
            StarletteRoute(route.path, border.endpoint(route), methods=[route.method])
            for route in every
        ]
    )


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that tells of all the others."""

    async def openapi(_call: Call) -> Response:
        return json_answer(openapi_document(routes))

    return Route(
        method="GET",
        path="/openapi.json",
        kind="Zone",
        verb=Verb.GET,
        handler=openapi,
        summary="This description",
    )


def openapi_document(routes: Sequence[Route]) -> dict[str, object]:
    """The routes as an OpenAPI 3.1 document."""
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        path = route.path.replace(":path}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dorabatch", "version": version("dorabatch")},
        "paths": paths,
    }


def _operation(route: Route, path: str) -> dict[str, object]:
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in in_path
    ] + [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in route.query
    ]
    operation: dict[str, object] = {
        "summary": route.summary,
        "description": f"Needs the right to {route.verb} {route.kind}.",
        "operationId": f"{route.method.lower()}{path.replace('/', '-')}",
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {route.answer: {}}},
            "default": {
                "description": "A sentence",
                "content": {"application/json": {"schema": _ERROR}},
            },
        },
    }
    if route.body:
        schema = {
            "type": "object",
            "properties": {name: {} for name in route.body},
            "additionalProperties": False,
        }
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "exit_status": {"type": "integer"},
            },
        }
    },
}
