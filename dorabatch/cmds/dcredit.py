"""`dcredit`: credit is granted, moved, given back and ended; balances, forecasts.

Sends what was asked to the daemon and prints its answer. Never computes an amount.
"""

from typing import TypedDict, Unpack

import click

from dorabatch.cmds.answers import Record, read_record
from dorabatch.cmds.client import DaemonAway, Query, quote, send
from dorabatch.cmds.dora import json_option
from dorabatch.cmds.helptext import DocumentedGroup
from dorabatch.cmds.jsontext import Json, encode_json, render_json
from dorabatch.cmds.late import load
from dorabatch.cmds.patience import send_again
from dorabatch.cmds.terminal import say, stream_out
from dorabatch.errors import ConflictError, UserError

CREDITS = "/v1/credits"

reason_option = click.option(
    "--reason", metavar="TEXT", required=True, help="Why; kept in the ledger."
)
key_option = click.option(
    "--key",
    metavar="KEY",
    help="Your own name for this order: given again, nothing happens twice.",
)
account_argument = click.argument("account", required=False)


class Common(TypedDict):
    """What every order takes."""

    reason: str
    key: str | None
    as_json: bool


@click.group(
    cls=DocumentedGroup,
    help="Show and manage credits.",
    examples=(
        ("What you have, and when more comes", "dcredit balance"),
        ("How long it lasts", "dcredit forecast"),
        (
            "Give somebody 100 until the end of the year",
            "dcredit grant ana 100 --until 2026-12-31 --reason 'paper deadline'",
        ),
        ("Is the ledger sound?", "dcredit check"),
    ),
    notes=(
        "Amounts are credits with up to six decimals. Grants and other orders are an"
        " admin's; everybody sees their own account. Weekly credit is set with"
        " dora apply (kind: User), prices with kind: Resourcecredit."
    ),
)
def dcredit() -> None:
    """Hold the commands together."""


@dcredit.command(
    help="Show what an account has, holds and has used.",
    examples=(("Your own", "dcredit balance"), ("As JSON", "dcredit balance --json")),
)
@account_argument
@json_option
def balance(account: str | None, as_json: bool) -> None:
    """Print the daemon's record."""
    _show("balance", as_json, account=account)


@dcredit.command(
    help="Say how long credit lasts if use goes on as in the last 14 days.",
    examples=(("Of one user", "dcredit forecast ana"),),
    notes=(
        "The pace is the mean use a day over the last 14 days; the range is from the"
        " quickest to the slowest of the last 3, 7 and 14 days. Credit that comes with"
        " the next week is not counted. dreport forecast says the same."
    ),
)
@account_argument
@json_option
def forecast(account: str | None, as_json: bool) -> None:
    """Print the daemon's forecast."""
    _show("forecast", as_json, account=account)


@dcredit.command(
    help="Show what an account was given and charged in a period.",
    examples=(
        ("The last 30 days", "dcredit statement"),
        ("A month", "dcredit statement ana --from 2026-06-01 --until 2026-07-01"),
    ),
    notes=(
        "closing = opening + deposits - charges + refunds - expired + transferred, to"
        " the millionth of a credit. Liens are part of it, and so is what was granted"
        " and begins later; without that it is the balance. dreport statement says the"
        " same of all accounts."
    ),
)
@account_argument
@click.option("--from", "start", metavar="WHEN", help="Beginning, as 2026-06-01.")
@click.option("--until", metavar="WHEN", help="End, not part of it.")
@json_option
def statement(
    account: str | None, start: str | None, until: str | None, as_json: bool
) -> None:
    """Print the daemon's statement."""
    period = {"from": start, "until": until}
    _show("statement", as_json, account=account, **period)


@dcredit.command(
    help="Check the ledger: hashes, sums and balances.",
    examples=(("Says what is wrong, and exits with 3", "dcredit check"),),
    notes="Of a long ledger it says on a terminal how far it is.",
)
@json_option
def check(as_json: bool) -> None:
    """Print what the daemon found; a long ledger takes as long as it takes."""
    pieces = send("GET", f"{CREDITS}/check", seconds_max=None).body()
    found = load("progress").follow("dcredit", pieces, _read_so_far)
    faults = found["result"]["faults"]
    if as_json:
        say(render_json(found["result"]))
    elif not faults:
        say(str(found["text"]).rstrip())
    if faults:
        told = f" {len(faults)} in the output" if as_json else f"\n{found['text']}"
        raise ConflictError(f"the ledger is not sound:{told}")


