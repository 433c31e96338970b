"""Tables: columns as wide as their texts, numbers to the right where asked."""

import pytest

from dorabatch.daemon.views.table_layout import lay_out, render_table, sort_rows
from dorabatch.errors import UserError

CELLS = {
    "name": ("NAME", lambda row: row["name"]),
    "time": ("TIME", lambda row: str(row["seconds"])),
}
ROWS = [{"name": "b", "seconds": 9}, {"name": "long", "seconds": 10}]


def test_the_last_column_is_not_filled_up() -> None:
    assert lay_out([("a", "bb"), ("ccc", "d")], None) == "a    bb\nccc  d\n"
    assert lay_out([], None) == ""
    assert lay_out([], ("A", "B")) == "A  B\n"


def test_columns_may_stand_to_the_right() -> None:
    lines = [("a", "1", "x"), ("b", "10", "yy")]
    text = lay_out(lines, ("N", "COUNT", "R"), is_right=[False, True, True])
    assert text == "N  COUNT   R\na      1   x\nb     10  yy\n"


def test_rows_are_sorted_by_numbers_where_a_column_has_them() -> None:
    field_of = {"time": "seconds"}
    found = sort_rows(ROWS, "time", CELLS, field_of=field_of, is_falling=True)
    assert [row["name"] for row in found] == ["long", "b"]
    assert [row["name"] for row in sort_rows(ROWS, "name", CELLS, field_of={})] == [
        "b",
        "long",
    ]


def test_an_unknown_column_is_named() -> None:
    assert render_table(ROWS, CELLS, ("name",)) == "NAME\nb\nlong\n"
    with pytest.raises(UserError, match=r"'x' \(allowed: name, time\)"):
        render_table(ROWS, CELLS, ("x",))
