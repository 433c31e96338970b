"""Cancel workloads, asking first where it could be a mistake.

Decides when to ask. Never decides what matches or who may: the daemon does.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import send
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import confirm, note, say, stream_out, warn
from dorabatch.errors import UserError

NAMED_MAX = 10
SHOWN_MAX = 10


def run(values: Values) -> int:
    """Cancel what was named or found."""
    wanted = build(values)
    is_filtered = bool(set(values.given) - {"yes", "dry_run"})
    is_many = is_filtered or len(values.operands) > NAMED_MAX
    if not values.flag("dry_run") and (values.flag("yes") or not is_many):
        return _cancel(wanted)
    answer = send("POST", "/v1/cancel", body=encode_json({**wanted, "dry_run": True}))
    record = load("answers").read_record(answer)
    warn("dcancel", answer.warnings())
    matched = [(str(row["id"]), describe_match(row)) for row in record["matched"]]
    if values.flag("dry_run"):
        for _, line in matched:
            say(f"would cancel {line}")
    if not matched:
        note("dcancel", "no workload matches; nothing to cancel")
    if values.flag("dry_run") or not matched:
        return 0
    if len(matched) > 1 and not _is_meant(is_filtered, matched):
        note("dcancel", "nothing was cancelled")
        return 1
    # Exactly what was shown: more may match by now.
    return _cancel({"refs": [workload_id for workload_id, _ in matched]})


def build(values: Values) -> dict[str, Json]:
    """The request of a command line."""
    wanted: dict[str, Json] = {}
    if values.operands:
        wanted["refs"] = values.operands
    if values.flag("all"):
        wanted["all"] = True
    states = [text for value in values.many("state") for text in value.split(",")]
    if states:
        wanted["states"] = states
    for key in ("user", "workspace"):
        text = values.text(key)
        if text is not None:
            wanted[key] = text
    if not wanted:
        raise UserError(
            "which workloads? Give ids or names, or --all for all of yours;"
            " see dcancel --help"
        )
    return wanted


def describe_match(row: dict[str, Json]) -> str:
    """One workload on one line."""
    return f"{row['id']} {row['workspace']}/{row['name']} ({row['state']})"


def _is_meant(is_filtered: bool, matched: list[tuple[str, str]]) -> bool:
    if not is_filtered and len(matched) <= NAMED_MAX:
        return True
    for _, line in matched[:SHOWN_MAX]:
        note("dcancel", line)
    if len(matched) > SHOWN_MAX:
        note("dcancel", f"... and {len(matched) - SHOWN_MAX} more")
    return confirm(
        "dcancel",
        f"Cancel these {len(matched)} workloads?",
        instead="give --yes to cancel them, or --dry-run to list them",
    )


def _cancel(wanted: dict[str, Json]) -> int:
    body = encode_json({**wanted, "dry_run": False})
    answer = send("POST", "/v1/cancel", [("render", "text")], body)
    warn("dcancel", answer.warnings())
    stream_out(answer.body())
    return 0
