"""How one cell of a report is written for people.

Rounds for reading, never credits; what programs read is written elsewhere.
"""

from datetime import datetime, tzinfo

from dorabatch.daemon.views.cell_texts import duration
from dorabatch.fairshare.report.sheet import Cell, Column, Kind, Report
from dorabatch.units import MICROSECONDS_PER_HOUR, render_credits

_NUMBERS = frozenset({Kind.COUNT, Kind.UCR, Kind.GPU_US, Kind.SECONDS, Kind.RATIO})


def is_number(column: Column) -> bool:
    """Whether a column is written to the right."""
    return column.kind in _NUMBERS


def cell_text(cell: Cell, column: Column, zone: tzinfo) -> str:
    """A cell as people read it; moments in the site's time zone."""
    if cell is None:
        return "-"
    if isinstance(cell, datetime):
        return moment_text(cell, zone)
    if isinstance(cell, int | float):
        return number_text(cell, column.kind)
    return cell or "-"


def number_text(value: int | float, kind: Kind) -> str:
    """A number with what it counts."""
    if kind is Kind.UCR:
        return render_credits(round(value))
    if kind is Kind.GPU_US:
        return f"{value / MICROSECONDS_PER_HOUR:.2f}"
    if kind is Kind.RATIO:
        return f"{100 * value:.1f} %"
    if kind is Kind.SECONDS:
        return duration(round(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def moment_text(moment: datetime, zone: tzinfo) -> str:
    """A moment in the site's time zone, to the minute."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def period_text(report: Report, zone: tzinfo) -> str:
    """The line that says which period a report is about."""
    return f"{moment_text(report.start, zone)} to {moment_text(report.end, zone)}"
