"""Print what a workload wrote.

Chooses what to ask for; `follow` reads it. Never interprets a log.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import stream_out, warn
from dorabatch.errors import UserError


def run(values: Values) -> int:
    """Print the log, or follow it until the container ends."""
    ref, query = build(values)
    if values.flag("follow"):
        return int(load("follow").follow_log("dlog", ref, query))
    answer = send("GET", f"/v1/workloads/{quote(ref, keep=b'/')}/log", query)
    warn("dlog", answer.warnings())
    stream_out(answer.body())
    return 0


def build(values: Values) -> tuple[str, Query]:
    """The workload, and which part of its log."""
    if not values.operands:
        raise UserError("which workload? Give its id or name: dlog 12")
    query = [
        (key, str(number))
        for key in ("replica", "tail", "attempt")
        if (number := values.count(key)) is not None
    ]
    return values.operands[0], query
