"""Reports as a table for people, as CSV and as JSON.

Numbers for programs are exact: micro-credits and microseconds as whole numbers beside
credits and hours. Reads nothing but the report.
"""

import csv
import io
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any

import orjson

from dorabatch.daemon.views.report.page import render_page
from dorabatch.daemon.views.report.text import cell_text, is_number, period_text
from dorabatch.daemon.views.table_layout import lay_out
from dorabatch.fairshare.report.sheet import Cell, Column, Kind, Report, Sheet
from dorabatch.units import MICROSECONDS_PER_HOUR, render_credits

MEDIA = {
    "table": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}


def render(report: Report, form: str, zone: tzinfo) -> bytes:
    """The report in one of the forms of MEDIA."""
    if form == "csv":
        return render_csv(report).encode()
    if form == "json":
        return render_json(report)
    if form == "html":
        return render_page(report, zone).encode()
    return render_table(report, zone).encode()


def render_table(report: Report, zone: tzinfo) -> str:
    """Aligned text, numbers to the right."""
    parts = [f"{report.title}\n{period_text(report, zone)}\n"]
    parts += [_table(sheet, zone) for sheet in report.sheets]
    parts += [f"{note}\n" for note in report.notes]
    return "\n".join(parts)


def _table(sheet: Sheet, zone: tzinfo) -> str:
    lines = [
        tuple(
            cell_text(cell, col, zone)
            for cell, col in zip(row, sheet.columns, strict=True)
        )
        for row in sheet.rows
    ]
    if not lines:
        return f"{sheet.title}: nothing\n"
    heads = tuple(column.head for column in sheet.columns)
    is_right = [is_number(column) for column in sheet.columns]
    return f"{sheet.title}\n{lay_out(lines, heads, is_right=is_right)}"


def render_csv(report: Report) -> str:
    """One table after the other, each under a line `# NAME`; notes come last."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for place, sheet in enumerate(report.sheets):
        if place:
            out.write("\n")
        out.write(f"# {sheet.name}\n")
        records = [_record(sheet.columns, row) for row in sheet.rows]
        names = list(_record(sheet.columns, [None] * len(sheet.columns)))
        writer.writerow(names)
        writer.writerows(
            ["" if record[name] is None else record[name] for name in names]
            for record in records
        )
    for note in report.notes:
        out.write(f"# {note}\n")
    return out.getvalue()


def render_json(report: Report) -> bytes:
    """One object: the period, the sheets by name, the notes."""
    return orjson.dumps(
        {
            "report": report.name,
            "title": report.title,
            "from": report.start.isoformat(),
            "to": report.end.isoformat(),
            "sheets": {
                sheet.name: [_record(sheet.columns, row) for row in sheet.rows]
                for sheet in report.sheets
            },
            "notes": list(report.notes),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _record(columns: Sequence[Column], row: Sequence[Cell]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, cell in zip(columns, row, strict=True):
        found |= _exact(column, cell)
    return found


def _exact(column: Column, cell: Cell) -> dict[str, Any]:
    name = column.name
    if column.kind is Kind.UCR:
        credits = render_credits(cell) if isinstance(cell, int) else None
        return {f"{name}_ucr": cell, f"{name}_credits": credits}
    if column.kind is Kind.GPU_US:
        hours = cell / MICROSECONDS_PER_HOUR if isinstance(cell, int) else None
        text = None if hours is None else f"{hours:.4f}"
        return {f"{name}_microseconds": cell, f"{name}_hours": text}
    if isinstance(cell, datetime):
        return {name: cell.isoformat()}
    return {name: cell}
