"""Where ended containers ran is still shown, and nothing looks held by it."""

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from dorabatch.daemon.views.describe import describe_workload
from dorabatch.daemon.views.last_places import LastPlaces
from dorabatch.daemon.views.listing import parse_question
from dorabatch.queue import transitions as to
from dorabatch.queue.records import Container
from dorabatch.queue.states import AfterStop, Outcome
from tests.makers import V100, facts, hold, node_settings
from tests.unit.daemon.conftest import Parts, caller
from tests.unit.daemon.test_shares import end

WHERE = hold(node="n2", gpus=("GPU-2",), cores=(4, 5))


@pytest.fixture
def ended(parts: Parts) -> Container:
    """a.1 ran on n2 and has ended; a.2 waits."""
    for name in ("n1", "n2"):
        parts.books.fleet.put(node_settings(name))
        parts.books.fleet.seen(name, parts.clock.now(), facts(hostname=name))
    key = parts.submit("a", replicas=2).workload_id
    running = parts.run(parts.container(key), WHERE)
    parts.clock.advance(60)
    end(parts, running)
    return parts.container(key)


def listed(parts: Parts, **query: str) -> list[dict]:
    question = parse_question({**query, "render": "json"}, [], "alice")
    _, body = parts.views.listing.answer(question, caller())
    return orjson.loads(body)


def test_a_list_of_containers_has_the_last_place(
    parts: Parts, ended: Container
) -> None:
    assert ended.hold is None
    first, second = listed(parts, all="1", view="containers")
    assert (first["state"], first["node"]) == ("finished", "n2")
    assert (first["gpu_uuids"], first["gpu_models"]) == (["GPU-2"], [V100])
    assert (first["cores"], first["attempt"]) == ([4, 5], 1)
    assert (second["state"], second["node"]) == ("queued", None)


def test_nothing_looks_held_by_it(parts: Parts, ended: Container) -> None:
    listed(parts, all="1", view="containers")
    states = {row["state"] for row in parts.views.devices.gpus()}
    assert states == {"free"}
    assert parts.books.board.containers[ended.container_id].hold is None
    # The workload waits with its other container: it is nowhere now.
    (row,) = listed(parts)
    assert (row["state"], row["nodes"]) == ("queued", [])


def test_a_node_lists_what_ran_there_where_ended_ones_are_asked_for(
    parts: Parts, ended: Container
) -> None:
    assert listed(parts, node="n2") == []
    assert [row["name"] for row in listed(parts, node="n2", all="1")] == ["a"]
    assert listed(parts, node="n1", all="1") == []
    rest = parts.container(ended.workload_id, 2)
    parts.change(
        rest, lambda c: to.told_to_end(c, Outcome.CANCELLED, "", parts.clock.now())
    )
    (row,) = listed(parts, node="n2", all="1")
    assert (row["state"], row["nodes"]) == ("finished", ["n2"])


def test_a_record_says_where_each_container_was(parts: Parts, ended: Container) -> None:
    workload = parts.books.board.workloads[ended.workload_id]
    record = parts.views.records.record(workload)
    first, second = record["containers"]
    assert (first["node"], first["gpu_uuids"]) == ("n2", ["GPU-2"])
    assert (first["exit_code"], first["seconds"]) == (ended.exit_code, 60)
    assert second["node"] is None
    assert "a.1: finished on n2, attempt 1, 1:00, GPUs GPU-2" in describe_workload(
        record
    )


def test_the_place_is_that_of_the_last_attempt(parts: Parts, ended: Container) -> None:
    other = parts.container(ended.workload_id, 2)
    running = parts.run(other, WHERE)
    stopping = parts.change(
        running, lambda c: to.stopping(c, AfterStop.REQUEUE, None, "")
    )
    now = parts.clock.now()
    again = parts.change(stopping, lambda c: to.requeued(c, now))
    end(parts, parts.run(again, replace(WHERE, node="n1")))
    rows = listed(parts, all="1", view="containers")
    assert [(row["attempt"], row["node"]) for row in rows] == [(1, "n2"), (2, "n1")]


def test_each_is_read_once(parts: Parts, ended: Container) -> None:
    places = LastPlaces(parts.effects.engine)
    (first,) = places.shown([ended])
    (again,) = places.shown([ended])
    assert first is again and first.hold == WHERE
    later = replace(ended, ended_at=ended.ended_at + timedelta(seconds=1))
    (changed,) = places.shown([later])
    assert changed.ended_at == later.ended_at


def test_what_never_had_a_place_has_none(parts: Parts) -> None:
    key = parts.submit("b").workload_id
    now = parts.clock.now()
    parts.change(
        parts.container(key), lambda c: to.told_to_end(c, Outcome.CANCELLED, "", now)
    )
    (row,) = listed(parts, view="containers", all="1")
    assert (row["node"], row["gpu_uuids"], row["cores"]) == (None, [], [])
