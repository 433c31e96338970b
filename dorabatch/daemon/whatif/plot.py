"""The answer to a what-if as an HTML page with bars; nothing is loaded from elsewhere.

Draws what `compare` says and computes no figure itself.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from dorabatch.daemon.views.report.page import note_html, page_html

_CHARTS = {"wait_h": "Mean wait, hours", "slowdown": "Mean bounded slowdown"}
_SIDES = {"then": "#9aa7b4", "now": "#2a6f97"}
_LABEL_WIDTH, _BAR_WIDTH, _VALUE_WIDTH = 200, 440, 230
_ROW, _BAR = 44, 14


def plot_html(result: Mapping[str, Any]) -> str:
    """Each user's means, then and now, with the range of the shaken plays."""
    note = (
        f"Grey: then, blue: now; the thin line is the range of {result['shakes']} "
        "shaken plays. Where the ranges meet, a difference is inside the noise."
    )
    charts = [_chart(result, figure) for figure in _CHARTS]
    return page_html("What if", _changed_text(result), [*charts, note_html(note)])


def _chart(result: Mapping[str, Any], figure: str) -> str:
    rows = [result["over_all"], *result["users"]]
    ends = [row[figure][f"{side}_range"][1] for row in rows for side in _SIDES]
    scale = _BAR_WIDTH / max(0.001, *ends)
    width, height = _LABEL_WIDTH + _BAR_WIDTH + _VALUE_WIDTH, _ROW * len(rows)
    bars = "".join(
        _bars(str(row["user"]), row[figure], place * _ROW, scale)
        for place, row in enumerate(rows)
    )
    return (
        f"<h2>{_CHARTS[figure]}</h2>"
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{_CHARTS[figure]}">{bars}</svg>'
    )


def _bars(user: str, figure: Mapping[str, Any], top: int, scale: float) -> str:
    """One user's two bars, the values behind them, and the verdict."""
    parts = [_text(_LABEL_WIDTH - 10, top + _BAR + 8, user, anchor="end")]
    for side, (name, colour) in enumerate(_SIDES.items()):
        y = top + 4 + side * (_BAR + 2)
        low, high = (_LABEL_WIDTH + at * scale for at in figure[f"{name}_range"])
        said = f"{figure[name]:.2f}" + (f" ({figure['verdict']})" if side else "")
        parts += [
            f'<rect x="{_LABEL_WIDTH}" y="{y}" width="{figure[name] * scale:.1f}" '
            f'height="{_BAR}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {y + _BAR / 2}H{high:.1f}" stroke="#1c2733"/>',
            _text(high + 8, y + _BAR - 3, said),
        ]
    return "".join(parts)


def _text(x: float, y: float, said: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(said)}</text>'


def _changed_text(result: Mapping[str, Any]) -> str:
    pairs = result["changed"].items()
    return (
        ", ".join(f"{key}: {old} -> {new}" for key, (old, new) in pairs) or "no change"
    )
