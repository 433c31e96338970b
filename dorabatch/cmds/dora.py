"""`dora`: apply, show and delete documents of all kinds, and the daemon's status.

Sends documents as they are written. Never reads YAML or lays out a table.
"""

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dorabatch.cmds.answers import Record, read_record
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.helptext import DocumentedGroup
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.script_file import read_text
from dorabatch.cmds.terminal import confirm, note, say, stream_out, warn, write_out
from dorabatch.errors import DorabatchError, UserError

DOCUMENT_BYTES_MAX = 8 << 20
EXIT_REFUSED = 2
EXIT_UNWELL = 1
KINDS = "/v1/kinds"

Result = TypeVar("Result")

zone_option = click.option("-z", "--zone", metavar="ZONE", help="Zone, if not yours.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
file_option = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    help="A YAML file, or - for standard input; may be repeated.",
)


def complete_kind(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The words for kinds that begin like the word being typed; the daemon's words."""
    try:
        found = json.loads(send("GET", KINDS, [("render", "json")]).read())
    except (DorabatchError, ValueError):
        return []
    words = sorted(word for kind in found for word in kind["words"])
    return [CompletionItem(w) for w in words if w.startswith(incomplete.lower())]


def scoped(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add the options that say where, and pass them on as one query."""

    @zone_option
    @click.option(
        "-w", "--workspace", metavar="WORKSPACE", help="Workspace, if not yours."
    )
    @click.option("-g", "--group", metavar="WORKSPACE", help="Same as --workspace.")
    @functools.wraps(command)
    def run(
        *, zone: str | None, workspace: str | None, group: str | None, **rest: Any
    ) -> Result:
        return command(query=scope(zone, workspace, group), **rest)

    return run


@click.group(
    cls=DocumentedGroup,
    help="Apply, show and delete documents of all kinds.",
    examples=(
        ("Apply a file with several documents", "dora apply -f cluster.yaml"),
        ("List nodes", "dora get nodes"),
        ("Everything about one workload", "dora describe workload blue.red"),
        ("Which kinds are there?", "dora kinds"),
        ("Is the daemon well?", "dora status"),
    ),
    notes="Kinds can be typed in any case and by short names (wk, c, ws, ...): see dora"
    " kinds.",
)
def dora() -> None:
    """Hold the commands together."""


@dora.command(
    help="Create or update what documents describe.",
    examples=(
        ("Apply two files", "dora apply -f zone.yaml -f nodes.yaml"),
        ("Apply what another command prints", "./make-nodes | dora apply -f -"),
        (
            "Pin a node's host key without a question",
            "dora apply -f node.yaml --accept-key gpu01=SHA256:...",
        ),
    ),
    notes="The exit status is 2 when a document is refused; those before it are kept.",
)
@file_option
@click.argument("more", nargs=-1, metavar="[FILE]...")
@scoped
@click.option(
    "--accept-key",
    "keys",
    multiple=True,
    metavar="NODE=SHA256:...",
    help="Pin this SSH host key of a new node; may be repeated.",
)
@click.option("-y", "--yes", is_flag=True, help="Pin the keys that nodes present.")
@json_option
def apply(
    files: tuple[str, ...],
    more: tuple[str, ...],
    query: Query,
    keys: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> int:
    """Send each file; ask before a host key is pinned."""
    paths = _paths(files, more)
    accepted = dict(_key_pair(key) for key in keys)
    status = 0
    for path in paths:
        record = _apply_file(path, query, accepted, is_yes=yes)
        show_results(record, as_json=as_json)
        if any(row.get("result") == "refused" for row in record.get("results", [])):
            status = EXIT_REFUSED
    return status


@dora.command(
    help="List the objects of a kind, or one of them.",
    examples=(
        ("Workloads, the ended ones too", "dora get wk --all"),
        ("One node as JSON", "dora get node gpu01 --json"),
        ("Workspaces of a zone", "dora get ws -z dc-rov-01"),
    ),
)
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name", required=False)
@scoped
@click.option("-a", "--all", "is_all", is_flag=True, help="Also what has ended.")
@json_option
def get(
    kind: str,
    name: str | None,
    query: Query,
    is_all: bool,
    as_json: bool,
) -> None:
    """Print the daemon's list."""
    if is_all:
        query.append(("all", "1"))
    path = f"{KINDS}/{quote(kind)}"
    if name is not None and as_json:
        path = one_path(kind, name)
    elif name is not None:
        query.append(("name", name))
    query.append(("render", "json" if as_json else "table"))
    stream_out(send("GET", path, query).body())


@dora.command(
    help="Print everything about one object.",
    examples=(
        ("A workload, with its containers and events", "dora describe wk blue.red"),
        ("The same as JSON", "dora describe wk blue.red --json"),
    ),
)
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name")
@scoped
@json_option
def describe(
    kind: str,
    name: str,
    query: Query,
    as_json: bool,
) -> None:
    """Print the daemon's record."""
    query.append(("render", "json" if as_json else "text"))
    stream_out(send("GET", one_path(kind, name), query).body())


@dora.command(
    help="Delete one object, or those that documents describe.",
    examples=(
        ("By kind and name", "dora delete workload blue.red"),
        ("What a file describes", "dora delete -f cluster.yaml"),
    ),
    notes="Of what is in use the daemon says why it stays; containers of a workload"
    " are stopped first.",
)
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("name", required=False)
@file_option
@scoped
@json_option
def delete(
    kind: str | None,
    name: str | None,
    files: tuple[str, ...],
    query: Query,
    as_json: bool,
) -> int:
    """Delete by name, or by documents."""
    if files and kind is None:
        return _delete_files(files, query, as_json=as_json)
    if files or kind is None or name is None:
        raise UserError("give KIND and NAME, or -f FILE; see dora delete --help")
    record = read_record(send("DELETE", one_path(kind, name), query))
    show_results({"results": [record]}, as_json=as_json)
    return EXIT_REFUSED if record.get("result") == "refused" else 0


@dora.command(
    help="List the kinds, the words for them, and what can be done with each.",
    examples=(("Which kinds are there?", "dora kinds"),),
)
@json_option
def kinds(as_json: bool) -> None:
    """Print the daemon's table of kinds."""
    query = [("render", "json" if as_json else "table")]
    stream_out(send("GET", KINDS, query).body())


@dora.command(
    help="Print the state of the daemon.",
    examples=(("Version, queue and nodes", "dora status"),),
    notes="The exit status is 1 when the daemon is not well; the line health says why.",
)
@json_option
def status(as_json: bool) -> int:
    """Print the daemon's status, one value a line."""
    record = read_record(send("GET", "/v1/status"))
    exit_status = 0 if record.get("health", "ok") == "ok" else EXIT_UNWELL
    if as_json:
        say(json.dumps(record, ensure_ascii=False))
        return exit_status
    width = max((len(key) for key in record), default=0) + 2
    for key, value in record.items():
        shown = "-" if value is None else value
        say(f"{key.replace('_', ' ') + ':':<{width}}{shown}")
    return exit_status


@dora.command(
    help="Print the description of the HTTP API (OpenAPI).",
    examples=(("Keep it in a file", "dora openapi > openapi.json"),),
)
def openapi() -> None:
    """Print it as the daemon gives it."""
    stream_out(send("GET", "/openapi.json").body())
    write_out(b"\n")


def scope(zone: str | None, workspace: str | None, group: str | None) -> Query:
    """The zone and workspace that were named."""
    if workspace is not None and group is not None and workspace != group:
        raise UserError(
            f"--workspace {workspace} and --group {group} name two workspaces;"
            " they mean the same, give one"
        )
    query = [("zone", zone or ""), ("workspace", workspace or group or "")]
    return [(key, text) for key, text in query if text]


def one_path(kind: str, name: str) -> str:
    """Where the daemon keeps one object."""
    return f"{KINDS}/{quote(kind)}/{quote(name)}"


def show_results(record: Record, *, as_json: bool) -> None:
    """Print what became of each document."""
    if as_json:
        say(encode_json(record).decode())
        return
    for row in record.get("results", []):
        message = f": {row['message']}" if row.get("message") else ""
        say(f"{row.get('kind')} {row.get('name')}: {row.get('result')}{message}")
    warn("dora", record.get("warnings", []))


def _paths(files: tuple[str, ...], more: tuple[str, ...]) -> list[str]:
    if not files:
        raise UserError("which documents? Give -f FILE, or -f - for standard input")
    return [*files, *more]


def _apply_file(
    path: str, query: Query, accepted: dict[str, str], *, is_yes: bool
) -> Record:
    """Apply a file; with new host keys agreed to, apply it once more."""
    text = read_text(path, most=DOCUMENT_BYTES_MAX)
    shown = "<stdin>" if path == "-" else path
    record = _send_documents("/v1/apply", text, shown, query, accepted)
    unpinned = record.get("unpinned") or []
    if not unpinned:
        return record
    for row in unpinned:
        note("dora", f"node {row['node']}: {row['key_type']} {row['fingerprint']}")
    if not is_yes and not confirm(
        "dora",
        "Pin these SSH host keys?",
        instead="compare them and give --accept-key NODE=SHA256:..., or --yes",
    ):
        return record
    agreed = {str(row["node"]): str(row["fingerprint"]) for row in unpinned}
    return _send_documents("/v1/apply", text, shown, query, {**accepted, **agreed})


def _send_documents(
    path: str, text: str, shown: str, query: Query, accepted: dict[str, str]
) -> Record:
    body: dict[str, Json] = {"manifest": text, "path": shown, "accept_keys": accepted}
    return read_record(send("POST", path, query, encode_json(body)))


def _delete_files(files: tuple[str, ...], query: Query, *, as_json: bool) -> int:
    status = 0
    for path in files:
        text = read_text(path, most=DOCUMENT_BYTES_MAX)
        record = _send_documents("/v1/delete", text, path, query, {})
        show_results(record, as_json=as_json)
        if any(row.get("result") == "refused" for row in record.get("results", [])):
            status = EXIT_REFUSED
    return status


def _key_pair(text: str) -> tuple[str, str]:
    node, equals, fingerprint = text.partition("=")
    if not (node and equals and fingerprint.startswith("SHA256:")):
        raise UserError(
            f"--accept-key '{text}': write it as NODE=SHA256:..., as ssh-keygen -l"
            " shows the key"
        )
    return node, fingerprint
