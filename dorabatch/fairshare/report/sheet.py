"""A report as plain values: sheets of rows, charts and closing lines.

What the pure reports give back and the daemon renders. Computes nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

Cell = str | int | float | datetime | None


class Kind(StrEnum):
    """What a column holds, and so how it is written."""

    TEXT = "text"
    COUNT = "count"
    UCR = "ucr"
    """Whole micro-credits."""
    GPU_US = "gpu_us"
    """Whole microseconds x GPUs."""
    SECONDS = "seconds"
    RATIO = "ratio"
    MOMENT = "moment"


class Column(NamedTuple):
    """One column: its name for programs, its head for people, what it holds."""

    name: str
    head: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table; each row has one cell for each column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars, one for each label; `kind` says what the values are."""

    title: str
    kind: Kind
    labels: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of one period, [start, end)."""

    name: str
    title: str
    start: datetime
    end: datetime
    sheets: tuple[Sheet, ...]
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()
