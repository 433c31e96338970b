"""`dshare`: the share tree, who is ahead of whom, and the policy's settings.

Prints what the daemon says and passes changes on. Never checks a setting itself: the
daemon does, with the rules that a what-if uses.
"""

import click

from dorabatch.cmds.answers import read_record
from dorabatch.cmds.client import Query, quote, send
from dorabatch.cmds.dora import json_option
from dorabatch.cmds.helptext import DocumentedGroup
from dorabatch.cmds.jsontext import Json, encode_json
from dorabatch.cmds.terminal import say, stream_out
from dorabatch.cmds.whatif_command import whatif
from dorabatch.cmds.whole import Whole

reason_option = click.option(
    "--reason", default="", metavar="TEXT", help="Why; kept in the history."
)
shares_option = click.option(
    "--shares",
    metavar="N",
    help="Weight among siblings, 0 or more; or parent, to compete a level higher.",
)


@click.group(
    cls=DocumentedGroup,
    invoke_without_command=True,
    help="Look at the share tree and change the policy of the queue.",
    examples=(
        ("Who was promised what, and who has used what", "dshare"),
        ("Where two users first differ", "dshare compare ana bob"),
        ("What is in force", "dshare settings"),
        ("Change settings together", "dshare set weights.credit=.3 half_life=1d"),
        ("Who changed what", "dshare log"),
    ),
    notes=(
        "PROMISED is the part of the whole that an account or user is promised, USED"
        " what it has used: GPU hours times the price of the GPU (1 where none has a"
        " price), faded by the half-life; dreport usage says plain hours. SHARE/USE"
        " compares"
        " siblings: above 1 has used less than its share. FACTOR is the user's rank in"
        " the tree, from 0 to 1.\n"
        "Everybody may look; changes are for administrators, are checked as a whole and"
        " are kept in the history. Nobody's use is lost by a change."
    ),
)
@click.pass_context
def dshare(ctx: click.Context) -> int | None:
    """Print the whole tree where no command is named."""
    if ctx.invoked_subcommand is None:
        return _print("/v1/shares", [], as_json=False)
    return None


@dshare.command(
    help="Print the share tree, or what is below one account or user.",
    examples=(
        ("Of one account", "dshare tree physics"),
        ("JSON", "dshare tree --json"),
    ),
)
@click.argument("name", required=False, metavar="[USER|ACCOUNT]")
@json_option
def tree(name: str | None, as_json: bool) -> int:
    """Print the daemon's tree."""
    return _print("/v1/shares", [("name", name)] if name else [], as_json=as_json)


@dshare.command(
    help="Say where two users or accounts first differ, and who is ahead.",
    examples=(("Two users", "dshare compare ana bob"),),
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
def compare(first: str, second: str, as_json: bool) -> int:
    """Print the daemon's sentence."""
    query = [("first", first), ("second", second)]
    return _print("/v1/shares/compare", query, as_json=as_json)


@dshare.command(
    help="Print every setting in force, and where it comes from.",
    examples=(("As JSON", "dshare settings --json"),),
)
@json_option
def settings(as_json: bool) -> int:
    """Print the daemon's settings."""
    return _print("/v1/policy", [], as_json=as_json)


@dshare.command(
    "set",
    help="Change settings of the policy, all of them or none.",
    examples=(
        ("More weight for credit", "dshare set weights.credit=.3"),
        ("Forget faster", "dshare set half_life=1d --reason 'new term'"),
        ("A QOS that counts two million points", "dshare set qos.high=2"),
        ("A workspace that goes first", "dshare set queues.paper=1"),
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="KEY=VALUE...")
@reason_option
@json_option
def set_settings(words: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Send the words to the daemon."""
    return _change("/v1/policy", {"set": list(words), "reason": reason}, as_json)


@dshare.command(
    help="Take back what was set: the settings file or the default counts again.",
    examples=(("One setting", "dshare unset half_life"),),
)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@reason_option
@json_option
def unset(keys: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Send the keys to the daemon."""
    return _change("/v1/policy", {"unset": list(keys), "reason": reason}, as_json)


@dshare.command(
    help="Add an account, give it other shares or another parent, or remove it.",
    examples=(
        ("A new account at the top", "dshare account add physics --shares 60"),
        ("One below it", "dshare account add theory --parent physics"),
        ("Other shares", "dshare account set theory --shares 3"),
        ("Up to the top", "dshare account set theory --parent /"),
        ("Gone, when it holds nobody", "dshare account remove theory"),
    ),
)
@click.argument("action", type=click.Choice(["add", "set", "remove"]))
@click.argument("name")
@click.option("--parent", metavar="ACCOUNT", help="The account above; / is the top.")
@shares_option
@reason_option
@json_option
def account(
    action: str,
    name: str,
    parent: str | None,
    shares: str | None,
    reason: str,
    as_json: bool,
) -> int:
    """Send the change to the daemon."""
    row = {"action": action, "name": name, "parent": parent, "shares": shares}
    return _change("/v1/shares/account", {**row, "reason": reason}, as_json)


@dshare.command(
    help="Put a user into an account, or give them other shares.",
    examples=(
        ("Into an account", "dshare user ana --account theory"),
        ("With more shares than others there", "dshare user ana --shares 2"),
        ("Back to the top with 1 share", "dshare user ana --remove"),
    ),
)
@click.argument("name")
@click.option("--account", metavar="ACCOUNT", help="The account; / is the top.")
@shares_option
@click.option("--remove", is_flag=True, help="Take the user's row out of the tree.")
@reason_option
@json_option
def user(
    name: str,
    account: str | None,
    shares: str | None,
    remove: bool,
    reason: str,
    as_json: bool,
) -> int:
    """Send the change to the daemon."""
    if not remove and account is None and shares is None:
        raise click.UsageError("give --account, --shares or --remove")
    if remove and (account is not None or shares is not None):
        raise click.UsageError("--remove goes with neither --account nor --shares")
    action = "remove" if remove else "set"
    row = {"action": action, "name": name, "parent": account, "shares": shares}
    return _change("/v1/shares/user", {**row, "reason": reason}, as_json)


@dshare.command(
    help="Print who changed what and why, newest first.",
    examples=(("The last ten changes", "dshare log --limit 10"),),
)
@click.option(
    "--limit",
    type=Whole(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="At most so many.",
)
@json_option
def log(limit: int, as_json: bool) -> int:
    """Print the daemon's history."""
    return _print("/v1/policy/log", [("limit", str(limit))], as_json=as_json)


@dshare.command(
    help="Make everybody's use anew from the runs, and say what was wrong.",
    examples=(("After a database was mended", "dshare rebuild"),),
)
@json_option
def rebuild(as_json: bool) -> int:
    """Ask the daemon to do it."""
    return _change("/v1/shares/rebuild", {}, as_json)


dshare.add_command(whatif)


def _print(path: str, query: Query, *, as_json: bool) -> int:
    asked = [*query, ("render", "json" if as_json else "table")]
    stream_out(send("GET", quote(path, keep=b"/"), asked).body())
    return 0


def _change(path: str, request: dict[str, Json], as_json: bool) -> int:
    given = {key: value for key, value in request.items() if value is not None}
    answer = send("POST", path, body=encode_json(given))
    if as_json:
        stream_out(answer.body())
        return 0
    say(str(read_record(answer)["message"]))
    return 0
