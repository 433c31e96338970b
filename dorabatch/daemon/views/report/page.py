"""A report as one HTML page with its charts in it; nothing is loaded from elsewhere.

Whatever comes from users is escaped. Reads nothing but the report.
"""

from collections.abc import Iterable
from datetime import tzinfo
from html import escape

from dorabatch.daemon.views.report.text import (
    cell_text,
    is_number,
    number_text,
    period_text,
)
from dorabatch.fairshare.report.sheet import Chart, Column, Report, Sheet

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.period { color: #5b6b7b; margin: .2rem 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .3rem .7rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid #e3e8ee; }
th { color: #5b6b7b; font-weight: 600; border-bottom: 2px solid #c5cfda; }
td.long { white-space: normal; min-width: 20rem; overflow-wrap: anywhere; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.note { background: #f2f5f8; padding: .6rem .9rem; border-left: 3px solid #2a6f97;
  overflow-wrap: anywhere; }
svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #1c2733; }
"""
_LABEL_WIDTH, _BAR_WIDTH, _VALUE_WIDTH = 200, 440, 130
_ROW, _BAR = 24, 16
_LABEL_LETTERS_MAX = 28
_LINE_LETTERS_MAX = 40
"""A longer text is broken into lines; all else stays on one."""


def render_page(report: Report, zone: tzinfo) -> str:
    """The whole page."""
    parts = [
        *(_chart(chart) for chart in report.charts),
        *(_sheet(sheet, zone) for sheet in report.sheets),
        *(note_html(note) for note in report.notes),
    ]
    return page_html(report.title, period_text(report, zone), parts)


def page_html(title: str, below: str, parts: Iterable[str]) -> str:
    """A page of parts that are HTML already; title and the line below it are not."""
    lines = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="period">{escape(below)}</p>',
        *parts,
        "</body></html>\n",
    ]
    return "\n".join(lines)


def note_html(text: str) -> str:
    """A remark in a frame."""
    return f'<p class="note">{escape(text)}</p>'


def _sheet(sheet: Sheet, zone: tzinfo) -> str:
    if not sheet.rows:
        return f"<h2>{escape(sheet.title)}</h2><p>Nothing in this period.</p>"
    heads = "".join(
        f"<th{_mark(column)}>{escape(_heading(column.head))}</th>"
        for column in sheet.columns
    )
    lines = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_mark(column, text)}>{escape(text)}</td>"
            for column, text in zip(sheet.columns, texts, strict=True)
        )
        + "</tr>"
        for texts in _texts(sheet, zone)
    )
    return (
        f'<h2>{escape(sheet.title)}</h2><div class="wide"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{lines}\n</tbody></table></div>"
    )


def _texts(sheet: Sheet, zone: tzinfo) -> list[list[str]]:
    return [
        [
            cell_text(cell, column, zone)
            for cell, column in zip(row, sheet.columns, strict=True)
        ]
        for row in sheet.rows
    ]


def _mark(column: Column, text: str = "") -> str:
    """The class of a cell."""
    if is_number(column):
        return ' class="n"'
    return ' class="long"' if len(text) > _LINE_LETTERS_MAX else ""


def _heading(head: str) -> str:
    text = head.capitalize()
    return text.replace("Gpus", "GPUs").replace("Gpu ", "GPU ")


def _chart(chart: Chart) -> str:
    """Bars to the right of their labels, the value behind each."""
    height = _ROW * len(chart.values)
    longest = max(chart.values, default=0.0)
    bars = [
        _bar(place, label, value, value / longest if longest > 0 else 0.0, chart)
        for place, (label, value) in enumerate(
            zip(chart.labels, chart.values, strict=True)
        )
    ]
    width = _LABEL_WIDTH + _BAR_WIDTH + _VALUE_WIDTH
    return (
        f"<h2>{escape(chart.title)}</h2>"
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(chart.title)}">{"".join(bars)}</svg>'
    )


def _bar(place: int, label: str, value: float, part: float, chart: Chart) -> str:
    top, middle = place * _ROW, place * _ROW + _ROW // 2 + 4
    long = max(1.0, _BAR_WIDTH * max(0.0, part))
    short = label
    if len(label) > _LABEL_LETTERS_MAX:
        short = label[: _LABEL_LETTERS_MAX - 1] + "…"
    return (
        f'<text x="{_LABEL_WIDTH - 10}" y="{middle}" text-anchor="end">'
        f"{escape(short)}</text>"
        f'<rect x="{_LABEL_WIDTH}" y="{top + (_ROW - _BAR) // 2}" width="{long:.1f}" '
        f'height="{_BAR}" fill="#2a6f97"/>'
        f'<text x="{_LABEL_WIDTH + long + 8:.1f}" y="{middle}">'
        f"{escape(number_text(value, chart.kind))}</text>"
    )
