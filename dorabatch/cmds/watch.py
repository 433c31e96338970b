"""Show the list of workloads again and again, until Ctrl-C.

Fits it to the terminal. Never ends because the daemon is away for a moment.
"""

import os
import sys

from dorabatch.clock import SystemClock
from dorabatch.cmds.argv import Values
from dorabatch.cmds.client import Query, send
from dorabatch.cmds.dstat import build
from dorabatch.cmds.patience import pause
from dorabatch.cmds.terminal import write_out
from dorabatch.errors import DaemonUnavailable, UserError

SECONDS_MIN = 0.5
# What a terminal that does not know its size is taken for.
COLUMNS_DEFAULT, LINES_DEFAULT = 80, 24
CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def watch(values: Values) -> int:
    """Show it every so many seconds; Ctrl-C ends it, and that is no failure."""
    seconds = parse_seconds(values.text("watch") or "")
    path, query = build(values)
    is_terminal = os.isatty(1)
    try:
        while True:
            write_out(_page(path, query, seconds, is_terminal=is_terminal))
            pause(seconds)
    except KeyboardInterrupt:
        return 0


def parse_seconds(text: str) -> float:
    """How long to wait between two pages."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SECONDS_MIN <= seconds <= 86400:
        raise UserError(
            f"option --watch: '{text}' is not a number of seconds"
            f" from {SECONDS_MIN:g} to 86400"
        )
    return seconds


def _page(path: str, query: Query, seconds: float, *, is_terminal: bool) -> bytes:
    try:
        body = send("GET", path, query).read().decode("utf-8", "replace")
    except DaemonUnavailable as error:
        body = f"{error.message}\n"
    now = SystemClock().now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    words = " ".join(sys.argv[1:])
    heading = f"Every {seconds:g} s: dstat {words}    {now}"
    if not is_terminal:
        return f"{heading}\n{body}\n".encode()
    return (CLEAR + fit_page(heading, body, os.get_terminal_size(1))).encode()


def fit_page(heading: str, body: str, size: os.terminal_size) -> str:
    """As much of a list as fits on the terminal, and how much does not."""
    lines = body.splitlines()
    columns, height = size.columns or COLUMNS_DEFAULT, size.lines or LINES_DEFAULT
    room = max(1, height - 3)
    if len(lines) > room:
        left = len(lines) - room + 1
        lines = [*lines[: room - 1], f"... and {left} more lines"]
    shown = [heading, "", *lines]
    return "\n".join(line[:columns] for line in shown) + "\n"
