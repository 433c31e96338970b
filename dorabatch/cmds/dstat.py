"""Ask the daemon for the list of workloads, and print what it renders.

Builds the query. Never sorts, filters or lays out a table: the daemon does.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import stream_out, warn
from dorabatch.errors import UserError

WITH_WHY = {"why", "placement", "json", "watch"}
LISTS = ("user", "workspace", "zone", "state", "node")


def run(values: Values) -> int:
    """Print the list once, or again and again."""
    if values.text("watch") is not None:
        return int(load("watch").watch(values))
    path, query = build(values)
    answer = send("GET", path, query)
    warn("dstat", answer.warnings())
    stream_out(answer.body())
    return 0


def build(values: Values) -> tuple[str, Query]:
    """The path and the query of a command line."""
    why = values.text("why")
    if why is not None:
        return _why(why, values)
    if values.flag("placement"):
        raise UserError("--placement goes with --why REF")
    query = [(key, ",".join(values.many(key))) for key in LISTS if values.many(key)]
    query += _refs(values)
    if values.flag("me"):
        query.append(("me", "1"))
    if values.flag("all"):
        query.append(("all", "1"))
    for key, field in (("format", "columns"), ("sort", "sort")):
        text = values.text(key)
        if text is not None:
            query.append((field, text))
    limit = values.count("limit")
    if limit is not None:
        query.append(("limit", str(limit)))
    if values.flag("containers"):
        query.append(("view", "containers"))
    query += _rendering(values)
    return "/v1/workloads", query


def _refs(values: Values) -> Query:
    if "" in values.operands:
        raise UserError("a REF is empty; name a workload, or leave it out")
    return [("refs", ",".join(values.operands))] if values.operands else []


def _why(ref: str, values: Values) -> tuple[str, Query]:
    if values.operands or values.given.keys() - WITH_WHY:
        raise UserError(
            "--why takes one workload, and only --placement, --json and --watch with it"
        )
    query: Query = [("placement", "1")] if values.flag("placement") else []
    if values.flag("json"):
        query = [("render", "json")]
    return f"/v1/workloads/{quote(ref, keep=b'/')}/why", query


def _rendering(values: Values) -> Query:
    if values.flag("json"):
        return [("render", "json")]
    query = [("render", "wide" if values.flag("wide") else "table")]
    if values.flag("no_header"):
        query.append(("header", "0"))
    return query if query != [("render", "table")] else []
