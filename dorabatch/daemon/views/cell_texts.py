"""How single values are written in a table: a text, a list, a time, a share of a GPU.

Rounds nothing that programs read; never looks anything up.
"""

from datetime import datetime

from dorabatch.daemon.views.table_layout import Cell, Row
from dorabatch.queue.records import WHOLE_GPU_MILLI
from dorabatch.units import number_text


def text_cell(name: str) -> Cell:
    """A field as it is; `-` where there is none."""

    def cell(row: Row) -> str:
        value = row[name]
        return "-" if value is None or value == "" else str(value)

    return cell


def number_cell(name: str) -> Cell:
    """A number without needless zeros; `-` where there is none."""

    def cell(row: Row) -> str:
        value = row[name]
        return "-" if value is None or value == "" else number_text(value)

    return cell


def list_cell(name: str) -> Cell:
    """A list with commas; `-` where nothing is in it."""
    return lambda row: ",".join(str(item) for item in row[name] or ()) or "-"


def time_cell(name: str) -> Cell:
    """A field of seconds as a duration."""
    return lambda row: duration(row[name])


def moment_field(moment: datetime | None) -> str | None:
    """A moment as programs read it, to the millisecond."""
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def run_seconds(
    started_at: datetime | None, ended_at: datetime | None, now: datetime
) -> int:
    """Whole seconds from a start to an end, or to now."""
    if started_at is None:
        return 0
    return max(0, int(((ended_at or now) - started_at).total_seconds()))


def duration(seconds: int) -> str:
    """Seconds as 1-02:03:04, 2:03:04 or 3:04."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, second = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{second:02}"
    if hours:
        return f"{hours}:{minutes:02}:{second:02}"
    return f"{minutes}:{second:02}"


def share_words(milli: int) -> str:
    """`0.5x` before a GPU that is shared; nothing before a whole one."""
    return "" if milli == WHOLE_GPU_MILLI else f"{milli / WHOLE_GPU_MILLI:g}x"
