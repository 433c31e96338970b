"""The bench's random walk at a small size, and that it notices a broken law."""

import random

import pytest

from bench.ledger import BrokenLaw, Walk, walk


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_laws_hold_on_a_walk(seed: int) -> None:
    found = walk(4000, seed)
    assert found["posted_twice"] > 100


def test_a_lost_microcredit_is_noticed() -> None:
    made = Walk(rng=random.Random(1))
    for _ in range(2000):
        made.step()
    made.check()
    slot = next(slot for slot in made.book.balances if slot[0].startswith("avail:"))
    made.book.balances[slot] -= 1
    with pytest.raises(BrokenLaw, match="balances sum to -1"):
        made.check()
    made.book.balances["mint", ""] += 1
    with pytest.raises(BrokenLaw):
        made.check()
