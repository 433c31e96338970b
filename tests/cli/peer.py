"""A small HTTP server with canned answers, as the peer of the commands in tests.

A real uvicorn on a real Unix socket. It keeps its state in a directory, so that it
can be killed and started again like a daemon:

    ID.log, ID.end     what a workload wrote; its outcome as JSON once it has ended
    ID.over            its first attempt has ended, the workload has not
    keys.json          submission key -> id
    seen.jsonl         every request: method, path, query, body
    die                when there: answer nothing to the next submission, and die
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

HOME = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
FINGERPRINT = "SHA256:" + "a" * 43
TABLE = "ID  NAME      STATE\n12  blue.red  R\n13  green     PD\n"
ROWS = [
    {"id": 12, "name": "blue.red", "workspace": "ana", "state": "running"},
    {"id": 13, "name": "green", "workspace": "ana", "state": "queued"},
]


def problem(status: int, code: str, message: str, exit_status: int) -> Response:
    body = {"code": code, "message": message, "exit_status": exit_status}
    return JSONResponse({"error": body}, status)


async def remember(request: Request) -> bytes:
    body = await request.body()
    line = {
        "method": request.method,
        "path": request.url.path,
        "query": request.url.query,
        "body": json.loads(body) if body else None,
    }
    with (HOME / "seen.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return body


async def submit(request: Request) -> Response:
    body = json.loads(await remember(request))
    busy = HOME / "busy"
    if busy.exists() and (times := int(busy.read_text())):
        busy.write_text(str(times - 1))
        return problem(429, "TooMuchOpen", "you have 32 requests at work", 6)
    options = body.get("options", {})
    if options.get("gpus") == "two":
        text = "option --gpus: 'two' is not a whole number"
        return problem(400, "BadRequest", text, 2)
    keys_path = HOME / "keys.json"
    keys = json.loads(keys_path.read_text()) if keys_path.exists() else {}
    number = keys.setdefault(body["submission_key"], 12 + len(keys))
    keys_path.write_text(json.dumps(keys))
    if (HOME / "die").exists():
        (HOME / "die").unlink()
        os._exit(1)
    headers = (
        {"X-Dora-Warning": "tabs%20are%208%20columns"}
        if "\t" in body.get("manifest", "")
        else {}
    )
    return PlainTextResponse(f"{number}\n", 201, headers=headers)


async def listing(request: Request) -> Response:
    await remember(request)
    if request.query_params.get("user") == "nobody":
        return problem(404, "NotFound", "no user 'nobody'; see dora get users", 2)
    if request.query_params.get("render") == "json":
        return JSONResponse(ROWS)
    if "rows" in request.query_params.get("columns", ""):
        count = int(request.query_params["columns"].removeprefix("rows"))
        return StreamingResponse(many_rows(count), media_type="text/plain")
    return PlainTextResponse(TABLE)


async def many_rows(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield f"{number:<8} workload-{number}\n".encode()


async def defrag(request: Request) -> Response:
    await remember(request)
    return PlainTextResponse("Nothing was moved.\n")


async def workload(request: Request) -> Response:
    await remember(request)
    ref, _, verb = request.path_params["rest"].rpartition("/")
    if not ref.startswith("12") and ref != "ana/blue.red":
        return problem(404, "NotFound", f"no workload '{ref}'; see dstat --all", 2)
    if verb == "why":
        return PlainTextResponse("no node has 2 free GPUs\n")
    if verb == "wait":
        return await wait(request, ref)
    return log(request, ref)


async def wait(request: Request, ref: str) -> Response:
    end = HOME / f"{ref}.end"
    for _ in range(int(float(request.query_params["seconds"]) * 50)):
        if end.exists():
            return JSONResponse({**json.loads(end.read_text()), "ended": True})
        await asyncio.sleep(0.02)
    return JSONResponse({"state": "running", "ended": False})


def log(request: Request, ref: str) -> Response:
    query = request.query_params
    path = HOME / f"{ref.replace('/', '_')}.log"
    offset = int(query.get("offset", 0))
    if "tail" in query and path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        offset = sum(map(len, lines[: len(lines) - int(query["tail"])]))
    headers = {
        "X-Dora-Offset": str(offset),
        "X-Dora-Attempt": query.get("attempt", "1"),
    }
    is_over = (HOME / f"{ref}.over").exists() and "attempt" not in query
    if query.get("attempt", "1") != "1":
        path = HOME / "later.log"
    pieces = follow(path, offset, HOME / f"{ref}.end", is_over=is_over)
    if "follow" not in query:
        return PlainTextResponse(path.read_bytes()[offset:], headers=headers)
    return StreamingResponse(pieces, headers=headers, media_type="text/plain")


async def follow(
    path: Path, offset: int, end: Path, *, is_over: bool
) -> AsyncIterator[bytes]:
    is_last = False
    while not is_last:
        is_last = is_over or end.exists()
        data = path.read_bytes()[offset:] if path.exists() else b""
        offset += len(data)
        if data:
            yield data
        await asyncio.sleep(0.02)


async def cancel(request: Request) -> Response:
    body = json.loads(await remember(request))
    count = len(body.get("refs", ROWS))
    if body["dry_run"]:
        rows = ROWS if "refs" not in body else [ROWS[0]] * count
        return JSONResponse({"matched": rows, "cancelled": 0})
    return PlainTextResponse(f"Cancelled {count} workloads\n")


async def documents(request: Request) -> Response:
    body = json.loads(await remember(request))
    if "kind: Role" in body["manifest"]:
        row = {"kind": "Role", "name": "r", "result": "refused", "message": "not yours"}
        return JSONResponse({"results": [row], "warnings": ["a TAB"]})
    row = {"kind": "Node", "name": "gpu01", "result": "created", "message": ""}
    if "kind: Node" in body["manifest"] and "gpu01" not in body["accept_keys"]:
        key = {"node": "gpu01", "key_type": "ssh-ed25519", "fingerprint": FINGERPRINT}
        refused = {**row, "result": "refused", "message": "its host key is not pinned"}
        return JSONResponse({"results": [refused], "unpinned": [key]})
    return JSONResponse({"results": [row]})


async def kinds(request: Request) -> Response:
    await remember(request)
    if request.method == "DELETE":
        what = {"kind": "Zone", "name": "z1"}
        said = {"result": "draining", "message": "2 workloads run there"}
        return JSONResponse({**what, **said})
    if request.query_params.get("render") == "json":
        return JSONResponse([{"name": "gpu01"}])
    return PlainTextResponse("NAME   STATE\ngpu01  ready\n")


async def nodes(request: Request) -> Response:
    await remember(request)
    if request.url.path.endswith("/scan"):
        scanned = {"key_type": "ssh-ed25519", "fingerprint": FINGERPRINT}
        return JSONResponse({**scanned, "pinned": "SHA256:" + "b" * 43})
    return JSONResponse({"name": "gpu01"})


async def status(request: Request) -> Response:
    await remember(request)
    unwell = HOME / "unwell"
    health = {"health": unwell.read_text()} if unwell.exists() else {}
    return JSONResponse({"version": "0.1.0", "queued": 2, "zone": None, **health})


async def empty(request: Request) -> Response:
    await remember(request)
    return JSONResponse({"openapi": "3.1.0"})


APP = Starlette(
    routes=[
        Route("/v1/workloads", submit, methods=["POST"]),
        Route("/v1/workloads", listing),
        Route("/v1/workloads/{rest:path}", workload),
        Route("/v1/cancel", cancel, methods=["POST"]),
        Route("/v1/apply", documents, methods=["POST"]),
        Route("/v1/delete", documents, methods=["POST"]),
        Route("/v1/kinds/{rest:path}", kinds, methods=["GET", "DELETE"]),
        Route("/v1/nodes", nodes, methods=["POST"]),
        Route("/v1/nodes/{rest:path}", nodes, methods=["POST"]),
        Route("/v1/defrag", defrag),
        Route("/v1/status", status),
        Route("/openapi.json", empty),
    ]
)

if __name__ == "__main__":
    uvicorn.run(APP, uds=sys.argv[1], log_level="error")
