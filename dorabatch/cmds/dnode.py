"""`dnode`: add nodes, pin their host keys, and take them in and out of use.

Shows a key before it is pinned. Never opens a connection to a node: the daemon does.
"""

import json
from typing import TypedDict, Unpack

import click

from dorabatch.cmds.answers import Record, read_record
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.dora import json_option, zone_option
from dorabatch.cmds.helptext import DocumentedGroup
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.terminal import confirm, note, say, stream_out, warn
from dorabatch.cmds.whole import Whole
from dorabatch.errors import HostKeyChanged, UserError

NODES = "/v1/kinds/Node"
SSH_PORT = 22

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
fingerprint_option = click.option(
    "--fingerprint",
    metavar="SHA256:...",
    help="Pin the key if it is this one; refuse any other without a question.",
)


class Described(TypedDict):
    """What an administrator says about a new node."""

    name: str | None
    port: int
    user: str
    allow: tuple[str, ...]
    zone: str | None


@click.group(
    cls=DocumentedGroup,
    help="Look after the nodes of the cluster.",
    examples=(
        ("What nodes are there", "dnode list"),
        ("Add one", "dnode add gpu01.example.org --name gpu01"),
        ("Take nothing new, finish what runs", "dnode cordon gpu01"),
        ("Look at it again now", "dnode probe gpu01"),
    ),
    notes=(
        "A node needs an SSH server and Docker, nothing else. Its SSH host key is"
        " pinned when it is added: compare the fingerprint with what"
        " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on the node."
    ),
)
def dnode() -> None:
    """Hold the commands together."""


@dnode.command(
    "list",
    help="List the nodes.",
    examples=(("As JSON", "dnode list --json"),),
)
@zone_option
@json_option
def list_nodes(zone: str | None, as_json: bool) -> None:
    """Print the daemon's list."""
    query: Query = [("zone", zone)] if zone else []
    query.append(("render", "json" if as_json else "table"))
    stream_out(send("GET", NODES, query).body())


@dnode.command(
    help="Print everything about one node.",
    examples=(("GPUs, state and what runs there", "dnode show gpu01"),),
)
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print the daemon's record."""
    render = "json" if as_json else "text"
    stream_out(send("GET", f"{NODES}/{quote(name)}", [("render", render)]).body())


@dnode.command(
    help="Add a node, pinning its SSH host key.",
    examples=(
        ("Look at the key and agree to it", "dnode add 10.77.0.11 --name gpu01"),
        (
            "With a key known beforehand",
            "dnode add 10.77.0.11 --fingerprint SHA256:...",
        ),
        ("For GPU workloads only", "dnode add gpu02 --allow GPUWorkload"),
    ),
)
@click.argument("host")
@click.option("--name", metavar="NAME", help="Its name, if not that of the host.")
@click.option(
    "--port",
    type=Whole(1, 65535),
    default=SSH_PORT,
    show_default=True,
    metavar="PORT",
    help="Port of its SSH server.",
)
@click.option(
    "--user",
    default="root",
    show_default=True,
    metavar="USER",
    help="SSH user that may use Docker there.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="WHAT",
    help="CPUWorkload or GPUWorkload; may be repeated, both by default.",
)
@zone_option
@fingerprint_option
@yes_option
def add(
    host: str, fingerprint: str | None, yes: bool, **described: Unpack[Described]
) -> int:
    """Show the key, ask, and pin exactly the key that was shown."""
    check_fingerprint(fingerprint)
    request: dict[str, Json] = {
        "host": host,
        "port": described["port"],
        "user": described["user"],
    }
    if described["name"] is not None:
        request["name"] = described["name"]
    if described["allow"]:
        request["allow"] = described["allow"]
    if described["zone"] is not None:
        request["zone"] = described["zone"]
    # The daemon checks all of it before it shows the key.
    scanned = _scan(request)
    if not agrees(scanned, host, fingerprint, is_yes=yes):
        return _not_pinned()
    added = {**request, "fingerprint": str(scanned["fingerprint"])}
    name = described["name"] or host
    return _show_message(_post("/v1/nodes", added), f"node {name} is added")


@dnode.command(
    help="Pin another SSH host key for a node, after it was installed anew.",
    examples=(("Look at the new key and agree to it", "dnode rekey gpu01"),),
)
@click.argument("name")
@fingerprint_option
@yes_option
def rekey(name: str, fingerprint: str | None, yes: bool) -> int:
    """Show the old and the new key, ask, and pin the new one."""
    check_fingerprint(fingerprint)
    scanned = _scan({"name": name})
    if scanned.get("pinned"):
        note("dnode", f"the pinned key is {scanned['pinned']}")
    if not agrees(scanned, name, fingerprint, is_yes=yes):
        return _not_pinned()
    request: dict[str, Json] = {"fingerprint": str(scanned["fingerprint"])}
    answer = _post(f"/v1/nodes/{quote(name)}/rekey", request)
    return _show_message(answer, f"the new key of {name} is pinned")


