"""Ask the daemon for the list of workloads, and print what it renders.

Builds the query. Never sorts, filters or lays out a table: the daemon does.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import stream_out, warn
from dorabatch.errors import UserError

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
        if values.operands or len(values.given) > 1 + ("watch" in values.given):
            raise UserError("--why takes one workload, and no other option with it")
        return f"/v1/workloads/{quote(why, keep=b'/')}/why", [("placement", "1")]
    query = [(key, ",".join(values.many(key))) for key in LISTS if values.many(key)]
    if values.operands:
        query.append(("refs", ",".join(values.operands)))
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


def _rendering(values: Values) -> Query:
    if values.flag("json"):
        return [("render", "json")]
    query = [("render", "wide" if values.flag("wide") else "table")]
    if values.flag("no_header"):
        query.append(("header", "0"))
    return query if query != [("render", "table")] else []
