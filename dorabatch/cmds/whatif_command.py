"""`dshare whatif`: asks the daemon what other settings would have done.

Shows the progress and prints the answer. Computes nothing itself.
"""

import json
from pathlib import Path
from typing import Any

import click

from dorabatch.cmds.client import send
from dorabatch.cmds.dora import json_option
from dorabatch.cmds.helptext import Documented
from dorabatch.cmds.jsontext import encode_json
from dorabatch.cmds.progress import follow
from dorabatch.cmds.terminal import say
from dorabatch.cmds.whole import Whole
from dorabatch.errors import UserError

_BAR = 30
_FIGURES = (("wait_h", "WAIT h"), ("slowdown", "SLOWDOWN"), ("credits", "CREDITS"))


@click.command(
    cls=Documented,
    help="Play the site's history under other settings, and compare.",
    examples=(
        ("A shorter memory", "dshare whatif --since 21d --set half_life=1d"),
        ("Two settings", "dshare whatif --set half_life=1d --set weights.credit=.3"),
        ("With a plot", "dshare whatif --set catch_up=6h --plot whatif.html"),
    ),
    notes=(
        "What was submitted since then and is over is played on a fake clock through"
        " the daemon's own scheduling cycle, on the nodes as they are now: accepted"
        " models, CPUs, memory, node lists, shares, replicas, QOS, queues, nice, credit"
        " and the lane count. It is played with the settings in force (then) and with"
        " the others (now), each several times with submissions shaken by up to 10"
        " minutes. A difference that the shaking makes as well is inside the noise. The"
        " line 'as it was' says how near the waits of a replay under today's settings"
        " are to those that really were. Not played: failures and changes of nodes,"
        " cancellations in the queue, earlier attempts, image pulls, stops of running"
        " work for want of credit, grants beside the weekly credit, and changes of"
        " settings in the past."
    ),
)
@click.option("--since", default="21d", show_default=True, metavar="TIME")
@click.option(
    "--set",
    "words",
    multiple=True,
    required=True,
    metavar="KEY=VALUE",
    help="A setting, as for dshare set; may be given several times.",
)
@click.option(
    "--shakes",
    type=Whole(1, 50),
    default=3,
    show_default=True,
    metavar="N",
    help="How often each policy is played.",
)
@click.option("--plot", metavar="FILE", help="Write a page with bars of the waits.")
@json_option
def whatif(
    since: str, words: tuple[str, ...], shakes: int, plot: str | None, as_json: bool
) -> int:
    """Ask, follow the progress, print."""
    body = encode_json({"since": since, "set": list(words), "shakes": shakes})
    # The replay may take minutes and says how far it is all the while.
    pieces = send("POST", "/v1/whatif", body=body, seconds_max=None).body()
    found = follow("dshare", pieces, _bar)
    result = found["result"]
    if plot is not None:
        try:
            Path(plot).write_text(found["plot"])
        except OSError as error:
            raise UserError(f"--plot {plot}: {error.strerror}") from error
    if as_json:
        say(json.dumps(result, indent=1))
        return 0
    for line in table_lines(result):
        say(line)
    return 0


def table_lines(result: dict[str, Any]) -> list[str]:
    """The answer as lines of a table."""
    changed = ", ".join(f"{k}: {a} -> {b}" for k, (a, b) in result["changed"].items())
    lines = [
        f"{result['jobs']} jobs on {result['nodes']} nodes with {result['capacity']} "
        f"GPUs, each policy played {result['shakes']} times; "
        f"{changed or 'no setting differs'}",
        *_beside(result),
        _as_it_was(result["credibility"]),
        f"{'USER':<12} {'FIGURE':<9} {'THEN':>9} {'NOW':>9}  {'RANGE THEN':>17} "
        f"{'RANGE NOW':>17}  VERDICT",
    ]
    for row in [result["over_all"], *result["users"]]:
        for key, title in _FIGURES:
            one = row[key]
            ranges = [
                f"{one[side][0]:.2f}-{one[side][1]:.2f}"
                for side in ("then_range", "now_range")
            ]
            lines.append(
                f"{row['user']:<12} {title:<9} {one['then']:>9.2f} {one['now']:>9.2f}  "
                f"{ranges[0]:>17} {ranges[1]:>17}  {one['verdict']}"
            )
        moments = [row[f"exhausted_{side}_s"] for side in ("then", "now")]
        if moments != [None, None]:
            shown = ["never" if m is None else f"day {m / 86400:.1f}" for m in moments]
            lines.append(
                f"{row['user']:<12} {'USED UP':<9} {shown[0]:>9} {shown[1]:>9}"
            )
    return lines


def _beside(result: dict[str, Any]) -> list[str]:
    """What is not among the figures, where there is any."""
    said = []
    if result["beside"]:
        said.append(
            f"{result['beside']} more take their place and are not counted: they ran "
            "when the history begins, or run still"
        )
    if result["left_out"]:
        said.append(
            f"{result['left_out']} are left out: they fit no node that is enabled now"
        )
    return said


def _as_it_was(found: dict[str, Any]) -> str:
    line = (
        f"as it was: mean wait {found['real_wait_h']:.2f} h; replayed under today's "
        f"settings {found['played_wait_h']:.2f} h; the waits of {found['near']:.0%} of "
        "the jobs are within 10 minutes or half of theirs"
    )
    if found["never_started"]:
        line += f"; {found['never_started']} never started"
    return line


def _bar(record: dict[str, Any]) -> str:
    part = float(record["progress"])
    full = round(part * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%}"
