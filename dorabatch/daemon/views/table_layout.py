"""Rows of texts as aligned columns: which columns there are, their order, the layout.

Lays out long lists in one pass, so that commands only print. Knows nothing of what the
rows are about and changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dorabatch.errors import UserError

Row = dict[str, Any]
Cell = Callable[[Row], str]


def render_table(
    rows: Iterable[Row],
    cells: dict[str, tuple[str, Cell]],
    columns: Sequence[str],
    *,
    has_header: bool = True,
) -> str:
    """Rows as aligned text; raises UserError for a column that does not exist."""
    check_columns(cells, columns)
    lines = [cells_of(row, cells, columns) for row in rows]
    heads = tuple(cells[name][0] for name in columns)
    return lay_out(lines, heads if has_header else None)


def check_columns(
    cells: dict[str, tuple[str, Cell]],
    columns: Sequence[str],
    *,
    option: str = "--format",
) -> None:
    """Raise UserError for a column that does not exist."""
    for name in columns:
        if name not in cells:
            known = ", ".join(cells)
            raise UserError(f"{option}: unknown column {name!r} (allowed: {known})")


def sort_rows(
    listed: list[Row],
    column: str,
    cells: dict[str, tuple[str, Cell]],
    *,
    field_of: Mapping[str, str],
    is_falling: bool = False,
) -> list[Row]:
    """Rows by one column, ties in their order; those without a value come last.

    `field_of` names a column's field where that has another name.
    """
    field, cell = field_of.get(column, column), cells[column][1]

    def value(row: Row) -> Any:
        found = row.get(field)
        return found if isinstance(found, int | float) else cell(row)

    has = [row for row in listed if row.get(field, "") is not None]
    lacks = [row for row in listed if row.get(field, "") is None]
    return [*sorted(has, key=value, reverse=is_falling), *lacks]


def cells_of(
    row: Row, cells: dict[str, tuple[str, Cell]], columns: Sequence[str]
) -> tuple[str, ...]:
    """The texts of a row's columns."""
    return tuple([cells[name][1](row) for name in columns])


def lay_out(
    lines: Sequence[tuple[str, ...]],
    heads: tuple[str, ...] | None,
    *,
    is_right: Sequence[bool] = (),
) -> str:
    """Texts as aligned columns, two blanks apart; `is_right` columns stand right."""
    every = lines if heads is None else [heads, *lines]
    if not every:
        return ""
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    rights = is_right or [False] * len(widths)
    forms = [
        f"%{width}s" if right else f"%-{width}s"
        for width, right in zip(widths, rights, strict=True)
    ]
    if not rights[-1]:
        forms[-1] = "%s"
    form = "  ".join(forms) + "\n"
    return "".join([form % line for line in every])
