"""Who serves a zone: each daemon that starts has an epoch of its own."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from dorabatch.daemon.schema import migrate
from dorabatch.db import open_engine, transaction
from dorabatch.errors import LeaseLost
from dorabatch.queue.daemons import refuse_when_overtaken, take_over
from tests.makers import START, ZONE

AT_ONCE = 4


def test_daemons_that_start_at_once_have_different_epochs(url: str) -> None:
    migrate(url)
    engine, together = open_engine(url), Barrier(AT_ONCE)
    first, cluster_id = take_over(engine, ZONE, START)

    def start(_number: int) -> tuple[int, str]:
        together.wait(10)
        return take_over(engine, ZONE, START)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(start, range(AT_ONCE)))
    assert {one for _, one in found} == {cluster_id}
    epochs = sorted(epoch for epoch, _ in found)
    assert epochs == list(range(first + 1, first + 1 + AT_ONCE))
    with transaction(engine) as tx:
        refuse_when_overtaken(tx, ZONE, epochs[-1])
        with pytest.raises(LeaseLost, match=f"epoch {epochs[-1]}"):
            refuse_when_overtaken(tx, ZONE, epochs[-2])
    engine.dispose()
