"""The kept order is the one that a sort of everything would make."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.counted_line import Line

MOVES = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.booleans(),
        st.integers(0, 2),
        st.sampled_from([0.0, 1.5]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(MOVES, st.integers(1, 5))
def test_who_joins_is_put_where_a_sort_puts_them(moves, every) -> None:
    line = Line(12)
    for number, (row, joins, behind, area) in enumerate(moves):
        if joins:
            line.behind[row], line.area[row] = behind, area
            line.join(row)
        else:
            line.is_open[row] = False
        if number % every == 0:
            rows = line.rows()
            by_keys = np.lexsort((rows, line.area[rows], line.behind[rows]))
            assert line.order().tolist() == rows[by_keys].tolist()
            assert line.newcomers().tolist() == []


def test_an_order_of_all_replaces_what_was() -> None:
    line = Line(3)
    for row in (0, 2):
        line.join(row)
    assert line.newcomers().tolist() == [0, 2]
    line.set_order(np.array([2, 0]))
    line.join(1)
    line.behind[:] = [5, 5, 4]
    assert line.order().tolist() == [2, 0, 1]
