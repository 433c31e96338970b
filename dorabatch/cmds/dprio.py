"""`dprio`: why the queue is in this order, term by term.

Prints what the daemon ranks by. Never sorts or adds up anything itself.
"""

import click

from dorabatch.cmds.client import Query, send
from dorabatch.cmds.dora import json_option
from dorabatch.cmds.helptext import Documented
from dorabatch.cmds.terminal import stream_out
from dorabatch.errors import UserError


@click.command(
    cls=Documented,
    help="Show every term of the priority of what waits, in the order of the queue.",
    examples=(
        ("The whole queue", "dprio"),
        ("Everything of two users", "dprio ana bob"),
        ("One workload, by id", "dprio 12"),
        ("With the factors behind the terms", "dprio --json"),
    ),
    notes=(
        "PRIO is FAIR + CREDIT + AGE + SLOW + QOS - NICE, exactly. Smaller tiers come"
        " first: 0 is paid (or free for all), 1 runs on what is left. On a tie the"
        " smaller predicted run x GPUs goes first, then the earlier submission.\n"
        "A word that is a user's name means all their workloads, any other a workload."
    ),
)
@click.argument("refs", nargs=-1, metavar="[USER|REF]...")
@json_option
def dprio(refs: tuple[str, ...], as_json: bool) -> int:
    """Print the daemon's table."""
    if "" in refs:
        raise UserError("a USER or REF is empty; name one, or leave it out")
    query: Query = [("refs", ",".join(refs))] if refs else []
    query.append(("render", "json" if as_json else "table"))
    stream_out(send("GET", "/v1/priorities", query).body())
    return 0