@dnode.command(
    help="Place nothing new on a node; what runs there goes on.",
    examples=(("Before maintenance", "dnode cordon gpu01"),),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def cordon(names: tuple[str, ...]) -> int:
    """Cordon each node."""
    return _each(names, "cordon", "cordoned")


@dnode.command(
    help="Use a node again that was cordoned, or put aside because it refuses starts.",
    examples=(
        ("After maintenance", "dnode uncordon gpu01"),
        ("Its GPU hook is mended: try it at once", "dnode uncordon gpu01"),
    ),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def uncordon(names: tuple[str, ...]) -> int:
    """Uncordon each node."""
    return _each(names, "uncordon", "in use again")


@dnode.command(
    help="Look at a node again now: its GPUs, its Docker, its containers.",
    examples=(("After a driver update", "dnode probe gpu01"),),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def probe(names: tuple[str, ...]) -> int:
    """Probe each node."""
    return _each(names, "probe", "probed")


@dnode.command(
    help="Say which restartable containers to move where, and what it would gain.",
    examples=(
        ("What would make room", "dnode defrag --dry-run"),
        ("For a script", "dnode defrag --dry-run --json"),
    ),
    notes=(
        "Restartable is what was sent with dsub --restartable, and by default what has"
        " restartPolicy Always. The queue moves nothing by itself: to follow the"
        " advice, cordon the node and cancel or restart what is listed."
    ),
)
@click.option("--dry-run", is_flag=True, help="Only say it; needed.")
@json_option
def defrag(dry_run: bool, as_json: bool) -> None:
    """Print the daemon's advice."""
    if not dry_run:
        raise UserError(
            "dnode defrag only gives advice, it moves nothing: give --dry-run"
        )
    render = "json" if as_json else "text"
    stream_out(send("GET", "/v1/defrag", [("render", render)]).body())


@dnode.command(
    help="Declare a node lost that never comes back: its runs end without its word.",
    examples=(
        ("See what that ends, and be asked", "dnode lost gpu01"),
        ("Without a question, as JSON", "dnode lost gpu01 --yes --json"),
        ("What it would end", "dnode lost gpu01 --dry-run"),
    ),
    notes=(
        "Switch the machine off before: what runs there is queued again or fails, as"
        " `--on-lost` said, and if the machine runs on, its work is done twice. Refused"
        " for a node that answers. Nothing is placed on a lost node; when it answers,"
        " what is left there of the ended runs is stopped and removed first, and then"
        " it is in use again, unless it is cordoned."
    ),
)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Say what it would end, and end nothing.")
@yes_option
@json_option
def lost(name: str, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show what would end, ask, and declare it lost."""
    path = f"/v1/nodes/{quote(name)}/lost"
    if dry_run:
        return _show_runs(_post(path, {"dry_run": True}), as_json=as_json)
    if not yes:
        record = _post(path, {"dry_run": True})
        for run in record["runs"]:
            note("dnode", _run_words(run))
        if not confirm("dnode", _lost_question(name, record), instead="give --yes"):
            note("dnode", f"node {name} was not declared lost")
            return 1
    return _show_runs(_post(path, {}), as_json=as_json)


def _run_words(run: Record) -> str:
    """`12.1 ana/train of ana, 2 GPUs: running, then queued again`."""
    label = f"{run['id']}.{run['replica']} {run['workspace']}/{run['name']}"
    gpus = f", {run['gpus']:g} GPUs" if run["gpus"] else ""
    return f"{label} of {run['user']}{gpus}: {run['state']}, then {run['then']}"


def _lost_question(name: str, record: Record) -> str:
    since = record.get("silent_since")
    silent = f"silent since {since}" if since else "silent"
    return (
        f"End these {len(record['runs'])} runs, as node {name} is lost ({silent})? If "
        "the machine is not off, their work is done twice."
    )


def _show_runs(record: Record, *, as_json: bool) -> int:
    if as_json:
        say(json.dumps(record))
        return 0
    for run in record["runs"]:
        say(_run_words(run))
    say(str(record["message"]))
    return 0


@dnode.command(
    help="Remove a node from the cluster; refused while something runs there.",
    examples=(("Without a question", "dnode remove gpu01 --yes"),),
)
@click.argument("name")
@yes_option
def remove(name: str, yes: bool) -> int:
    """Ask, and delete the node."""
    question = f"Remove node {name} from the cluster?"
    if not yes and not confirm("dnode", question, instead="give --yes"):
        note("dnode", f"node {name} was not removed")
        return 1
    record = read_record(send("DELETE", f"{NODES}/{quote(name)}"))
    return _show_message(record, f"node {name}: {record.get('result', 'removed')}")


def check_fingerprint(fingerprint: str | None) -> None:
    """Refuse a fingerprint that can match no key."""
    if fingerprint is None:
        return
    digest = fingerprint.removeprefix("SHA256:").rstrip("=")
    if not fingerprint.startswith("SHA256:") or len(digest) != 43:
        raise UserError(
            f"--fingerprint '{fingerprint}': write SHA256: and 43 characters, as"
            " ssh-keygen -l shows the key"
        )


def agrees(scanned: Record, host: str, expected: str | None, *, is_yes: bool) -> bool:
    """Whether the key that a node presents is to be pinned."""
    found = str(scanned["fingerprint"])
    say(f"{host} presents {scanned['key_type']} {found}")
    if expected is not None:
        if found.rstrip("=") != expected.rstrip("="):
            raise HostKeyChanged(
                f"{host} presents {found}, not {expected} as given; nothing was"
                " pinned. Find out which machine answers there"
            )
        return True
    return is_yes or confirm(
        "dnode",
        "Is this the key of the node? Pin it?",
        instead="compare the key and give --fingerprint SHA256:..., or --yes",
    )


def _scan(where: dict[str, Json]) -> Record:
    return _post("/v1/nodes/scan", where)


def _post(path: str, request: dict[str, Json]) -> Record:
    record = read_record(send("POST", path, body=encode_json(request)))
    warn("dnode", record.get("warnings", []))
    return record


def _each(names: tuple[str, ...], verb: str, done: str) -> int:
    for name in names:
        answer = _post(f"/v1/nodes/{quote(name)}/{verb}", {})
        _show_message(answer, f"node {name} is {done}")
    return 0


def _show_message(record: Record, otherwise: str) -> int:
    say(str(record.get("message") or otherwise))
    return 0


def _not_pinned() -> int:
    note("dnode", "nothing was pinned")
    return 1
