"""Hold workloads: nothing of them starts until they are released.

Sends what was named. Never decides who may: the daemon does.
"""

from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import send
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.late import load
from dorabatch.cmds.terminal import note, say
from dorabatch.errors import UserError

EXIT_SOME = 1


def build(values: Values) -> dict[str, Json]:
    """The request that holds what was named."""
    return {**named("dhold", values), "reason": values.text("reason") or ""}


def run(values: Values) -> int:
    """Hold what was named; 1 when that failed for some."""
    return ask_for_each("dhold", "/v1/hold", build(values))


def named(command: str, values: Values) -> dict[str, Json]:
    """The workloads that the words name, as a request names them."""
    if not values.operands:
        raise UserError(f"which workloads? Give ids or names; see {command} --help")
    refs: list[Json] = list(values.operands)
    workspace = values.text("workspace")
    return {"refs": refs} | ({} if workspace is None else {"workspace": workspace})


def ask_for_each(command: str, path: str, wanted: dict[str, Json]) -> int:
    """Ask for each workload that was named; what can be done is done."""
    record = load("answers").read_record(send("POST", path, body=encode_json(wanted)))
    failed = [one for one in record["results"] if "error" in one]
    for one in record["results"]:
        if "error" in one:
            note(command, f"{one['ref']}: {one['error']}")
        else:
            say(f"{one['id']} {one['message']}")
    if len(failed) == len(record["results"]):
        return int(failed[0]["exit_status"])
    return EXIT_SOME if failed else 0