@dcredit.command(
    help="Give credit to an account.",
    examples=(
        ("For good", "dcredit grant ana 100 --reason 'welcome'"),
        (
            "For July, and run on free when it is spent",
            "dcredit grant ana 100 --from 2026-07-01 --until 2026-08-01"
            " --on-exhaust demote --reason 'summer school'",
        ),
    ),
)
@click.argument("account")
@click.argument("amount")
@click.option("--from", "start", metavar="WHEN", help="When it begins; now.")
@click.option("--until", metavar="WHEN", help="When it ends; never.")
@click.option(
    "--on-exhaust",
    metavar="MODE",
    help="When it is spent last: stop, hold, or demote (run on free).",
)
@reason_option
@key_option
@json_option
def grant(
    account: str,
    amount: str,
    start: str | None,
    until: str | None,
    on_exhaust: str | None,
    **common: Unpack[Common],
) -> None:
    """Order a deposit."""
    _order(
        "grant",
        common,
        account=account,
        amount=amount,
        until=until,
        on_exhaust=on_exhaust,
        **{"from": start},
    )


@dcredit.command(
    help="Move available credit from one account to another.",
    examples=(("Help out", "dcredit transfer ana bob 20 --reason 'shared project'"),),
    notes="What is moved keeps its end, and is taken from what ends first.",
)
@click.argument("account", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("amount")
@reason_option
@key_option
@json_option
def transfer(account: str, target: str, amount: str, **common: Unpack[Common]) -> None:
    """Order a transfer."""
    _order("transfer", common, account=account, target=target, amount=amount)


@dcredit.command(
    help="Give back what a run was charged.",
    examples=(
        ("All of it", "dcredit refund 12.1/1 --reason 'disk failed'"),
        ("A part", "dcredit refund 12.1/1 --amount 2.5 --reason 'slow node'"),
    ),
    notes=(
        "A run is WORKLOAD.REPLICA/ATTEMPT. It never gets back more than it was"
        " charged. Runs that their node lost are refunded without being asked."
    ),
)
@click.argument("run")
@click.option("--amount", metavar="N", help="How much; all by default.")
@reason_option
@key_option
@json_option
def refund(run: str, amount: str | None, **common: Unpack[Common]) -> None:
    """Order a refund."""
    _order("refund", common, account=run, amount=amount)


@dcredit.command(
    help="End what an account has left.",
    examples=(
        ("Everything", "dcredit expire ana --reason 'has left'"),
        (
            "One allocation, named by dcredit balance",
            "dcredit expire ana --allocation ID --reason 'mistake'",
        ),
    ),
)
@click.argument("account")
@click.option("--allocation", metavar="ID", help="Only this one.")
@reason_option
@key_option
@json_option
def expire(account: str, allocation: str | None, **common: Unpack[Common]) -> None:
    """Order an expiry."""
    _order("expire", common, account=account, allocation=allocation)


def _show(what: str, as_json: bool, **asked: str | None) -> None:
    query: Query = [*_said(**asked).items()]
    query.append(("render", "json" if as_json else "text"))
    stream_out(send("GET", f"{CREDITS}/{what}", query).body())


def _said(**given: str | None) -> dict[str, str]:
    """What was given; an empty text (an unset variable of a script) is refused."""
    said = {name: value for name, value in given.items() if value is not None}
    for name, value in said.items():
        if not value.strip():
            word = name.replace("_", "-")
            raise UserError(f"{word} is empty; give a value, or leave it out")
    return said


def _read_so_far(record: dict[str, int]) -> str:
    return f"{record['done']:,} of {record['of']:,} entries read"


def _order(verb: str, common: Common, **given: str | None) -> None:
    if not common["reason"].strip():
        raise UserError("--reason is empty; say why: the ledger keeps it")
    said = _said(**given, key=common["key"])
    request: dict[str, Json] = {**said, "reason": common["reason"]}
    path = f"{CREDITS}/{quote(verb)}"
    record = _sent(path, encode_json(request), is_keyed=common["key"] is not None)
    say(render_json(record) if common["as_json"] else str(record["message"]))


def _sent(path: str, body: bytes, *, is_keyed: bool) -> Record:
    """Send an order, again if need be where it cannot happen twice by that."""

    def request() -> Record:
        return read_record(send("POST", path, body=body))

    try:
        return request()
    except DaemonAway as error:
        return send_again(
            *("dcredit", request, error),
            what="the order",
            look="dcredit statement",
            is_keyed=is_keyed,
        )
